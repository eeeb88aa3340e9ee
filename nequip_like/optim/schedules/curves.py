"""Schedules in closed form: the learning rate as a share of the optimizer's, after n = 0, 1, ... optimizer steps.

Step t = n + 1 is taken with the value at n, so the first one with the value at 0. ``floor`` is the smallest learning
rate as a share of the optimizer's. Only ratios count: where a run goes by time, n and lengths are shares of the run.
"""

from __future__ import annotations

import math


def cosine(n: float, period: float, floor: float = 0.0) -> float:
    """Half a cosine from 1 down to ``floor`` within ``period`` steps, and up again after it.

    Args:
        n: Number of steps done.
        period: Steps on the way down.
        floor: Smallest value.

    Example:
        Half way down after half of the period, and up again after it:

        >>> [round(cosine(n, period=10), 3) for n in (0, 5, 10, 15)]
        [1.0, 0.5, 0.0, 0.5]
    """
    return floor + 0.5 * (1.0 - floor) * (1.0 + math.cos(math.pi * n / period))


def cosine_restarts(n: float, period: float, growth: int = 1, floor: float = 0.0) -> float:
    """:func:`cosine` that jumps back to 1 at the end of each period.

    Args:
        n: Number of steps done.
        period: Steps of the first period.
        growth: Each period is so many times as long as the one before.
        floor: Value that a period approaches.

    Example:
        The second period begins after 10 steps and is twice as long:

        >>> [round(cosine_restarts(n, period=10, growth=2), 3) for n in (5, 10, 20, 30)]
        [0.5, 1.0, 0.5, 1.0]
    """
    if growth == 1:
        n %= period
    while n >= period:  # with a growth this is short: periods double at least
        n -= period
        period *= growth
    return cosine(n, period, floor)


def exponential(n: float, length: float, gamma: float, floor: float = 0.0) -> float:
    """Multiplied by ``gamma`` every ``length`` steps, evenly: gamma^(n / length), at least ``floor``.

    Args:
        n: Number of steps done.
        length: Steps for a factor of ``gamma``.
        gamma: The factor.
        floor: Smallest value.

    Example:
        >>> [round(exponential(n, length=100, gamma=0.25), 3) for n in (0, 50, 100)]
        [1.0, 0.5, 0.25]
    """
    return float(max(floor, gamma ** (n / length)))


def step(n: float, length: float, gamma: float, floor: float = 0.0) -> float:
    """Multiplied by ``gamma`` at once every ``length`` steps, at least ``floor``.

    Args:
        n: Number of steps done.
        length: Steps with the same value.
        gamma: The factor.
        floor: Smallest value.

    Example:
        >>> [step(n, length=100, gamma=0.5, floor=0.3) for n in (0, 99, 100, 200)]
        [1.0, 1.0, 0.5, 0.3]
    """
    return float(max(floor, gamma ** (n // length)))


def linear(n: float, length: float, end: float = 0.0) -> float:
    """A straight line from 1 to ``end``, and ``end`` after it.

    Args:
        n: Number of steps done.
        length: Steps on the way.
        end: Last value.

    Example:
        >>> [linear(n, length=10, end=0.1) for n in (0, 5, 10, 99)]
        [1.0, 0.55, 0.1, 0.1]
    """
    return _interpolate(1.0, end, n / length)


def peak(n: float, rise: float, fall: float, start: float, end: float) -> float:
    """A straight line from ``start`` up to 1, another down to ``end``, and ``end`` after it.

    Args:
        n: Number of steps done.
        rise: Steps on the way up.
        fall: Steps on the way down.
        start: First value.
        end: Last value.

    Example:
        >>> [round(peak(n, rise=10, fall=20, start=0.1, end=0.01), 3) for n in (0, 5, 10, 20, 30, 99)]
        [0.1, 0.55, 1.0, 0.505, 0.01, 0.01]
    """
    return _interpolate(start, 1.0, n / rise) if n < rise else _interpolate(1.0, end, (n - rise) / fall)


def _interpolate(start: float, end: float, share: float) -> float:
    return end if share >= 1.0 else start + share * (end - start)
