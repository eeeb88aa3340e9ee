"""What is asked of Lightning under its private names: where within an epoch training stands, and steps at less cost.

A checkpoint can be written only where a resumed run is the uninterrupted one. Lightning, resumed from a checkpoint that
was written after a batch, goes on with the next batch: a validation or an end of the epoch that was to come in between
would be left out. Such checkpoints have to wait for these.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning
from lightning.pytorch.profilers import PassThroughProfiler
from torch import Tensor

from nequip_like.data.loader import ResumableLoader


def epoch_ends_next(trainer: lightning.Trainer) -> bool:
    """Whether this was the last batch of the epoch."""
    # The question by which Lightning itself leaves an epoch, with its limits of batches. One of our own might differ
    # from it, and a checkpoint would stand on the wrong side of the end.
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def validation_comes_next(trainer: lightning.Trainer) -> bool:
    """Whether a validation follows this batch by schedule."""
    if trainer.val_check_batch is None:
        return True  # validation by the clock: nobody knows
    stops, trainer.should_stop = trainer.should_stop, False  # a stop is followed by a validation, too
    try:
        # Outside of training there is no fetcher, and Lightning's question cannot be asked without one.
        fetcher = trainer.fit_loop._data_fetcher
        return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)
    finally:
        trainer.should_stop = stops


def accumulating(trainer: lightning.Trainer) -> bool:
    """Whether gradients of earlier batches wait for more batches before the next optimizer step."""
    return trainer.accumulate_grad_batches > 1 and trainer.fit_loop._should_accumulate()


def ends_within_epoch(trainer: lightning.Trainer) -> bool:
    """Whether training ends here although the epoch has more batches."""
    # should_stop alone is a wish, which Lightning passes over until min_epochs and min_steps are reached: whoever saves
    # because training ends would save after each batch until then.
    return trainer.should_stop and trainer.fit_loop._can_stop_early and not epoch_ends_next(trainer)


def take_back_batch(trainer: lightning.Trainer) -> None:
    """Let the batch that failed come again in a run that goes on: Lightning counts it as not done, its loader does."""
    combined_loader = trainer.fit_loop._combined_loader
    for loader in [] if combined_loader is None else combined_loader.flattened:
        if isinstance(loader, ResumableLoader):
            loader.take_back(trainer.fit_loop.epoch_loop.batch_progress.state_dict()["current"]["processed"])


def log_again(trainer: lightning.Trainer, values: Mapping[str, Tensor]) -> bool:
    """Log values of a training step that an earlier step of this epoch has logged, where those stand.

    ``LightningModule.log`` looks through all attributes of each logged value for tensors to move to its device, at each
    step: a tenth of a step of a small model, for values that are there already.

    Args:
        trainer: The trainer, in its ``training_step``.
        values: The values of this step by name, without a graph.

    Returns:
        Whether it is done. If not, ``log`` has to do it: at the first batch of an epoch, where it clears what was
        logged before; if a value has come to another device; if it counts for the epoch, too.
    """
    results, connector = trainer._results, trainer._logger_connector
    if results is None or connector.should_reset_tensors("training_step"):
        return False
    pairs = [(results.get(f"training_step.{name}"), value) for name, value in values.items()]
    entries = [
        (entry, value)
        for entry, value in pairs
        if entry is not None and not entry.meta.on_epoch and entry.value.device == value.device
    ]
    if len(entries) < len(pairs):
        return False
    connector._current_fx = "training_step"
    for entry, value in entries:
        entry.forward(value, 1)  # the number of frames is for means over an epoch, which a step has none of
        entry.has_reset = False
    return True


class IdleProfiler(PassThroughProfiler):
    """Lightning's profiler that measures nothing, without a new context manager for each of a step's many calls."""

    _CONTEXT = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        """A context in which nothing is measured."""
        return self._CONTEXT


class LeanModule(lightning.LightningModule):
    """A Lightning module that spends less on what Lightning does around the hooks of each step.

    Of a step of a small molecule this is some three per cent.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the name of each hook, some forty times a step; torch would look whether it is a parameter.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        """Put a profiler that does nothing in the place of Lightning's that does nothing."""
        trainer: Any = self.trainer
        if type(trainer.profiler) is PassThroughProfiler:
            trainer.profiler = IdleProfiler()
