"""Ends training before its last epoch, at a batch from which it can go on: signals, limits, the learning rate."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from types import FrameType
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_info

from nequip_like.optim.schedules.learning_rate import LearningRate
from nequip_like.training.budget.durations import read_duration
from nequip_like.training.lightning_internals import epoch_ends_next, find_callback, validation_comes_next

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class GracefulStop(lightning.Callback):
    """Ends training after the present batch when a signal arrives, time is up, or enough steps are done.

    Also when a schedule that follows a metric by steps is over; one that goes by epochs ends it at the epoch's end.

    Training then ends as usual; :class:`ResumableCheckpoint
    <nequip_like.training.checkpointing.callback.ResumableCheckpoint>` writes the last checkpoint at this batch.
    Lightning's own limits count an epoch that they cut short as a whole one, and its time limit counts the time before
    a resume.

    A second signal of the same kind ends the process at once.

    Args:
        max_time: Largest time of this run, ``DD:HH:MM:SS``, a mapping (``hours: 2``) or a timedelta; None for no limit.
        max_steps: Largest number of optimizer steps, of all runs together; -1 for no limit.

    Attributes:
        signal: The signal that ended training, whichever process of the run received it; None if none did.
        reached: The limit that ended it, ``max_time`` or ``max_steps``; None if none did.

    Raises:
        ConfigError: If a limit cannot be understood.
    """

    def __init__(self, max_time: str | Mapping[str, int] | timedelta | None = None, max_steps: int = -1) -> None:
        self.seconds = None if max_time is None else read_duration(max_time).total_seconds()
        self.max_steps = max_steps
        self.signal: signal.Signals | None = None
        self._received: int | None = None  # by this process; of several, not all may get it, or not at once
        self.reached: str | None = None
        self._began = time.monotonic()
        self._handlers: dict[signal.Signals, Any] = {}
        self._limit_val_batches: int | float | None = None

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Start the clock."""
        if stage == "fit":
            self._began = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Listen to signals, in the place of Lightning's handlers; do not begin if there are no steps left."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._receive_signal) for number in SIGNALS}
        if self._has_reached_max_steps(trainer) or _is_learning_over(trainer):
            self.reached = "max_steps" if self._has_reached_max_steps(trainer) else None
            self._stop(trainer)

    def _receive_signal(self, number: int, frame: FrameType | None) -> None:
        again = self._received == number
        self._received, self.signal = number, signal.Signals(number)
        if again:
            self._stop_listening()
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(number)
        rank_zero_info(f"{self.signal.name}: training ends after this batch")

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any, **kwargs: Any) -> None:
        """End training here if it is time."""
        out_of_time = self.seconds is not None and time.monotonic() - self._began >= self.seconds
        must_stop = out_of_time or self.signal is not None or _is_learning_over(trainer)
        if trainer.world_size > 1:
            must_stop = self._agree(trainer, must_stop)
        if must_stop or self._has_reached_max_steps(trainer):
            self.reached = self._limit(trainer)
            self._stop(trainer)

    def _agree(self, trainer: lightning.Trainer, must_stop: bool) -> bool:
        """Stop all processes if one must, for the same reason: a signal, or the end of time, may not reach all at once.

        Else one would go on to the tasks after the training, and wait there for those that have ended.
        """
        reason = int(must_stop) if self.signal is None else int(self.signal)  # no signal of ours has the number 1
        vote = torch.tensor(reason, device=trainer.strategy.root_device)
        reason = int(trainer.strategy.reduce(vote, reduce_op="max"))
        if reason > 1:
            self.signal = signal.Signals(reason)
        return reason > 0

    def _limit(self, trainer: lightning.Trainer) -> str | None:
        """The limit that ends training now, and would not end here anyway.

        Where several processes have a limit of time, it is the clock of any of them.
        """
        last_epoch = trainer.max_epochs is not None and -1 < trainer.max_epochs <= trainer.current_epoch + 1
        at_its_end = last_epoch and epoch_ends_next(trainer)
        if self.signal is not None or at_its_end or _is_learning_over(trainer):
            return None
        return "max_steps" if self._has_reached_max_steps(trainer) else "max_time"

    def _has_reached_max_steps(self, trainer: lightning.Trainer) -> bool:
        return -1 < self.max_steps <= trainer.global_step

    def _stop(self, trainer: lightning.Trainer) -> None:
        trainer.fit_loop.min_epochs = 0
        if not validation_comes_next(trainer):
            # Lightning would validate now, outside of the schedule: an epoch more than in an uninterrupted run.
            self._limit_val_batches, trainer.limit_val_batches = trainer.limit_val_batches, 0
        trainer.should_stop = True

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave everything as it was; of several processes, agree for the last time on the signal that ended them."""
        listened = bool(self._handlers)
        self._leave(trainer)
        if trainer.world_size > 1:
            self._agree(trainer, False)
            if listened and self.signal is not None and self._received is None:
                signal.signal(self.signal, signal.SIG_IGN)  # it may still be on its way to this process

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Leave everything as it was."""
        self._leave(trainer)

    def _leave(self, trainer: lightning.Trainer) -> None:
        self._stop_listening()
        if self._limit_val_batches is not None:
            trainer.limit_val_batches, self._limit_val_batches = self._limit_val_batches, None

    def _stop_listening(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def find_signal(trainer: lightning.Trainer) -> signal.Signals | None:
    """Find the signal that ended training, if one did; of all processes it is the same."""
    stop = find_callback(trainer, GracefulStop)
    return None if stop is None else stop.signal


def _is_learning_over(trainer: lightning.Trainer) -> bool:
    """Whether a schedule has come below the smallest learning rate."""
    schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
    return any(isinstance(schedule, LearningRate) and schedule.over is not None for schedule in schedules)
