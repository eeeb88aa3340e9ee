"""How long a training takes: its steps and validations, frames per second, and what is left."""

from __future__ import annotations

import time
from typing import Any

import lightning
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.training.lightning_internals import find_callback


class RunTimes(lightning.Callback):
    """Measures a training; each run has one. It reads clocks, and never waits for the device.

    Times are of this process from here on, also where a run goes on from a checkpoint.

    Attributes:
        steps: Optimizer steps.
        frames: Frames of all processes.
        epochs: Epochs, with the part of one that is not whole.
        training_seconds: Seconds without validations.
        validation_seconds: Seconds of validations.
    """

    def __init__(self) -> None:
        self.steps = self.frames = 0
        self.epochs = 0.0
        self.training_seconds = self.validation_seconds = 0.0
        self._mark = self._first_step = 0.0
        self._processes = 1
        self._recent: tuple[float, int] = (0.0, 0)  # training seconds and frames when the rate was asked for

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self.__init__()  # type: ignore[misc] # a second fit with the same trainer is another training
        self._mark, self._first_step = time.perf_counter(), trainer.global_step
        self._processes = trainer.world_size

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Graph, *_: Any
    ) -> None:
        """Count a batch. Its size is known without waiting for the device."""
        self._add_training()
        self.frames += len(batch[fields.NUM_ATOMS]) * self._processes
        self.steps = trainer.global_step - int(self._first_step)
        self.epochs += 1 / max(float(trainer.num_training_batches), 1.0)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """What comes next is validation."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._add_training()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """What comes next is training."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            moment = time.perf_counter()
            self.validation_seconds += moment - self._mark
            self._mark = moment

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop the clock."""
        self._add_training()

    def measure_rate(self) -> float | None:
        """Frames per second of training since this was asked before; None if nothing was trained on."""
        seconds, frames = self.training_seconds - self._recent[0], self.frames - self._recent[1]
        self._recent = (self.training_seconds, self.frames)
        return frames / seconds if seconds > 0 and frames else None

    def estimate_left(self, trainer: lightning.Trainer) -> float | None:
        """Seconds to the last epoch or step, at the speed so far, with validations; None without a limit or a step.

        Args:
            trainer: The trainer.
        """
        if not self.steps:
            return None
        shares = []
        if (trainer.max_epochs or -1) > 0:
            batches = max(float(trainer.num_training_batches), 1.0)
            current: Any = trainer.fit_loop.epoch_loop.batch_progress.current
            of_epoch = current.processed / batches
            shares.append(((trainer.max_epochs or 0) - trainer.current_epoch - min(of_epoch, 1.0)) / self.epochs)
        if trainer.max_steps > 0:
            shares.append((trainer.max_steps - trainer.global_step) / self.steps)
        spent = self.training_seconds + self.validation_seconds
        return max(min(shares), 0.0) * spent if shares else None

    def _add_training(self) -> None:
        moment = time.perf_counter()
        self.training_seconds += moment - self._mark
        self._mark = moment


def find_run_times(trainer: lightning.Trainer) -> RunTimes | None:
    """The measurement of a trainer's run, if it has one.

    Args:
        trainer: The trainer.
    """
    return find_callback(trainer, RunTimes)
