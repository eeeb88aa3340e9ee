"""The curve of the learning rate in loggers."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import LearningRateMonitor
from torch.optim import Optimizer

from nequip_like.optim.lowered_rate import lowered_rate
from nequip_like.training.recovery.recovering_module import find_rate_factor

NAME = "learning_rate"


class LearningRateLog(LearningRateMonitor):
    """Lightning's LearningRateMonitor, whose curve has the same name whatever the optimizer.

    The name is ``learning_rate``; with several groups of parameters ``learning_rate/GROUP``, such as
    ``learning_rate/readout``. A ``name`` of the schedule's entry (``lr_scheduler: {scheduler: ..., name: ...}``) takes
    its place. What is logged is the rate that steps are taken with: a part of the schedule's in a run that went back to
    earlier weights.
    """

    def on_train_epoch_start(self, trainer: lightning.Trainer, *arguments: Any, **named: Any) -> None:
        """Log the rate that the epoch begins with."""
        with lowered_rate(trainer.optimizers[0], find_rate_factor(trainer.lightning_module)):
            super().on_train_epoch_start(trainer, *arguments, **named)

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        """Log nothing yet: a schedule that follows a metric may act at the start of the batch, after this."""

    def on_before_optimizer_step(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        """Log the rate that the step is taken with, once for all batches that accumulate."""
        if self.logging_interval != "epoch":
            super().on_train_batch_start(trainer)

    def _check_duplicates_and_update_name(
        self, optimizer: Optimizer, name: str, *counters_and_schedule: Any
    ) -> list[str]:
        schedule = counters_and_schedule[-1]
        has_name = schedule is not None and schedule.name is not None
        names: list[str] = super()._check_duplicates_and_update_name(
            optimizer, name if has_name else NAME, *counters_and_schedule
        )
        return names

    def _add_suffix(
        self, name: str, param_groups: list[dict[str, Any]], param_group_index: int, use_names: bool = True
    ) -> str:
        if len(param_groups) == 1:
            return name
        name_with_suffix: str = super()._add_suffix(name, param_groups, param_group_index, use_names)
        return name_with_suffix
