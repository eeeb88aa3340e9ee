"""A table for each validation: rows are the training set and the validation sets, columns the errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import lightning
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.arguments import Count, checked
from nequip_like.train.callbacks.counters import micro_step, update_step
from nequip_like.train.callbacks.words import SHOWN, learning_rate, numbers, with_roots
from nequip_like.train.module import NequIPLightningModule

if TYPE_CHECKING:
    from rich.table import Table

_WIDE = 200  # of a log file, whose lines need not fit a window


class MetricsTable(lightning.Callback):
    """Prints a table after each validation, in meV and Angstrom.

    The row ``train`` is the mean over the epoch so far; mean squared errors of the loss are shown as their roots.
    It may stand beside ``EpochPrinter`` or in its place.

    Args:
        every_n: Only after every n-th validation (and the first).
    """

    @checked
    def __init__(self, every_n: Count = 1) -> None:
        self.every_n = every_n
        self._count = 0

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the table."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        self._count += 1
        if (self._count - 1) % self.every_n:
            return
        rows = {**training_values(pl_module), **validation_values(trainer)}  # all processes: sums are shared
        if trainer.is_global_zero:
            _print(self.table(trainer, rows))

    def table(self, trainer: lightning.Trainer, rows: Mapping[str, Mapping[str, float]]) -> Table:
        """The table of some rows.

        Args:
            trainer: Tells epoch, steps and learning rate.
            rows: Values by set and by name of the metric, in eV and Angstrom.
        """
        from rich.markup import escape
        from rich.table import Table

        names = [name for name in SHOWN if any(name in values for values in rows.values())]
        steps = f"step {update_step(trainer)} ({micro_step(trainer)} batches)"
        title = f"epoch {trainer.current_epoch}, {steps}, lr {learning_rate(trainer):.2e}"
        table = Table(title=title, title_justify="left")
        table.add_column("set", no_wrap=True)
        for name in names:
            unit = SHOWN[name].unit
            table.add_column(f"{SHOWN[name].label}\n{unit}", justify="right", no_wrap=True)
        for row, values in rows.items():
            cells = [f"{values[name] * SHOWN[name].factor:.4g}" if name in values else "" for name in names]
            table.add_row(escape(row), *cells)
        return table


def training_values(module: lightning.LightningModule) -> dict[str, dict[str, float]]:
    """``{"train": {name: value}}``: means over the epoch so far, roots taken last; in a run all processes must call it.

    Empty if the module has no loss.
    """
    if not isinstance(module, NequIPLightningModule) or module.loss is None:
        return {}
    values = numbers(module.loss.compute())
    if module.train_metrics is not None:
        # The sum of the metrics is not the loss, which is what training is about.
        values = {**numbers(module.train_metrics.compute()), **values}
    return {"train": with_roots(values)}


def validation_values(trainer: lightning.Trainer) -> dict[str, dict[str, float]]:
    """``{"val0": {name: value}}`` of the last validation, roots taken last."""
    rows: dict[str, dict[str, float]] = {}
    for key, value in trainer.callback_metrics.items():
        prefix, _, name = key.partition("_epoch/")
        if name and re.match(r"val\d", prefix):
            rows.setdefault(prefix, {})[name] = float(value)
    return {prefix: with_roots(values) for prefix, values in sorted(rows.items())}


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)
