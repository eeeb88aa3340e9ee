"""How the weight of a term changes over the epochs or steps of a run: pure functions of both counters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nequip_like.arguments import NotNegative, Range, check
from nequip_like.errors import ConfigError
from nequip_like.train.metric_terms import check_names

Interval = Literal["epoch", "step"]
_UNITS: dict[str, Interval] = {"epochs": "epoch", "steps": "step"}
_KEYS = {
    "constant": ("value",),
    "piecewise_constant": ("value", "boundaries"),
    "linear": ("from", "to", "start", "end"),
    "cosine": ("from", "to", "start", "end"),
}
_COMMON = ("kind", "interval")
_WEIGHT = Range(low=0, high_open=True)


@dataclass(frozen=True)
class WeightFunction:
    """The weight of one term.

    Attributes:
        interval: Whether it goes by epochs or by optimizer steps.
        shape: From the number of epochs or steps, and the configured weight, to the weight.
        uses_configured: Whether the configured weight matters.
    """

    interval: Interval
    shape: Callable[[int, float], float]
    uses_configured: bool

    def at(self, epoch: int, step: int, configured: float) -> float:
        """The weight in an epoch (from 0 on), after a number of optimizer steps."""
        return self.shape(epoch if self.interval == "epoch" else step, configured)


def weight_function(name: str, entry: Mapping[str, Any], interval: Interval) -> WeightFunction:
    """Read how a weight shall change.

    Args:
        name: Name of the term, for messages.
        entry: ``kind`` and the keys of that kind.
        interval: What plain numbers count; an ``interval`` of the entry has precedence.

    Raises:
        ConfigError: If a key is unknown or missing, or a value out of range.
    """
    kind = _kind(name, entry)
    check_names(entry, [*_COMMON, *_KEYS[kind]], f"key of the {kind} schedule of '{name}':")
    if "interval" in entry:
        check(f"interval of '{name}'", entry["interval"], Interval)
        interval = entry["interval"]
    if kind == "constant":
        value = _weight(name, entry, "value")
        return WeightFunction(interval, lambda now, configured: value, False)
    if kind == "piecewise_constant":
        return _piecewise(name, entry, interval)
    return _ramp(name, entry, interval, linear if kind == "linear" else cosine)


def linear(share: float) -> float:
    """From 0 to 1 along a line."""
    return share


def cosine(share: float) -> float:
    """From 0 to 1 along half a period of a cosine: slow at both ends."""
    return 0.5 * (1.0 - math.cos(math.pi * share))


def piecewise_constant(value: float, boundaries: Sequence[tuple[int, float]], now: int) -> float:
    """A value that is multiplied by a factor at each boundary that was reached (mlip's, optax's rule)."""
    for boundary, factor in boundaries:
        if now >= boundary:
            value *= factor
    return value


def ramp(first: float, last: float, start: int, end: int, curve: Callable[[float], float], now: int) -> float:
    """``first`` until ``start``, ``last`` from ``end`` on, and a curve between."""
    if now <= start:
        return first
    if now >= end:
        return last
    return first + curve((now - start) / (end - start)) * (last - first)


def _kind(name: str, entry: Mapping[str, Any]) -> str:
    if not isinstance(entry, Mapping) or "kind" not in entry:
        raise ConfigError(f"the schedule of '{name}' has no kind", f"write kind: {', '.join(_KEYS)}")
    if entry["kind"] not in _KEYS:
        check_names({str(entry["kind"]): None}, list(_KEYS), f"kind in the schedule of '{name}':")
    return str(entry["kind"])


def _weight(name: str, entry: Mapping[str, Any], key: str) -> float:
    if key not in entry:
        raise ConfigError(f"the schedule of '{name}' has no '{key}'", f"give a number, such as {key}: 1.0")
    return _number(name, key, entry[key])


def _number(name: str, key: str, value: Any) -> float:
    check(f"'{key}' in the schedule of '{name}'", value, float)
    if not _WEIGHT.admits(value):
        raise ConfigError(f"'{key}' in the schedule of '{name}' is {value}", "give a finite number, 0 or more")
    return float(value)


def _piecewise(name: str, entry: Mapping[str, Any], interval: Interval) -> WeightFunction:
    given = _weight(name, entry, "value") if "value" in entry else None
    boundaries = entry.get("boundaries")
    if not isinstance(boundaries, Mapping) or not boundaries:
        raise ConfigError(f"the schedule of '{name}' has no boundaries", "write boundaries: {100: 25.0}")
    steps = sorted((_boundary(name, key), _number(name, "boundaries", value)) for key, value in boundaries.items())

    def shape(now: int, configured: float) -> float:
        return piecewise_constant(configured if given is None else given, steps, now)

    return WeightFunction(interval, shape, given is None)


def _boundary(name: str, key: int | str) -> int:
    text = str(key)
    if not text.isdecimal():
        raise ConfigError(
            f"the schedule of '{name}' has the boundary {key!r}", "boundaries are whole numbers, 0 or more"
        )
    return int(text)


def _ramp(name: str, entry: Mapping[str, Any], interval: Interval, curve: Callable[[float], float]) -> WeightFunction:
    given = _weight(name, entry, "from") if "from" in entry else None
    last = _weight(name, entry, "to")
    if "end" not in entry:
        raise ConfigError(f"the schedule of '{name}' has no 'end'", "for example end: {epochs: 100}")
    start, unit_of_start = _moment(name, "start", entry.get("start"))
    end, unit_of_end = _moment(name, "end", entry["end"])
    units = {unit for unit in (unit_of_start, unit_of_end) if unit is not None}
    if len(units) > 1:
        raise ConfigError(
            f"the schedule of '{name}' starts and ends in different units", "count both in epochs, or steps"
        )
    if start >= end:
        raise ConfigError(f"the schedule of '{name}' starts at {start} and ends at {end}", "let it end after its start")

    def shape(now: int, configured: float) -> float:
        return ramp(configured if given is None else given, last, start, end, curve, now)

    return WeightFunction(units.pop() if units else interval, shape, given is None)


def _moment(name: str, key: str, value: Any) -> tuple[int, Interval | None]:
    """A number of epochs or steps: ``100``, ``{epochs: 100}`` or ``{steps: 100}``."""
    unit: Interval | None = None
    if value is None:
        return 0, None
    if isinstance(value, Mapping):
        if len(value) != 1 or next(iter(value)) not in _UNITS:
            raise ConfigError(
                f"'{key}' in the schedule of '{name}' is {dict(value)}", "write {epochs: 100} or {steps: 100}"
            )
        ((word, value),) = value.items()
        unit = _UNITS[word]
    check(f"'{key}' in the schedule of '{name}'", value, NotNegative)
    return int(value), unit
