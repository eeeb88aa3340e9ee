"""Modules that are evaluated for a moment, whatever mode they are in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Let a module be in evaluation mode, and have each of its modules in its own mode again afterwards.

    ``eval()`` and ``train()`` take longer than a step of dynamics of a small molecule: each sets an attribute by way of
    ``Module.__setattr__``, which looks for parameters, buffers and modules of that name first. For the same reason a
    module in evaluation mode is taken at its word: its parts are not looked at.

    Example:
        >>> layer = nn.Dropout()
        >>> with evaluation_mode(layer):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    training = [each for each in module.modules() if each.training] if module.training else []
    for each in training:
        vars(each)["training"] = False
    try:
        yield
    finally:
        for each in training:
            vars(each)["training"] = True
