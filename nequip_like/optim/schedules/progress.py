"""The share of a run that is done, as a function of the optimizer step and of a list of plans, and of nothing else.

A run with a budget of time does not know its number of steps beforehand. It plans again and again how many are left;
each plan is a record. Who has the records has the run: no clock is needed to repeat it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, NamedTuple

from nequip_like.errors import ConfigError

# Before the first steps are measured: so many that the share grows by next to nothing.
_UNMEASURED = 10_000


class Record(NamedTuple):
    """A plan of the rest of a run.

    Attributes:
        step: Number of optimizer steps that were done when it was made.
        progress: The share of the run that was done, from 0 to 1.
        remaining: Number of steps that were left; the share grows by the same amount at each of them.
    """

    step: int
    progress: float
    remaining: int


class RunProgress:
    """The share of a run that is done after n optimizer steps.

    Args:
        records: The plans, in their order; by default the first one, which knows nothing of the run.

    Example:
        100 steps are planned; after 50 of them the machine becomes slower, and only 10 are left:

        >>> progress = RunProgress([Record(0, 0.0, 100), Record(50, 0.5, 10)])
        >>> [round(progress.at(n), 3) for n in (0, 25, 50, 55, 60, 99)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
        >>> progress.end
        60
    """

    def __init__(self, records: Iterable[Record] = (Record(0, 0.0, _UNMEASURED),)) -> None:
        self.records = list(records)

    def at(self, step: int) -> float:
        """The share that is done after a number of steps; the last record that is not later counts."""
        number = bisect_right(self.records, step, key=lambda record: record.step)
        record = self.records[max(0, number - 1)]
        if step >= record.step + record.remaining:
            return 1.0
        return record.progress + (1.0 - record.progress) * (step - record.step) / record.remaining

    @property
    def end(self) -> int:
        """Number of steps after which the run is done."""
        return self.records[-1].step + self.records[-1].remaining

    @property
    def is_measured(self) -> bool:
        """Whether there is a plan that knows how long a step takes."""
        return len(self.records) > 1

    def add(self, record: Record) -> None:
        """Add the next plan."""
        self.records.append(record)

    def to_lists(self) -> list[list[Any]]:
        """The records as plain values."""
        return [list(record) for record in self.records]

    @classmethod
    def from_lists(cls, rows: Any) -> RunProgress:
        """What :meth:`to_lists` gave.

        Raises:
            ConfigError: If these are no records, or not in order.
        """
        try:
            records = [Record(int(step), float(progress), int(remaining)) for step, progress, remaining in rows]
        except (TypeError, ValueError, OverflowError):
            records = []
        steps = [record.step for record in records]
        sound = all(0 <= record.progress <= 1 and record.remaining > 0 for record in records)
        if not records or steps != sorted(steps) or steps[0] != 0 or not sound:
            raise ConfigError(
                "these are no records of a run with a budget",
                "each is a list: steps done, share done from 0 to 1, steps left; the first begins at step 0",
            )
        return cls(records)
