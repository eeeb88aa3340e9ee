"""What more time and more data would bring: power laws through errors that were measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class PowerLaw:
    """``error = scale * amount ** -exponent``.

    Example:
        >>> law = PowerLaw.through([(10.0, 40.0), (20.0, 28.0), (160.0, 10.0)])
        >>> round(law.exponent, 2), round(law.factor(2.0), 2)
        (0.5, 0.71)
    """

    scale: float
    exponent: float

    @classmethod
    def through(cls, points: Sequence[Point]) -> PowerLaw | None:
        """The line of least squares through the logarithms; None of fewer than two different amounts.

        Args:
            points: Pairs of an amount (seconds, frames) and an error, all above 0.
        """
        x, y = [math.log(amount) for amount, _ in points], [math.log(error) for _, error in points]
        if len(set(x)) < 2:
            return None
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        spread = sum((value - mean_x) ** 2 for value in x)
        slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
        return cls(math.exp(mean_y - slope * mean_x), -slope)

    def factor(self, times: float) -> float:
        """What an error is multiplied by, if the amount is; never more than 1: more cannot harm."""
        return min(1.0, times**-self.exponent)


def describe_outlook(over_time: PowerLaw | None, over_frames: PowerLaw | None) -> list[str]:
    """Lines about twice the time and twice the data, as far as they were measured."""
    lines = []
    for law, what, source in (
        (over_time, "twice the time", "from trials of different length"),
        (over_frames, "twice the data", "from a trial with half of them, of equal time"),
    ):
        if law is not None:
            lines.append(f"{what} would bring the validation error to some {law.factor(2.0):.0%} of it ({source})")
    return lines
