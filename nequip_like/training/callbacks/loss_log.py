"""loss.log: a plain table of training and validation errors, for people and for scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.arguments import Count, checked
from nequip_like.errors import ConfigError
from nequip_like.training.callbacks.early_stopping import stop_reasons
from nequip_like.training.callbacks.words import (
    collect_validation_values,
    compute_training_values,
    describe_best,
    learning_rate,
    micro_step,
    root_name,
    steps_in_epoch,
    update_step,
)
from nequip_like.training.lightning_internals import accumulating, epoch_ends_next
from nequip_like.training.module import NequIPLightningModule
from nequip_like.whole_files import output_errors, path_of, put_aside, written_whole

_FIRST = ("set", "epoch", "update_step", "micro_step", "lr")
_WIDTHS = (6, 7, 13, 13, 12)
_COMMENT = "#"


class LossLog(lightning.Callback):
    """Writes a text file with one row for every few optimizer steps, and for each validation set.

    A row of training (``train``) holds the means over the epoch so far; mean squared errors are written as their roots,
    taken of that mean. The last row of an epoch is thus the value of the whole epoch. Rows of validation (``val0``,
    ``val1``) hold the metrics of the set. Columns have a fixed width; ``-`` is no value. Units are eV and Angstrom.
    At the end come lines that begin with ``#``: the best epoch, and why training ended early.

    A resumed run goes on in its file: rows after the checkpoint are taken out, for their steps are done again. The
    file of another run is put aside: with the rest of that run, or, outside of the output folder, as ``loss.1.log``.

    Args:
        path: The file.
        log_steps: A row after each n-th optimizer step of an epoch, and after its last one.
        log_epochs: Only in each n-th epoch; validations outside of it have no rows either.
    """

    @checked
    def __init__(self, path: str | Path, log_steps: Count = 50, log_epochs: Count = 1) -> None:
        self.path = path_of(path)
        self.log_steps = log_steps
        self.log_epochs = log_epochs
        self._columns: list[str] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin the file, or go on in it.

        Raises:
            ConfigError: If the module is none of ours.
            OutputError: If it cannot be written.
        """
        if not isinstance(pl_module, NequIPLightningModule):
            raise ConfigError(f"LossLog cannot write of a {type(pl_module).__name__}", "take it out of callbacks")
        self._columns = _list_columns(pl_module)
        if trainer.is_global_zero:
            batches = micro_step(trainer)
            rows = _read_rows_before(self._find_earlier_file(trainer), batches) if batches else []
            if not batches:
                with output_errors(self.path):
                    put_aside(self.path)
            header = self._format_header()
            if header not in rows or header != [line for line in rows if line.split()[0] == "set"][-1]:
                rows.append(header)
            with written_whole(self.path) as partial:
                partial.write_text("".join(rows), encoding="utf-8")

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        """Write the row of a step, if it is time."""
        if accumulating(trainer) or not self._is_epoch(trainer):
            return
        if steps_in_epoch(trainer) % self.log_steps == 0 or epoch_ends_next(trainer):
            self._write(trainer, compute_training_values(pl_module))

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the rows of a validation."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and self._is_epoch(trainer):
            self._write(trainer, collect_validation_values(trainer))

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write which epoch was the best, and why training ended early."""
        if trainer.is_global_zero:
            lines = (describe_best(trainer), *stop_reasons(trainer), getattr(pl_module, "over", None))
            self._append([f"{_COMMENT} {line}\n" for line in lines if line is not None])

    def _is_epoch(self, trainer: lightning.Trainer) -> bool:
        return (trainer.current_epoch + 1) % self.log_epochs == 0

    def _find_earlier_file(self, trainer: lightning.Trainer) -> Path:
        """The file to go on with: that beside the checkpoints of the run that is resumed, or this one."""
        if trainer.ckpt_path is not None:
            resumed_file = Path(trainer.ckpt_path).absolute().parent.parent / self.path.name
            if resumed_file.is_file():
                return resumed_file
        return self.path

    def _format_header(self) -> str:
        return self._format_line([*_FIRST, *self._columns])

    def _format_line(self, cells: Sequence[str]) -> str:
        widths = [*_WIDTHS, *(max(14, len(name) + 2) for name in self._columns)]
        return "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) + "\n"

    def _write(self, trainer: lightning.Trainer, rows: Mapping[str, Mapping[str, float]]) -> None:
        if not trainer.is_global_zero:
            return
        counts = (trainer.current_epoch, update_step(trainer), micro_step(trainer))
        counters = [*map(str, counts), f"{learning_rate(trainer):.4e}"]
        cells = [[_format_number(values.get(name, math.nan)) for name in self._columns] for values in rows.values()]
        self._append([self._format_line([row, *counters, *errors]) for row, errors in zip(rows, cells, strict=True)])

    def _append(self, lines: list[str]) -> None:
        with output_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.writelines(lines)


def _format_number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.5e}"


def _list_columns(module: NequIPLightningModule) -> list[str]:
    """Names of all values of training and validation, with roots in place of squares."""
    training = [manager for manager in (module.loss, module.train_metrics) if manager is not None]
    names = [name for manager in training for name in manager.log_names]
    names += [name.partition("/")[2] for name in module.validation_names()]
    return list(dict.fromkeys(map(root_name, names)))


def _read_rows_before(path: Path, batches: int) -> list[str]:
    """Headers and rows of a file up to a number of batches; a last line that was cut off is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        cells = line.split()
        if not line.endswith("\n") or len(cells) < len(_FIRST):
            continue
        if cells[0] == "set" or (cells[3].isdigit() and int(cells[3]) <= batches):
            rows.append(line)
    return rows
