"""What is asked of Lightning under its private names: where within an epoch training stands.

A checkpoint can be written only where a resumed run is the uninterrupted one. Lightning, resumed from a checkpoint that
was written after a batch, goes on with the next batch: a validation or an end of the epoch that was to come in between
would be left out. Such checkpoints have to wait for these.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import lightning
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor

from nequip_like.data.loader import ResumableLoader

_Kind = TypeVar("_Kind", bound=lightning.Callback)


def find_callback(trainer: lightning.Trainer, kind: type[_Kind]) -> _Kind | None:
    """The first callback of a kind that a trainer has; None if it has none."""
    callbacks: list[lightning.Callback] = trainer.callbacks  # type: ignore[attr-defined] # set by Lightning's connector
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)


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


def count_steps_of_epoch(trainer: lightning.Trainer, batches: float) -> int | None:
    """Optimizer steps of an epoch of so many batches; None if it has no end, or accumulates more and more of them."""
    callbacks: list[lightning.Callback] = trainer.callbacks  # type: ignore[attr-defined] # set by Lightning's connector
    varies = any(
        isinstance(callback, GradientAccumulationScheduler) and callback.going_to_accumulate_grad_batches()
        for callback in callbacks
    )
    countable = math.isfinite(batches) and not varies
    return math.ceil(batches / trainer.accumulate_grad_batches) if countable else None


def ends_within_epoch(trainer: lightning.Trainer) -> bool:
    """Whether training ends here although the epoch has more batches."""
    # should_stop alone is a wish, which Lightning passes over until min_epochs and min_steps are reached: whoever saves
    # because training ends would save after each batch until then.
    return trainer.should_stop and trainer.fit_loop._can_stop_early and not epoch_ends_next(trainer)


def training_ends_next(trainer: lightning.Trainer) -> bool:
    """Whether training ends after this epoch; asked at its end."""
    # Lightning's own question, fit_loop.done, says so on the console and counts the epoch each time.
    loop: Any = trainer.fit_loop
    limits = ((loop.epoch_progress.current.processed, loop.max_epochs), (trainer.global_step, loop.max_steps))
    reached = any(limit is not None and -1 < limit <= count for count, limit in limits)
    return reached or (trainer.should_stop and loop._can_stop_early)


def take_back_batch(trainer: lightning.Trainer) -> None:
    """Let the batch that failed come again in a run that goes on: Lightning counts it as not done, its loader does."""
    combined_loader = trainer.fit_loop._combined_loader
    for loader in [] if combined_loader is None else combined_loader.flattened:
        if isinstance(loader, ResumableLoader):
            loader.take_back(trainer.fit_loop.epoch_loop.batch_progress.state_dict()["current"]["processed"])


def copy_callback_metrics(trainer: lightning.Trainer) -> dict[str, Tensor]:
    """What a checkpoint is named after and judged by: all that was logged for callbacks, the epoch and the step.

    Lightning's ModelCheckpoint copies it by ``copy.deepcopy``, which takes longer than to copy the weights.
    """
    logged = {name: value.clone() for name, value in trainer.callback_metrics.items()}
    for name, count in (("epoch", trainer.current_epoch), ("step", trainer.global_step)):
        logged[name] = logged[name].int() if name in logged else torch.tensor(count)
    return logged
