"""Activation functions by name, plain and scaled to unit second moment."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from e3nn.math import normalize2mom
from torch import Tensor

from nequip_like.errors import ConfigError

Activation = Callable[[Tensor], Tensor]


def shifted_softplus(x: Tensor) -> Tensor:
    """Softplus that passes through zero: ``log(1 + exp(x)) - log(2)``."""
    return torch.nn.functional.softplus(x) - math.log(2.0)


_ACTIVATIONS: dict[str, Activation] = {
    "silu": torch.nn.functional.silu,
    "mish": torch.nn.functional.mish,
    "gelu": torch.nn.functional.gelu,
    "tanh": torch.tanh,
    "ssp": shifted_softplus,
    "abs": torch.abs,
}


def activation(name: str | None) -> Activation | None:
    """The function called ``name``; None (also written ``"None"`` or ``"null"``) means linear.

    Raises:
        ConfigError: If there is no such activation.
    """
    if name in (None, "None", "null"):
        return None
    try:
        return _ACTIVATIONS[name]
    except KeyError:
        raise ConfigError(f"unknown activation '{name}'", f"use one of {', '.join(_ACTIVATIONS)}") from None


@functools.cache
def moment_scale(name: str) -> float:
    """Factor that gives the activation of a unit normal the second moment 1 (estimated by e3nn, fixed seed)."""
    return float(normalize2mom(_ACTIVATIONS[name]).cst)


def normalized_activation(name: str) -> Activation:
    """The activation called ``name`` times the constant that makes its second moment over a unit normal 1."""
    function = activation(name)
    if function is None:
        raise ConfigError("a gate needs an activation, not None", f"use one of {', '.join(_ACTIVATIONS)}")
    scale = moment_scale(name)
    return lambda x: function(x) * scale
