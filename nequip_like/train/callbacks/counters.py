"""Batches and optimizer updates, counted apart."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.train.guarded import GuardedModule
from nequip_like.train.resume_points import accumulating, ends_within_epoch


def micro_step(trainer: lightning.Trainer) -> int:
    """Number of batches that were trained on, of all runs that go on from one another."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined] # of a base class


def update_step(trainer: lightning.Trainer) -> int:
    """Number of updates of the weights: Lightning's ``global_step`` without the steps that were left out."""
    module = trainer.lightning_module
    left_out = module.guard.skipped_steps if isinstance(module, GuardedModule) else 0
    return trainer.global_step - left_out


def steps_in_epoch(trainer: lightning.Trainer) -> int:
    """Number of optimizer steps of the present epoch, with that of the present batch."""
    return math.ceil(trainer.fit_loop.epoch_loop.batch_progress.current.ready / trainer.accumulate_grad_batches)


def after_step(trainer: lightning.Trainer, every_n: int | None) -> bool:
    """Whether the present batch ended an optimizer step, and one of each n-th."""
    return every_n is not None and not accumulating(trainer) and trainer.global_step % every_n == 0


class StepCounters(lightning.Callback):
    """Logs ``micro_step`` and ``update_step`` beside whatever else is logged; each run has one.

    ``micro_step`` counts batches, ``update_step`` updates of the weights. They differ with
    ``trainer.accumulate_grad_batches``, and after steps that were left out because something was not finite.
    """

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        """Log with the values of a step, when these are written."""
        if trainer.loggers and not accumulating(trainer) and trainer._logger_connector.should_update_logs:
            self._log(trainer, pl_module, of_epoch=False)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log with the values of a validation."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._log(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log with the values of an epoch; a part of one, at which training stops, has none."""
        if not ends_within_epoch(trainer):
            self._log(trainer, pl_module)

    def _log(self, trainer: lightning.Trainer, module: lightning.LightningModule, of_epoch: bool = True) -> None:
        counts = {"micro_step": micro_step(trainer), "update_step": update_step(trainer)}
        # Lightning takes no whole numbers, and single precision ends at 16 million.
        exact = {name: torch.tensor(float(count), dtype=torch.float64) for name, count in counts.items()}
        module.log_dict(exact, batch_size=1, sync_dist=of_epoch)  # the same on all: Lightning wants to be told
