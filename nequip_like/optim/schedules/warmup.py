"""Warm-up factors in closed form: what the learning rate is multiplied by at optimizer step t = 1, 2, ..."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from nequip_like.errors import ConfigError

Factor = Callable[[float], float]
_LEAST_BETA2 = 0.6  # of radam: with less, rho never exceeds 4


def warm_up_linearly(t: float, period: float) -> float:
    """min(1, t / period).

    Args:
        t: Number of the step, from 1.
        period: Steps until the factor is 1.

    Example:
        >>> [warm_up_linearly(t, period=4) for t in (1, 2, 4, 9)]
        [0.25, 0.5, 1.0, 1.0]
    """
    return min(1.0, t / period)


def warm_up_exponentially(t: float, period: float) -> float:
    """1 - exp(-2 t / period): it begins as steep as twice :func:`warm_up_linearly`, and is 0.86 after the period.

    Args:
        t: Number of the step, from 1.
        period: Steps.

    Example:
        >>> [round(warm_up_exponentially(t, period=10), 2) for t in (1, 5, 10)]
        [0.18, 0.63, 0.86]
    """
    return -math.expm1(-2.0 * t / period)


def untuned_period(beta2: float) -> int:
    """2 / (1 - beta2), rounded down as floating-point numbers have it: 1999 for 0.999, where 2000 would be exact.

    Every program that computes it in double precision gets the same, so runs can be compared.

    Args:
        beta2: Decay of Adam's second moment.

    Example:
        >>> untuned_period(0.99), untuned_period(0.999)
        (199, 1999)
    """
    return int(2.0 / (1.0 - beta2))


def radam(t: float, beta2: float) -> float:
    """The factor by which RAdam reduces its steps, from the first step at which it takes one.

    Args:
        t: Number of the step, from 1.
        beta2: Decay of Adam's second moment, above 0.6 and below 1.

    Example:
        With the usual beta2 it begins small, and is near 1 after a few thousand steps:

        >>> [round(radam(t, 0.999), 2) for t in (1, 1000, 10000)]
        [0.02, 0.65, 1.0]
    """
    limit = _rho_limit(beta2)
    rho = _rho(t + _find_first_reduced(beta2) - 1, beta2)
    return math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))


def _rho_limit(beta2: float) -> float:
    return 2.0 / (1.0 - beta2) - 1.0


def _rho(t: float, beta2: float) -> float:
    decayed = beta2**t
    return _rho_limit(beta2) - 2.0 * t * decayed / (1.0 - decayed)


@functools.cache
def _find_first_reduced(beta2: float) -> int:
    """The first step with rho above 4."""
    t = 1
    while _rho(t, beta2) <= 4:
        t += 1
    return t


def factor(kind: str | None, period: float | None, beta2: float | None) -> Factor:
    """The warm-up factor as a function of the step.

    Args:
        kind: ``linear``, ``exponential``, ``untuned_linear``, ``untuned_exponential``, ``radam``, or None for none.
        period: Steps of ``linear`` and ``exponential``.
        beta2: Decay of Adam's second moment, for the others.

    Raises:
        ConfigError: If beta2 is missing or out of range.
    """
    if kind is None:
        return lambda t: 1.0
    if kind in ("linear", "exponential"):
        if period is None:
            raise ConfigError("warmup_length is not given", "give a number of epochs, or {steps: 1000}")
    else:
        beta2 = check_beta2(kind, beta2)
        if kind == "radam":
            return functools.partial(radam, beta2=beta2)
        period = untuned_period(beta2)
    form = warm_up_linearly if kind.endswith("linear") else warm_up_exponentially
    return functools.partial(form, period=period)


def check_beta2(kind: str, beta2: float | None) -> float:
    """The decay of the second moment, from which a warm-up takes its length.

    Raises:
        ConfigError: If there is none, or it is out of range.
    """
    if beta2 is None:
        raise ConfigError(
            f"warmup is '{kind}', which takes its length from beta2, but the optimizer has no betas",
            "take an optimizer like Adam, or warmup: linear with a warmup_length",
        )
    least = _LEAST_BETA2 if kind == "radam" else 0.0
    if not least < beta2 < 1.0:
        raise ConfigError(
            f"warmup is '{kind}', and the optimizer's beta2 is {beta2}", f"give a beta2 above {least:g} and below 1"
        )
    return beta2
