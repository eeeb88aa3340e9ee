"""A Lightning module whose steps cost less of what Lightning does around their hooks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.profilers import PassThroughProfiler
from torch import Tensor, nn

from nequip_like.training.lean_steps.epoch_loop import STEP_HOOKS, LeanEpochLoop

# Those that Lightning calls on all callbacks at each batch.
_BATCH_HOOKS = (*STEP_HOOKS, "on_validation_batch_start", "on_validation_batch_end")


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
        # Lightning notes the name of each hook, some twenty times a step; torch would look whether it is a parameter.
        if name in self.__dict__ and not isinstance(value, (Tensor, nn.Module)):
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
            if type(trainer.fit_loop.epoch_loop) is _TrainingEpochLoop:
                trainer.fit_loop.epoch_loop.__class__ = LeanEpochLoop  # with all counts that it has already

    def teardown(self, stage: str) -> None:
        """Leave callbacks as they were."""
        trainer: Any = self.trainer
        bring_back_idle_hooks(trainer.callbacks)
        if type(trainer.fit_loop.epoch_loop) is LeanEpochLoop:
            trainer.fit_loop.epoch_loop.__class__ = _TrainingEpochLoop
