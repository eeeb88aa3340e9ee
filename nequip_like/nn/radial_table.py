"""Functions of the scaled edge length as splines of fifth degree on equal intervals.

What the radial network gives depends on one number. Evaluated at a few hundred places instead of at every edge, it
costs the same for one structure and for a hundred, and its derivatives, in the forces and in their gradients, are those
of polynomials. The spline has four continuous derivatives, and its error falls with the sixth power of the interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nequip_like.nn.mlp import ScalarMLP

# From values at equal places to coefficients: the middle one and those on both sides. The exact filter is the inverse
# of the spline's own values at the places, (1, 26, 66, 26, 1) / 120. Its series in the wave number is matched as far as
# nine coefficients can; then the error is, all but, that of interpolation.
FILTER = (2561 / 1152, -11141 / 14400, 2743 / 14400, -443 / 14400, 139 / 57600)
_REACH = len(FILTER) - 1
_BESIDE = 2  # coefficients beyond each end of [0, 1]


# Intervals for each Bessel function. The error is about 2e-9 of the largest weight with 24, and 1e-14 with 192: below
# the rounding of the element type in use.
_INTERVALS = {torch.float32: 24, torch.float64: 192}


def count_intervals(num_bessels: int, dtype: torch.dtype) -> int:
    """Number of intervals that functions of a radial basis need.

    Args:
        num_bessels: Number of Bessel functions of the basis.
        dtype: Element type of the network that reads the table.
    """
    return _INTERVALS[dtype] * num_bessels


class SplineTable:
    """Coefficients of splines on [0, 1], made of values at equal places.

    On interval i with ``t = x * intervals - i`` a function is ``sum_n c[i + n] b_n(t)``, n from 0 to 5, with the six
    uniform splines b_n of fifth degree.

    Args:
        intervals: Number of intervals.

    Attributes:
        places: Where the functions have to be known, some of them beyond both ends; shape (places,), float64.
    """

    def __init__(self, intervals: int) -> None:
        self.intervals = intervals
        beyond = _BESIDE + _REACH
        self.places = torch.arange(-beyond, intervals + 1 + beyond, dtype=torch.float64) / intervals

    def coefficients(self, values: Tensor) -> Tensor:
        """Coefficients (..., intervals + 5, functions) of values (..., places, functions) at the places."""
        return _Filtered.apply(values)


class _Filtered(torch.autograd.Function):
    """The symmetric filter along the last dimension but one; its adjoint is the filter of the padded gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _filter(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _filter(torch.nn.functional.pad(gradient, (0, 0, 2 * _REACH, 2 * _REACH)))


def _filter(values: Tensor) -> Tensor:
    count = values.shape[-2] - 2 * _REACH
    result = values.narrow(-2, _REACH, count) * FILTER[0]
    for distance, factor in enumerate(FILTER[1:], start=1):
        result.add_(values.narrow(-2, _REACH - distance, count), alpha=factor)
        result.add_(values.narrow(-2, _REACH + distance, count), alpha=factor)
    return result


def radial_tables(
    spline: SplineTable, basis: Tensor, dtype: torch.dtype, networks: Sequence[ScalarMLP]
) -> list[Tensor]:
    """Tables of several radial networks, each (intervals + 5, outputs).

    They are evaluated in float64 whatever their weights are: slopes are differences of neighbouring coefficients, which
    make their rounding larger by the number of intervals.

    Args:
        spline: The intervals.
        basis: Input of the networks at the spline's places, shape (places, inputs), float64.
        dtype: Element type of the tables.
        networks: Networks of the same input. Neighbours in the list of the same hidden shape are evaluated together.
    """
    tables: list[Tensor] = []
    for _, group in groupby(networks, key=_hidden_shape):
        tables.extend(table.to(dtype) for table in _evaluate_together(spline, basis, list(group)))
    return tables


def _hidden_shape(network: ScalarMLP) -> list[torch.Size]:
    return [weight.shape for weight in network.weights[:-1]]


def _evaluate_together(spline: SplineTable, basis: Tensor, networks: Sequence[ScalarMLP]) -> Iterator[Tensor]:
    hidden = basis.unsqueeze(0)
    first = networks[0]
    for layer in range(len(first.weights) - 1):
        if layer > 0 and first.activation is not None:
            hidden = first.activation(hidden)
        stacked = torch.stack([network.weights[layer] for network in networks]).to(torch.float64)
        hidden = hidden @ (stacked * first.parts.factors[layer])
    if len(first.weights) > 1 and first.activation is not None:
        hidden = first.activation(hidden)
    # Coefficients are linear in the values, and the last layer is linear: the filter takes the narrower side.
    hidden = spline.coefficients(hidden).expand(len(networks), -1, -1)
    for part, network in zip(hidden.unbind(), networks, strict=True):
        yield part @ (network.weights[-1].to(torch.float64) * network.parts.factors[-1])
