"""The plan of a run with a budget, with times that a machine might have: no clock is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from nequip_like.optim.schedules.progress import Progress
from nequip_like.training.budget.planner import BudgetPlanner, tolerance
from nequip_like.training.budget.reserve import Reserve


@dataclass
class Machine:
    """A run on a machine whose steps take what ``step_seconds`` says, with a validation after each epoch.

    Attributes:
        seconds: The budget.
        step_seconds: Seconds of a step, from its number.
        epoch: Steps of an epoch.
        validation: Seconds of a validation.
        report: Seconds of what comes after the last validation.
        began: Seconds before the first step.
    """

    seconds: float
    step_seconds: Callable[[int], float]
    epoch: int = 200
    validation: float = 0.5
    report: float = 2.0
    began: float = 5.0

    def run(self) -> Outcome:
        progress = Progress()
        planner = BudgetPlanner(self.seconds, progress, Reserve(val_atoms=100), self.epoch)
        used, step, paused = self.began, 0, False
        shares = []
        while step < progress.end:
            shares.append(progress.at(step))
            used += self.step_seconds(step)
            step += 1
            planner.see_step(step, used, paused)
            paused = False
            if planner.is_due(step, used):
                progress.add(planner.plan(step, used))
            if step % self.epoch == 0 and step < progress.end:
                used += self.validation
                planner.validation_seconds = self.validation
                paused = True
        return Outcome(used + self.validation + self.report, step, shares, progress)


@dataclass
class Outcome:
    used: float
    steps: int
    shares: list[float]
    progress: Progress


def is_annealed(outcome: Outcome) -> bool:
    """The share of the run grows at each step, without a leap, and the last step is taken near its end."""
    leaps = [after - before for before, after in zip(outcome.shares, outcome.shares[1:], strict=False)]
    return (
        min(leaps) > 0.0
        and max(leaps) <= 0.06
        and outcome.shares[-1] > 0.94
        and outcome.progress.at(outcome.steps) == 1.0
    )


def slower_from(step: int, factor: float, usual: float = 0.03) -> Callable[[int], float]:
    return lambda n: usual if n < step else usual * factor


def with_pause(at: int, pause: float, usual: float = 0.03) -> Callable[[int], float]:
    return lambda n: pause if n == at else usual


def alternating(n: int) -> float:
    """Others use the machine for 30 s, and leave it alone for 30 s."""
    return 0.06 if (n // 700) % 2 else 0.03


MACHINES = {
    "steady": Machine(120.0, lambda n: 0.03),
    "a slow first step": Machine(120.0, lambda n: 20.0 if n == 0 else 0.03),
    "half an hour": Machine(1800.0, lambda n: 0.1, epoch=1000, validation=5.0),
    "twice as slow from the middle on": Machine(120.0, slower_from(1500, 2.0)),
    "twice as slow near the end": Machine(120.0, slower_from(2900, 2.0)),
    "twice as fast from the middle on": Machine(120.0, slower_from(1500, 0.5)),
    "a pause of 20 s": Machine(120.0, with_pause(1500, 20.0)),
    "a pause of 20 s near the end": Machine(120.0, with_pause(2500, 20.0)),
    "a long validation": Machine(120.0, lambda n: 0.03, epoch=500, validation=15.0),
    "an epoch that does not end": Machine(120.0, lambda n: 0.03, epoch=100_000),
    "short epochs": Machine(120.0, lambda n: 0.03, epoch=3, validation=0.2),
    "others come and go": Machine(600.0, alternating),
    "steps of 2 s": Machine(300.0, lambda n: 2.0, epoch=30, validation=6.0),
}


@pytest.mark.parametrize("name", list(MACHINES))
def test_a_run_ends_annealed_within_its_tolerance(name):
    machine = MACHINES[name]
    outcome = machine.run()
    assert abs(outcome.used - machine.seconds) <= tolerance(machine.seconds)
    assert is_annealed(outcome)


def test_a_run_that_is_out_of_time_anneals_within_a_few_steps():
    """A minute is lost when 30 s are left: it ends after 20 steps more, and not later with each plan."""
    outcome = Machine(120.0, with_pause(2500, 60.0)).run()
    assert outcome.steps < 2500 + 1 + 100
    assert outcome.progress.at(outcome.steps) == 1.0
    assert outcome.shares[-1] > 0.9
