"""How many steps fit into the time that is left. All times are passed in: nothing here looks at a clock."""

from __future__ import annotations

import math
import statistics
from collections import deque

from nequip_like.optim.schedules.progress import Progress, Record
from nequip_like.training.budget.reserve import Reserve

_WARM_STEPS = 2  # of each process: they compile, fill caches and ask for memory
_FIRST_STEPS = 3  # measured before the first plan
_SHARE_OF_BUDGET = 0.02  # after so much time, or so much of what is left, a new plan is made
_SHARE_OF_REST = 0.1
_SHORTEST = 0.25  # seconds between two plans
_OUTLIER = 5.0  # a step counts as so many usual ones at most: the machine was busy, or asleep
_LEAST_STEPS = 20  # over which a run that is out of time is annealed, if they take less than a quarter of the tolerance
_FEWEST = 10  # a whole run of fewer steps is none


def tolerance(seconds: float) -> float:
    """How far from the end of its budget a run may end, in seconds."""
    return max(5.0, 0.02 * seconds)


class BudgetPlanner:
    """Plans the rest of a run, again and again, out of the times that its steps took.

    Args:
        seconds: The budget.
        progress: The records; :meth:`plan` continues them.
        reserve: The work after the last step.
        cycle: Steps from one pause (validation, end of an epoch) to the next; None if nobody knows before the second.

    Attributes:
        step_seconds: Time of a step, without pauses; None before it is known.
        validation_seconds: Time of the last validation; None before the first.
        contention: Seconds that go by for one of processor time.

    Example:
        Steps of 0.1 s, a budget of 102.5 s and 2.5 s for the work after them:

        >>> planner = BudgetPlanner(102.5, Progress(), Reserve(val_atoms=10))
        >>> for step in range(6):
        ...     planner.see_step(step, used=0.1 * step)
        >>> planner.validation_seconds = 0.5
        >>> planner.is_due(5, used=0.5)
        True
        >>> planner.plan(5, used=0.5).remaining
        995
    """

    def __init__(
        self, seconds: float, progress: Progress, reserve: Reserve | None = None, cycle: int | None = None
    ) -> None:
        self.seconds = seconds
        self.progress = progress
        self.reserve = reserve or Reserve()
        self.step_seconds: float | None = None
        self.validation_seconds: float | None = None
        self.contention = 1.0
        self._cycle = cycle
        self._seen = 0
        self._last_used: float | None = None
        self._recent: list[float] = []  # times of steps since the last plan
        self._pauses: deque[float] = deque(maxlen=3)
        self._pause_step: int | None = None
        self._planned_at: float | None = None
        self._began = math.inf

    # --- what is seen

    def see_step(self, step: int, used: float, paused: bool = False) -> None:
        """Take note of a step.

        Args:
            step: Number of optimizer steps that are done.
            used: Seconds of the budget that are used up.
            paused: Whether there was a validation or an end of an epoch between the step before and this one.
        """
        last, self._last_used = self._last_used, used
        self._seen += 1
        if last is None or self._seen <= _WARM_STEPS:
            return
        self._began = min(self._began, last)
        if not paused:
            self._recent.append(used - last)
            return
        usual = self.step_seconds or (statistics.median(self._recent) if self._recent else 0.0)
        self._pauses.append(max(0.0, used - last - usual))
        if self._pause_step is not None:
            self._cycle = max(1, step - self._pause_step)
        self._pause_step = step

    # --- plans

    def is_due(self, step: int, used: float) -> bool:
        """Whether it is time for a new plan; never when the run is done."""
        if step >= self.progress.end:
            return False
        if self._planned_at is None:
            return len(self._recent) >= _FIRST_STEPS
        left = max(0.0, self.seconds - self.reserved() - used)
        # Early plans know little: each comes after twice the time of the one before.
        wait = min(_SHARE_OF_BUDGET * self.seconds, _SHARE_OF_REST * left, used - self._began)
        return bool(self._recent) and used - self._planned_at >= max(_SHORTEST, wait)

    def reserved(self) -> float:
        """Seconds that are set aside for what comes after the last step."""
        return self.reserve.estimate(self.step_seconds or 0.0, self.validation_seconds, self.contention)

    def plan(self, step: int, used: float) -> Record:
        """Plan the rest of the run, out of what was seen; the record is not added yet.

        Args:
            step: Number of optimizer steps that are done.
            used: Seconds of the budget that are used up.
        """
        self._measure()
        self._planned_at = used
        return Record(step, self.progress.at(step), self._count_left(step, used, self.progress.end - step))

    def begin_again(self, step: int, used: float, other_budget: bool) -> Record | None:
        """The first plan of a run that goes on; None if the plan that it had is as good.

        Args:
            step: Number of optimizer steps that were done.
            used: Seconds that they took, with all that was around them.
            other_budget: Whether the budget is another one now. The share that is done is then that of the new one.
        """
        if not other_budget or not step:
            return None
        self.step_seconds = used / step
        share = used / self.seconds
        progress = share if share < 1.0 else self.progress.at(step)
        return Record(step, progress, self._count_left(step, used, _LEAST_STEPS))

    def complain(self, record: Record) -> str | None:
        """Why the budget is too short for a run that begins with this plan; None if it is not."""
        reserve, total = self.reserved(), record.step + record.remaining
        fits = self._planned_at is not None and self._planned_at + reserve < self.seconds
        if fits and total >= _FEWEST and reserve <= self.seconds / 2:
            return None
        usual = self.step_seconds or 0.0
        return (
            f"too short to train: {self._planned_at or 0.0:.0f} s went by before the steps could be measured, a step "
            f"takes {1000 * usual:.0f} ms, and validation, test and export at the end will take {reserve:.0f} s"
        )

    def least_budget(self) -> float:
        """Seconds from which on :meth:`complain` would not, rounded up to tens."""
        began, reserve = self._planned_at or 0.0, self.reserved()
        least = max(2.0 * reserve, began + reserve + 10 * _FEWEST * (self.step_seconds or 0.0))
        return 10.0 * math.ceil(least / 10.0)

    def _measure(self) -> None:
        """Mix the times of the last steps into what a step takes."""
        if not self._recent:
            return
        longest = _OUTLIER * statistics.median(self._recent)
        recent = statistics.fmean(min(seconds, longest) for seconds in self._recent)
        self.step_seconds = recent if self.step_seconds is None else 0.5 * (self.step_seconds + recent)
        self._recent = []

    def _count_left(self, step: int, used: float, planned: int) -> int:
        """Steps that are left: what fits; if next to nothing does, a few to anneal in, of those that were planned."""
        fits = self._fit(step, self.seconds - self.reserved() - used)
        seconds = 0.25 * tolerance(self.seconds)
        few = min(_LEAST_STEPS, int(seconds / max(self.step_seconds or 0.0, 1e-9)))
        # Never more than were planned: each plan would put the end off by these few.
        return max(fits, min(few, planned), 1)

    def _fit(self, step: int, left: float) -> int:
        """How many steps fit into the time that is left, with the pauses that come up between them."""
        usual = max(self.step_seconds or 0.0, 1e-9)
        if self._cycle is None:
            return int(left / usual)
        pause = statistics.fmean(self._pauses) if self._pauses else self._guess_pause()
        # The pause that was seen at a step came before it, so one lies between the last step of a cycle and the next.
        began = 0 if self._pause_step is None else self._pause_step - 1
        to_next = self._cycle - (step - began) % self._cycle
        if left <= to_next * usual + pause:
            return min(int(left / usual), to_next)
        left -= to_next * usual + pause
        cycles, rest = divmod(left, self._cycle * usual + pause)
        return int(to_next + cycles * self._cycle + min(self._cycle, rest / usual))

    def _guess_pause(self) -> float:
        one = Reserve(self.reserve.step_atoms, self.reserve.val_atoms)
        return one.estimate(self.step_seconds or 0.0, self.validation_seconds) - one.estimate(0.0, 0.0)
