"""Short trainings that only their validation error is wanted of."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nequip_like.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from nequip_like.workflow.train import TrainingResult

PRINTED = "printed.log"


@dataclass(frozen=True)
class Trial:
    """A short training that was done.

    Attributes:
        label: What it tried.
        overrides: What it changed.
        seconds: How long it was meant to take; 0 if its length is a number of steps.
        error: The monitored value of its best weights, with a minus if large ones are good; infinite if it failed.
        problem: Why it failed; empty if it did not.
    """

    label: str
    overrides: tuple[str, ...]
    seconds: float
    error: float
    problem: str = ""

    def describe(self) -> str:
        """As a line."""
        result = f"validation error {self.error:.4g}" if not self.problem else f"failed: {self.problem}"
        return f"{self.label} ({self.seconds:.0f} s): {result}"


class TrialInterrupt(KeyboardInterrupt):
    """A signal ended a trial: nobody wants the rest of what it was part of.

    Args:
        number: The signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        self.number = number
        super().__init__(number.name)


def run_trial(
    label: str, overrides: Sequence[str], seconds: float, folder: Path, train: Callable[[], TrainingResult]
) -> Trial:
    """Train for a short time, and keep what it prints in a file of its folder.

    Args:
        label: What it tries.
        overrides: What it changes.
        seconds: How long it may take.
        folder: Its output folder.
        train: Trains with these overrides for this time, into this folder.

    Raises:
        TrialInterrupt: If a signal ended it.

    Returns:
        The trial; one that ends with an error of training (a rate that is too high) is a bad one, and no error here.
    """
    try:
        result = train_quietly(folder, train)
    except (ConfigError, TrainingError) as failure:  # such as a time that is too short for this model
        return Trial(label, tuple(overrides), seconds, math.inf, failure.message)
    error = math.inf if result.best is None else result.best * (-1 if result.larger_is_better else 1)
    return Trial(label, tuple(overrides), seconds, error, "" if math.isfinite(error) else "no finite validation error")


def train_quietly(folder: Path, train: Callable[[], TrainingResult]) -> TrainingResult:
    """Train, and keep what it prints in a file of its folder.

    Args:
        folder: Its output folder.
        train: Trains into this folder.

    Raises:
        TrialInterrupt: If a signal ended it.
    """
    with printed_to(folder / PRINTED):
        result = train()
    if result.stopped_by is not None:
        raise TrialInterrupt(result.stopped_by)
    return result


@contextlib.contextmanager
def printed_to(path: Path) -> Iterator[None]:
    """Keep what is printed meanwhile in a file, behind what it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as log, contextlib.redirect_stdout(log):
        yield


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the smallest error; None if all failed."""
    finite = [trial for trial in trials if not trial.problem]
    return min(finite, key=lambda trial: trial.error, default=None)
