"""Where Huber losses go over from parabolas into lines: their deltas and strata, as they are configured."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nequip_like.errors import ConfigError


def read_positive(value: float | str, label: str) -> float:
    """A number larger than 0, perhaps infinite.

    Raises:
        ConfigError: If it is none.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{label} is {value!r}, which is no number") from None
    if not number > 0:
        raise ConfigError(f"{label} is {value!r}", "it must be larger than 0")
    return number


def sort_strata(delta_dict: Mapping[float | str, float]) -> tuple[tuple[float, float], ...]:
    """Lower bounds and deltas, in order, from 0 on.

    Args:
        delta_dict: Lower bound of a stratum -> its delta, in the field's unit; keys may be strings.

    Raises:
        ConfigError: If a bound is no number, negative or written twice, a delta is not positive, or one stratum is all.
    """
    strata: dict[float, float] = {}
    for key, delta in delta_dict.items():
        try:
            bound = float(key)
        except (TypeError, ValueError):
            raise ConfigError(f"key {key!r} of delta_dict is no number", "keys are norms, in eV/Angstrom") from None
        if not 0 <= bound < math.inf or bound in strata:
            reason = "given twice" if bound in strata else "not a finite number from 0 up"
            raise ConfigError(f"lower bound {key!r} of delta_dict is {reason}")
        strata[bound] = read_positive(delta, f"delta of the stratum from {key}")
    if strata and min(strata) > 0:
        strata[0.0] = math.inf
    if len(strata) < 2:
        raise ConfigError("delta_dict needs two or more strata", "for one delta for all forces, use HuberLoss")
    return tuple(sorted(strata.items()))
