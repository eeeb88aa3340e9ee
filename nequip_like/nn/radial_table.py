"""Functions of the scaled edge length as splines of fifth degree on equal intervals.

What the radial network gives depends on one number. Evaluated at a few hundred places instead of at every edge, it
costs the same for one structure and for a hundred, and its derivatives, in the forces and in their gradients, are those
of polynomials. The spline has four continuous derivatives, and its error falls with the sixth power of the interval.
"""

from __future__ import annotations

import torch
from torch import Tensor

# From values at equal places to coefficients: the middle one and those on both sides. The exact filter is the inverse
# of the spline's own values at the places, (1, 26, 66, 26, 1) / 120. Its series in the wave number is matched as far as
# nine coefficients can; then the error is, all but, that of interpolation.
FILTER = (2561 / 1152, -11141 / 14400, 2743 / 14400, -443 / 14400, 139 / 57600)
_REACH = len(FILTER) - 1
_BESIDE = 2  # coefficients beyond each end of [0, 1]


# Intervals for each Bessel function. The error is about 2e-8 of the largest weight with 20, and 1e-14 with 192: below
# the rounding of the element type in use.
_INTERVALS = {torch.float32: 20, torch.float64: 192}


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
        """Coefficients (intervals + 5, functions) of values (places, functions) at the places.

        Compiled code (``nn/native/radial.c``) does the same; this is what it is tested against.
        """
        count = self.intervals + 1 + 2 * _BESIDE
        result = FILTER[0] * values[_REACH : _REACH + count]
        for distance, factor in enumerate(FILTER[1:], start=1):
            before, after = _REACH - distance, _REACH + distance
            result = result + factor * (values[before : before + count] + values[after : after + count])
        return result
