"""What is asked of Lightning under its private names: where within an epoch training stands, and steps at less cost.

A checkpoint can be written only where a resumed run is the uninterrupted one. Lightning, resumed from a checkpoint that
was written after a batch, goes on with the next batch: a validation or an end of the epoch that was to come in between
would be left out. Such checkpoints have to wait for these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import lightning
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.profilers import PassThroughProfiler
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


def take_back_batch(trainer: lightning.Trainer) -> None:
    """Let the batch that failed come again in a run that goes on: Lightning counts it as not done, its loader does."""
    combined_loader = trainer.fit_loop._combined_loader
    for loader in [] if combined_loader is None else combined_loader.flattened:
        if isinstance(loader, ResumableLoader):
            loader.take_back(trainer.fit_loop.epoch_loop.batch_progress.state_dict()["current"]["processed"])


def log_again(trainer: lightning.Trainer, values: Mapping[str, Tensor]) -> bool:
    """Log values that this hook has logged before under the same names, where those stand.

    ``LightningModule.log`` looks through all attributes of each logged value for tensors to move to its device: a tenth
    of a step of a small model for the values of a step, and as much as its validation for those of a validation.

    Args:
        trainer: The trainer, in a hook of its module or of a callback.
        values: The values by name, without a graph: of a step within an epoch, and of the epoch after its last batch.

    Returns:
        Whether it is done. If not, ``log`` has to do it: the first time; if a value has come to another device; if a
        value of a step counts for the epoch, too.
    """
    results, connector = trainer._results, trainer._logger_connector
    hook = trainer.lightning_module._current_fx_name
    if results is None or hook is None or results.dataloader_idx is not None:
        return False
    of_epoch = connector._first_loop_iter is None
    pairs = [(results.get(f"{hook}.{name}"), value) for name, value in values.items()]
    entries = [
        (entry, value)
        for entry, value in pairs
        if entry is not None
        and entry.meta.on_epoch is of_epoch
        and entry.meta.on_step is not of_epoch
        and entry.value.device == value.device
    ]
    if len(entries) < len(pairs):
        return False
    if connector.should_reset_tensors(hook):
        results.reset(metrics=False, fx=hook)
    connector._current_fx = hook
    for entry, value in entries:
        # A mean over an epoch weighs by numbers of frames what several batches logged. Here is one value for all.
        entry.forward(value, 1)
        entry.has_reset = False
    return True


# Those that Lightning calls on all callbacks at each batch.
_BATCH_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_validation_batch_start",
    "on_validation_batch_end",
)


def leave_out_idle_hooks(callbacks: Iterable[lightning.Callback]) -> None:
    """Let Lightning pass over the hooks of a batch that a callback does nothing in.

    Lightning makes a name and a context for the profiler before each call: of a step of a small molecule this is three
    per cent, for some sixty hooks of which ten do something. A hook that is not callable it leaves out.
    """
    for callback in callbacks:
        for name in _BATCH_HOOKS:
            # Asked of the object: a callback may have got its hooks one by one, as Lightning's LambdaCallback does.
            if getattr(getattr(callback, name), "__func__", None) is getattr(lightning.Callback, name):
                setattr(callback, name, None)


def bring_back_idle_hooks(callbacks: Iterable[lightning.Callback]) -> None:
    """Undo :func:`leave_out_idle_hooks`."""
    for callback in callbacks:
        for name in _BATCH_HOOKS:
            if name in vars(callback) and vars(callback)[name] is None:
                delattr(callback, name)


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
        """Put a profiler that does nothing in the place of Lightning's that does nothing; pass over idle hooks."""
        trainer: Any = self.trainer
        if type(trainer.profiler) is PassThroughProfiler:
            trainer.profiler = IdleProfiler()
        if isinstance(trainer.profiler, IdleProfiler):  # another one shows the user each hook
            leave_out_idle_hooks(trainer.callbacks)

    def teardown(self, stage: str) -> None:
        """Leave callbacks as they were."""
        trainer: Any = self.trainer
        bring_back_idle_hooks(trainer.callbacks)
