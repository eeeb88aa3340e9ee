"""What the optimizers of this package have in common: the evaluation of a closure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def evaluate_closure(closure: Callable[[], Any] | None) -> Any:
    """Value of a closure that computes loss and gradients; None without one.

    Args:
        closure: What ``step`` of an optimizer was given.
    """
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
