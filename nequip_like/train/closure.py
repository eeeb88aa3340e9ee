"""What the optimizers of this package have in common: the evaluation of a closure, and ranges of their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch

from nequip_like.arguments import Range

FromZero = Annotated[float, Range(low=0, high_open=True)]
Decay = Annotated[float, Range(low=0, high=1, high_open=True)]


def evaluated(closure: Callable[[], Any] | None) -> Any:
    """Value of a closure that computes loss and gradients; None without one.

    Args:
        closure: What ``step`` of an optimizer was given.
    """
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
