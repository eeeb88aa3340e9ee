"""Chebyshev polynomials, what they are in Legendre polynomials, and the cosine cutoff."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def chebyshev_polynomials(x: Tensor, order: int) -> Tensor:
    """``T_0 ... T_order``, shape (..., order + 1), by their recurrence.

    They are polynomials, not cosines of angles: an argument that rounding moves beyond 1 by some 1e-16 needs no
    clipping, so derivatives are right there, too.

    Args:
        x: Arguments, in [-1, 1].
        order: Highest order.

    Example:
        >>> chebyshev_polynomials(torch.tensor([0.5, 1.0], dtype=torch.float64), 3).tolist()
        [[1.0, 0.5, -0.5, -1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    values = [torch.ones_like(x), x]
    for _ in range(order - 1):
        values.append(2.0 * x * values[-1] - values[-2])
    return torch.stack(values[: order + 1], dim=-1)


def chebyshev_slopes(x: Tensor, order: int) -> Tensor:
    """Derivatives ``n U_{n-1}`` of ``T_0 ... T_order``, shape (..., order + 1), with polynomials of the second kind.

    Example:
        The derivative of T_2 = 2 x^2 - 1 is 4 x, that of T_3 = 4 x^3 - 3 x is 12 x^2 - 3:

        >>> chebyshev_slopes(torch.tensor([0.5], dtype=torch.float64), 3).tolist()
        [[0.0, 1.0, 2.0, 0.0]]
    """
    second_kind = [torch.zeros_like(x), torch.ones_like(x)]
    for _ in range(order - 1):
        second_kind.append(2.0 * x * second_kind[-1] - second_kind[-2])
    orders = torch.arange(order + 1, dtype=x.dtype, device=x.device)
    return torch.stack(second_kind[: order + 1], dim=-1) * orders


def cosine_cutoff(lengths: Tensor, radius: float) -> Tensor:
    """``(cos(pi d / radius) + 1) / 2`` within the radius, 0 beyond it; its first derivative is continuous.

    Example:
        >>> cosine_cutoff(torch.tensor([0.0, 2.0, 4.0], dtype=torch.float64), 4.0).tolist()
        [1.0, 0.5, 0.0]
    """
    inside = lengths < radius
    values = 0.5 * (torch.cos(math.pi / radius * lengths) + 1.0)
    return torch.where(inside, values, torch.zeros_like(values))


def cosine_cutoff_slope(lengths: Tensor, radius: float) -> Tensor:
    """Derivative of :func:`cosine_cutoff`."""
    values = -0.5 * math.pi / radius * torch.sin(math.pi / radius * lengths)
    return torch.where(lengths < radius, values, torch.zeros_like(values))


def chebyshev_in_legendre(order: int) -> Tensor:
    """Coefficients c, shape (order + 1, order + 1), float64, of ``T_n = sum_l c[n, l] P_l``.

    Example:
        T_2 = 2 x^2 - 1 is 4/3 P_2 - 1/3 P_0:

        >>> [round(value, 4) for value in chebyshev_in_legendre(2)[2].tolist()]
        [-0.3333, 0.0, 1.3333]
    """
    result = np.zeros((order + 1, order + 1))
    for n in range(order + 1):
        powers = np.polynomial.chebyshev.cheb2poly([0.0] * n + [1.0])
        legendre = np.polynomial.legendre.poly2leg(powers)
        result[n, : len(legendre)] = legendre
    return torch.from_numpy(result)
