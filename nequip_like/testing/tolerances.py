"""The tolerances of the physics tests, by name and by the element type of the network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tolerances:
    """How far apart numbers may be that are equal in exact arithmetic.

    Each bounds the largest difference, divided by the largest magnitude of what is expected or by 1, whichever is more.

    Attributes:
        rounding: The same numbers, summed or multiplied in another order.
        finite_differences: A derivative and its central difference.
    """

    rounding: float
    finite_differences: float


TOLERANCES: dict[str, Tolerances] = {
    # Rounding is what a network of two to three layers accumulates, with a factor of about ten to spare. Finite
    # differences of float32 energies are noise, so they are taken in float64 only.
    "float32": Tolerances(rounding=1e-5, finite_differences=float("inf")),
    "float64": Tolerances(rounding=1e-12, finite_differences=1e-6),
}


def measure_difference(actual: Tensor, expected: Tensor) -> float:
    """The largest difference of two tensors, relative to the largest magnitude expected (at least 1); NaN equals NaN.

    Infinite where shapes differ, or where only one of them is NaN.

    Example:
        >>> measure_difference(torch.tensor([1.0, 19.0]), torch.tensor([1.0, 20.0]))
        0.05
    """
    if actual.shape != expected.shape or not torch.equal(actual.isnan(), expected.isnan()):
        return float("inf")
    if not actual.numel():
        return 0.0
    actual, expected = actual.detach().nan_to_num(), expected.detach().nan_to_num()
    return float((actual - expected).abs().max()) / max(1.0, float(expected.abs().max()))


def check_close(actual: Tensor, expected: Tensor, tolerance: float, quantity: str) -> None:
    """Compare two tensors; NaN equals NaN.

    Args:
        actual: What was computed.
        expected: What it should be.
        tolerance: Bound of the largest difference, relative to the largest magnitude expected (at least 1).
        quantity: Name of the quantity, for the message.

    Raises:
        AssertionError: If shapes, NaNs or values differ.
    """
    if actual.shape != expected.shape:
        raise AssertionError(f"{quantity}: shape {tuple(actual.shape)} instead of {tuple(expected.shape)}")
    if not torch.equal(actual.isnan(), expected.isnan()):
        raise AssertionError(f"{quantity}: {int(actual.isnan().sum())} NaN instead of {int(expected.isnan().sum())}")
    if not actual.numel():
        return
    actual, expected = actual.detach().nan_to_num(), expected.detach().nan_to_num()
    error = float((actual - expected).abs().max())
    scale = max(1.0, float(expected.abs().max()))
    # Written so that an error that is not finite fails too.
    if not error <= tolerance * scale:
        raise AssertionError(f"{quantity}: largest difference {error:.3e}, allowed {tolerance:.1e} * {scale:.3g}")
