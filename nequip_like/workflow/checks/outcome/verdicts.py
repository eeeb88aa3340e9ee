"""What a check says of a model: a number, its limit, and in words what was found and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nequip_like.report.tables import format_number
from nequip_like.summaries import Summarized, html_table

CheckLevel = Literal["skipped", "pass", "warn", "fail"]
CHECK_LEVELS: tuple[CheckLevel, ...] = ("skipped", "pass", "warn", "fail")
WARN_FACTOR = 10.0  # so many times the limit are warned of; what is more, fails


@dataclass(frozen=True)
class CheckVerdict:
    """What a check says.

    Attributes:
        check: Name of the check.
        of: What was looked at: ``rotation``, ``Cu-Cu``, ...
        level: ``pass``, ``warn``, ``fail``, or ``skipped``.
        text: What was found, in words; of a check that was skipped, why.
        value: The number that was measured; None where it was not.
        limit: The number that it is compared with.
        unit: Unit of both.
        at_least: Whether the limit is a lower one.
        advice: What to do; empty unless it is ``warn`` or ``fail``.
    """

    check: str
    of: str
    level: CheckLevel
    text: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    at_least: bool = False
    advice: str = ""

    @property
    def number(self) -> str:
        """The value as tables show it."""
        return "" if self.value is None else format_number(self.value)

    @property
    def bound(self) -> str:
        """The limit as tables show it."""
        return "" if self.limit is None else f"{'≥' if self.at_least else '≤'} {format_number(self.limit)}"


@dataclass(frozen=True)
class CheckPlot:
    """Curves that a check measured.

    Attributes:
        check: Name of the check.
        title: What is shown.
        x_label: What it is over, with its unit.
        y_label: What it is, with its unit.
        curves: Points by name, finite.
    """

    check: str
    title: str
    x_label: str
    y_label: str
    curves: dict[str, list[tuple[float, float]]]


def judge_value(
    check: str,
    of: str,
    value: float,
    limit: float,
    unit: str,
    text: str,
    advice: str,
    *,
    warn_to: float | None = None,
    at_least: bool = False,
    fails: bool = True,
) -> CheckVerdict:
    """Compare a number with its limit. A number that is not finite fails.

    Args:
        check: Name of the check.
        of: What was looked at.
        value: The number.
        limit: Where it passes.
        unit: Unit of both.
        text: What was found.
        advice: What to do unless it passes.
        warn_to: Up to where it is only warned of; ten times the limit by default.
        at_least: Whether the limit is a lower one.
        fails: Whether it can fail, or is only warned of.

    Example:
        >>> [judge_value("forces", "CO", value, 0.1, "eV/Å", "", "").level for value in (0.1, 0.5, 2.0, float("nan"))]
        ['pass', 'warn', 'fail', 'fail']
    """
    warn_to = WARN_FACTOR * limit if warn_to is None else warn_to
    level: CheckLevel = "fail" if fails else "warn"
    if math.isfinite(value):
        distance, margin = (limit - value, limit - warn_to) if at_least else (value - limit, warn_to - limit)
        if distance <= 0:
            level = "pass"
        elif distance <= margin:
            level = "warn"
    return CheckVerdict(check, of, level, text, value, limit, unit, at_least, "" if level == "pass" else advice)


def skip_check(check: str, reason: str, of: str = "") -> CheckVerdict:
    """A verdict that says why a check was not made."""
    return CheckVerdict(check, of, "skipped", reason)


@dataclass(frozen=True, repr=False)
class Verdicts(Summarized):
    """What all checks say of a model. It can be printed, iterated over, and asked by the name of a check.

    Attributes:
        model: What the model is, in words.
        verdicts: In the order of the checks.
        plots: Curves that were measured.
        facts: Names and values: data, element type, settings.

    Example::

        verdicts = check_potential("model.safetensors", "train.xyz")
        verdicts.failed           # names of the checks that failed
        verdicts["stress"].text   # what was found
    """

    model: str
    verdicts: tuple[CheckVerdict, ...]
    plots: tuple[CheckPlot, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def level(self) -> CheckLevel:
        """The worst level."""
        return max((verdict.level for verdict in self.verdicts), key=CHECK_LEVELS.index, default="skipped")

    @property
    def levels(self) -> dict[str, CheckLevel]:
        """The worst level of each check."""
        return {name: self[name].level for name in dict.fromkeys(verdict.check for verdict in self.verdicts)}

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [name for name, level in self.levels.items() if level == "fail"]

    def of_check(self, name: str) -> list[CheckVerdict]:
        """All verdicts of one check."""
        return [verdict for verdict in self.verdicts if verdict.check == name]

    def __getitem__(self, name: str) -> CheckVerdict:
        """The worst verdict of a check."""
        verdicts = self.of_check(name)
        if not verdicts:
            raise KeyError(name)
        return max(verdicts, key=lambda verdict: CHECK_LEVELS.index(verdict.level))

    def __iter__(self) -> Iterator[CheckVerdict]:
        return iter(self.verdicts)

    def __len__(self) -> int:
        return len(self.verdicts)

    def summary(self) -> dict[str, Any]:
        """The worst level, and how many verdicts have which."""
        counts: dict[str, Any] = {
            level: count
            for level in reversed(CHECK_LEVELS)
            if (count := sum(verdict.level == level for verdict in self.verdicts))
        }
        return {"level": self.level, **counts, **({"failed": " ".join(self.failed)} if self.failed else {})}

    def rows(self) -> list[Sequence[str]]:
        """A row of the table for each verdict: check, of, verdict, number, limit, unit, text with advice."""
        return [
            (
                verdict.check,
                verdict.of,
                verdict.level,
                verdict.number,
                verdict.bound,
                verdict.unit,
                f"{verdict.text} → {verdict.advice}" if verdict.advice else verdict.text,
            )
            for verdict in self.verdicts
        ]

    def __str__(self) -> str:
        """The table as text."""
        columns = list(zip(COLUMNS_OF_VERDICTS, *self.rows(), strict=True)) if self.verdicts else []
        widths = [max(map(len, column)) for column in columns[:-1]]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
            for row in (zip(*columns, strict=True))
        ]
        return "\n".join([f"{self.model}: {self.level}", *map(str.rstrip, lines)])

    def _repr_html_(self) -> str:
        return html_table(f"{self.model}: {self.level}", COLUMNS_OF_VERDICTS, self.rows())

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values, but the curves; what is not finite is null."""
        return {
            "model": self.model,
            "level": self.level,
            "failed": self.failed,
            "facts": self.facts,
            "verdicts": [
                {
                    "check": verdict.check,
                    "of": verdict.of,
                    "level": verdict.level,
                    "value": verdict.value if verdict.value is not None and math.isfinite(verdict.value) else None,
                    "limit": verdict.limit,
                    "at_least": verdict.at_least,
                    "unit": verdict.unit,
                    "text": verdict.text,
                    "advice": verdict.advice,
                }
                for verdict in self.verdicts
            ],
        }


COLUMNS_OF_VERDICTS = ("check", "of", "verdict", "number", "limit", "unit", "what was found")
