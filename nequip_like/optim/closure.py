"""What the optimizers of this package have in common: how a step is entered, its closure, and the end of gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer, optimizer

_Step = TypeVar("_Step", bound=Callable[..., Any])


def enter_directly(step: _Step) -> _Step:
    """Let the ``step`` of an optimizer be called without torch's entry for a profiler, as long as nobody profiles.

    torch wraps the step of each class of optimizers; the wrapper costs a hundredth of a step of a small molecule.
    Hooks of a step are called as ever.

    Example:
        >>> class Nothing(Optimizer):
        ...     @enter_directly
        ...     def step(self, closure=None):
        ...         return "done"
        >>> quick = Nothing([torch.zeros(1)], {})
        >>> _ = quick.register_step_pre_hook(lambda *_: print("called before"))
        >>> quick.step()
        called before
        'done'
    """
    seen = Optimizer.profile_hook_step(step)

    @functools.wraps(step)
    def enter(self: Optimizer, *arguments: Any, **options: Any) -> Any:
        watched = (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or optimizer._global_optimizer_pre_hooks
            or optimizer._global_optimizer_post_hooks
            or torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
        )
        return (seen if watched else step)(self, *arguments, **options)

    enter.hooked = True  # type: ignore[attr-defined] # by which torch knows a step that it has wrapped
    return enter  # type: ignore[return-value]


def evaluate_closure(closure: Callable[[], Any] | None) -> Any:
    """Value of a closure that computes loss and gradients; None without one.

    Args:
        closure: What ``step`` of an optimizer was given.
    """
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def remove_gradients(self: Optimizer, set_to_none: bool = True) -> None:
    """Remove the gradients, or set them to zero: ``zero_grad``, without the entry for a profiler that torch makes."""
    if not set_to_none:
        Optimizer.zero_grad(self, set_to_none=False)
        return
    for group in self.param_groups:
        for weight in group["params"]:
            weight.grad = None
