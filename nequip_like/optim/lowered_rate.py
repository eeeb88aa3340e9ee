"""Steps with a part of the learning rate that a schedule gives, whatever the schedule is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.optim import Optimizer


@contextmanager
def lowered_rate(optimizer: Optimizer, factor: float) -> Iterator[None]:
    """Multiply the learning rates of all groups, and give them back as they were.

    A schedule never sees the lowered rates: one that computes each rate from the one before (as many of torch's do), or
    compares rates with a limit, goes its way as if they were its own.

    Args:
        optimizer: The optimizer.
        factor: What to multiply by; with 1 nothing is touched.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.2)
        >>> with lowered_rate(optimizer, 0.5):
        ...     print(optimizer.param_groups[0]["lr"])
        0.1
        >>> optimizer.param_groups[0]["lr"]
        0.2
    """
    if factor == 1.0:
        yield
        return
    rates = [group["lr"] for group in optimizer.param_groups]  # numbers, or tensors, which stay as they are
    try:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
