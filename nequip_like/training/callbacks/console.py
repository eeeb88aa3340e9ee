"""What a run prints as it goes: one line or one table for each validation, and a line for each n-th step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import lightning
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.arguments import Count, checked
from nequip_like.metrics.terms import WEIGHTED_SUM
from nequip_like.training.baseline import compute_baselines, describe_shares, worse_than_baseline
from nequip_like.training.budget.durations import format_seconds
from nequip_like.training.callbacks.run_times import find_run_times
from nequip_like.training.callbacks.words import (
    SHOWN,
    after_step,
    collect_shares,
    collect_validation_values,
    compute_training_shares,
    compute_training_values,
    learning_rate,
    micro_step,
    say,
    update_step,
)
from nequip_like.training.loss_shares import JUDGED_EPOCH, describe_loss, describe_small_shares
from nequip_like.training.module import NequIPLightningModule

if TYPE_CHECKING:
    from rich.table import Table


_COLUMNS = ("per_atom_energy_rmse", "forces_rmse", "stress_rmse", WEIGHTED_SUM)
_WIDE = 200  # of a log file, whose lines need not fit a window

Style = Literal["line", "table", "none"]


class EpochPrinter(lightning.Callback):
    """Prints a line or a table for each validation, or each epoch without one; also where a progress bar does not work.

    The line: epoch, step, learning rate, loss, validation errors, time, and of a whole run frames per second since the
    line before and the time that is left at this speed. Where the forces are further from the labels
    than zero is, or from the fourth epoch on energies or stress from their mean, it ends with this.

    The table is in meV and Angstrom, with the share of each term in the loss below. Its row ``train`` is the mean over
    the epoch so far, with mean squared errors of the loss as their roots; ``val0, baseline`` has the errors of no
    forces, no stress and mean energies. A term that has less than 1 % of the loss in the third epoch is named once.

    Args:
        every_n: Print only every n-th validation (and the first).
        every_n_steps: Print a line after each n-th optimizer step as well, with the loss of its batch; None: no such
            lines.
        style: ``line`` or ``table`` for a validation; ``none`` prints nothing at all.
    """

    @checked
    def __init__(self, every_n: Count = 1, every_n_steps: Count | None = None, style: Style = "line") -> None:
        self.every_n = every_n
        self.every_n_steps = every_n_steps
        self.style = style
        self._count = 0
        self._start = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        """Print the line of a step."""
        if self.style != "none" and after_step(trainer, self.every_n_steps):
            say(self._join_with_time(self._describe_step(trainer)))

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the line or the table of a validation."""
        if not trainer.sanity_checking and trainer.state.fn == TrainerFn.FITTING:
            self._print_errors(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the line or the table of an epoch, if no validation ever does, and name terms with none of the loss."""
        if not any(trainer.num_val_batches):
            self._print_errors(trainer, pl_module)
        loss = pl_module.loss if isinstance(pl_module, NequIPLightningModule) else None
        if loss is not None and self.style != "none" and trainer.current_epoch == JUDGED_EPOCH:
            for sentence in describe_small_shares(loss, collect_shares(trainer)):
                say(sentence)

    def _print_errors(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.style == "none":
            return
        self._count += 1
        if (self._count - 1) % self.every_n:
            return
        if self.style == "line":
            say(self.line(trainer))
            return
        # All processes: sums are shared.
        baselines = {f"{name}, baseline": errors for name, errors in compute_baselines(pl_module).items()}
        shares = compute_training_shares(pl_module)
        rows = {**compute_training_values(pl_module), **collect_validation_values(trainer), **baselines}
        if trainer.is_global_zero:
            _print(build_table(trainer, rows, describe_loss(shares) if shares else None))

    def line(self, trainer: lightning.Trainer) -> str:
        """The line for the trainer's present state, after a validation."""
        metrics = trainer.callback_metrics
        parts = [*self._describe_step(trainer), *describe_validation(trainer.lightning_module, metrics)]
        return " | ".join(
            [self._join_with_time(parts), *_describe_speed(trainer), *describe_worse_than_baseline(trainer, metrics)]
        )

    def _describe_step(self, trainer: lightning.Trainer) -> list[str]:
        """Epoch, steps, learning rate and the loss of the last batch."""
        updates, batches = update_step(trainer), micro_step(trainer)
        step = f"step {updates:6d}" + (f" of {batches} batches" if batches != updates else "")
        parts = [f"epoch {trainer.current_epoch:4d}", step, f"lr {learning_rate(trainer):.2e}"]
        if (loss := trainer.callback_metrics.get(f"train_loss_step/{WEIGHTED_SUM}")) is not None:
            parts.append(f"loss {float(loss):.3e}")
        return parts

    def _join_with_time(self, parts: list[str]) -> str:
        return " | ".join([*parts, f"{time.monotonic() - self._start:.0f} s"])


def _describe_speed(trainer: lightning.Trainer) -> list[str]:
    """Frames per second of training since this was asked before, and the time that is left."""
    times = find_run_times(trainer)
    if times is None or (rate := times.measure_rate()) is None:
        return []
    left = times.estimate_left(trainer)
    return [f"{rate:.3g} frames/s", *([] if left is None else [f"{format_seconds(round(left))} left"])]


def before_line(trainer: lightning.Trainer, metrics: Mapping[str, Any]) -> str:
    """The line above those of the epochs: the errors of a model before its first step.

    Args:
        trainer: The trainer.
        metrics: Values of a validation by logged name.
    """
    parts = describe_validation(trainer.lightning_module, metrics)
    return " | ".join(["before    ", f"step {0:6d}", *parts, *describe_worse_than_baseline(trainer, metrics)])


def describe_validation(module: lightning.LightningModule, metrics: Mapping[str, Any]) -> list[str]:
    """The errors on each validation set, as a line shows them."""
    parts = []
    for prefix in _list_validation_prefixes(module):
        errors = [
            f"{SHOWN[name].label} {float(metrics[key]) * SHOWN[name].factor:.4g} {SHOWN[name].unit}".rstrip()
            for name in _COLUMNS
            if (key := f"{prefix}_epoch/{name}") in metrics
        ]
        if errors:  # none without a validation set
            parts.append(f"{prefix}: " + ", ".join(errors))
    return parts


def describe_worse_than_baseline(trainer: lightning.Trainer, metrics: Mapping[str, Any]) -> list[str]:
    """A remark on what is worse than the baseline; an empty list if nothing is."""
    worse = worse_than_baseline(trainer, metrics)
    return [describe_shares(worse)] if worse else []


def _list_validation_prefixes(module: lightning.LightningModule) -> list[str]:
    """``val0``, ``val1``: one for each set and each kind of weights."""
    names = module.validation_names() if isinstance(module, NequIPLightningModule) else []
    return list(dict.fromkeys(name.partition("_epoch/")[0] for name in names))


class MetricsTable(EpochPrinter):
    """The table of an :class:`EpochPrinter`, for configs that name it as a callback of its own.

    Args:
        every_n: Only after every n-th validation (and the first).
    """

    @checked
    def __init__(self, every_n: Count = 1) -> None:
        super().__init__(every_n, style="table")


def build_table(
    trainer: lightning.Trainer, rows: Mapping[str, Mapping[str, float]], caption: str | None = None
) -> Table:
    """The table of some rows.

    Args:
        trainer: Tells epoch, steps and learning rate.
        rows: Values by set and by name of the metric, in eV and Angstrom.
        caption: What stands below.
    """
    from rich.markup import escape
    from rich.table import Table

    names = [name for name in SHOWN if any(name in values for values in rows.values())]
    steps = f"step {update_step(trainer)} ({micro_step(trainer)} batches)"
    title = f"epoch {trainer.current_epoch}, {steps}, lr {learning_rate(trainer):.2e}"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("set", no_wrap=True)
    for name in names:
        unit = SHOWN[name].unit
        table.add_column(f"{SHOWN[name].label}\n{unit}", justify="right", no_wrap=True)
    for row, values in rows.items():
        cells = [f"{values[name] * SHOWN[name].factor:.4g}" if name in values else "" for name in names]
        table.add_row(escape(row), *cells)
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)
