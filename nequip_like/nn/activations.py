"""Activation functions by name, plain and scaled to unit second moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nequip_like.errors import ConfigError

Activation = Callable[[Tensor], Tensor]


def shifted_softplus(x: Tensor) -> Tensor:
    """Softplus that passes through zero: ``log(1 + exp(x)) - log(2)``.

    Example:
        >>> shifted_softplus(torch.tensor(0.0)).item()
        0.0
    """
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


# Factors that give the activation of a unit normal the second moment 1, as e3nn.math.normalize2mom estimates them from
# a million random numbers of a fixed seed: its values, so that weights of models made with e3nn mean the same here.
# Drawing them would take 3 % of a start, and would change all models with torch's random numbers.
_MOMENT_SCALES = {
    "silu": 1.6791767923989418,
    "mish": 1.4891609082630328,
    "gelu": 1.5360642850770576,
    "tanh": 1.5937334472592695,
    "ssp": 1.878204668541552,
    "abs": 1.001110600838467,
}


def moment_scale(name: str) -> float:
    """Factor that gives the activation of a unit normal the second moment 1."""
    return _MOMENT_SCALES[name]


@dataclass(frozen=True)
class NormalizedActivation:
    """An activation times the constant that makes its second moment over a unit normal 1.

    It is a class and not a function made on the spot, so that a model with it can be pickled.
    """

    name: str

    def __call__(self, x: Tensor) -> Tensor:
        """Map each entry."""
        return _ACTIVATIONS[self.name](x) * _MOMENT_SCALES[self.name]


def normalized_activation(name: str) -> Activation:
    """The activation called ``name`` times the constant that makes its second moment over a unit normal 1.

    Raises:
        ConfigError: If there is no such activation.

    Example:
        Over a unit normal its mean square is 1:

        >>> normal = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
        >>> round(normalized_activation("silu")(normal).square().mean().item(), 2)
        1.0
    """
    if activation(name) is None:
        raise ConfigError("a gate needs an activation, not None", f"use one of {', '.join(_ACTIVATIONS)}")
    return NormalizedActivation(name)
