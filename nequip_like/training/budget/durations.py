"""Times as users write them: ``30min``, ``1h30min``, ``DD:HH:MM:SS``; or, of a budget, a run to repeat."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from nequip_like.arguments import shown
from nequip_like.errors import ConfigError

_UNITS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|s)\s*")
_ADVICE = "write a time, such as 90s, 30min, 1h30min or DD:HH:MM:SS; or {repeat: RUN/budget.json}"


@dataclass(frozen=True)
class Budget:
    """What the key ``budget`` asks for.

    Attributes:
        seconds: The time that the run may take, with everything that it does; None if it repeats another one.
        repeat: The file with the records of a run whose steps are to be done again.
    """

    seconds: float | None = None
    repeat: str | None = None


def read_budget(value: Any) -> Budget | None:
    """Read the key ``budget`` of a config; None if there is no budget.

    Raises:
        ConfigError: If it is neither a time nor a run to repeat.

    Example:
        >>> read_budget("1h30min")
        Budget(seconds=5400.0, repeat=None)
        >>> read_budget("30")
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: budget is '30'
          -> write a time, such as 90s, 30min, 1h30min or DD:HH:MM:SS; or {repeat: RUN/budget.json}
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        if set(value) != {"repeat"} or not isinstance(value["repeat"], str):
            raise ConfigError(f"budget is {shown(value)}", _ADVICE)
        return Budget(repeat=value["repeat"])
    seconds = _read_seconds(value) if isinstance(value, str) else None
    if not seconds:
        raise ConfigError(f"budget is {shown(value)}", _ADVICE)
    return Budget(seconds)


def _read_seconds(text: str) -> float | None:
    text = text.strip()
    if (seconds := _read_clock(text)) is not None:
        return seconds
    parts = _PART.findall(text)
    units = [unit for _, unit in parts]
    # Each unit once, the largest first: 30min1h is more likely a slip than an hour and a half.
    if not parts or _PART.sub("", text) or units != [unit for unit in _UNITS if unit in units]:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _read_clock(text: str) -> float | None:
    """Seconds of ``DD:HH:MM:SS``; None of anything else."""
    if not re.fullmatch(r"\d+(:\d+){3}", text):
        return None
    return sum(int(part) * unit for part, unit in zip(text.split(":"), _UNITS.values(), strict=True))


def read_duration(max_time: str | Mapping[str, int] | timedelta) -> timedelta:
    """A length of time as Lightning's trainer takes it: ``DD:HH:MM:SS``, a mapping such as ``{hours: 2}``, or itself.

    Raises:
        ConfigError: If it cannot be understood.

    Example:
        >>> read_duration("00:12:30:00") == read_duration({"hours": 12, "minutes": 30})
        True
        >>> read_duration("12h")
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: max_time is '12h'
          -> write DD:HH:MM:SS, for example 00:12:00:00
    """
    if isinstance(max_time, timedelta):
        return max_time
    with suppress(TypeError, ValueError, OverflowError):
        if isinstance(max_time, Mapping):
            return timedelta(**max_time)
        if (seconds := _read_clock(str(max_time))) is not None:
            return timedelta(seconds=seconds)
    raise ConfigError(f"max_time is {max_time!r}", "write DD:HH:MM:SS, for example 00:12:00:00")


def format_seconds(seconds: float) -> str:
    """A time in the units in which it is written: ``1h30min``, ``95s`` is ``1min 35s``.

    Example:
        >>> format_seconds(1800), format_seconds(95), format_seconds(7325), format_seconds(2.5)
        ('30min', '1min 35s', '2h 2min 5s', '2.5s')
    """
    if seconds < 10 and seconds != round(seconds):
        return f"{seconds:.1f}s"
    rest, texts = round(seconds), []
    for unit, length in _UNITS.items():
        number, rest = divmod(rest, int(length))
        if number:
            texts.append(f"{number}{unit}")
    return " ".join(texts) or "0s"
