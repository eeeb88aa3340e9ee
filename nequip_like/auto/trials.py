"""Short trainings that only their validation error is wanted of."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nequip_like.errors import ConfigError, TrainingError
from nequip_like.workflow.train import TrainingResult

Train = Callable[[Sequence[str], float], TrainingResult]


@dataclass(frozen=True)
class Trial:
    """A short training that was done.

    Attributes:
        label: What it tried.
        overrides: What it changed.
        seconds: How long it was meant to take.
        error: The monitored value of its best weights; infinite if it failed.
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


def run_trial(label: str, overrides: Sequence[str], seconds: float, folder: Path, train: Train) -> Trial:
    """Train for a short time, and keep what it prints in a file of its folder.

    Args:
        label: What it tries.
        overrides: What it changes.
        seconds: How long it may take.
        folder: Its output folder.
        train: Trains with overrides for a time.

    Raises:
        KeyboardInterrupt: If a signal ended it: nobody wants the rest of the search then.

    Returns:
        The trial; one that ends with an error of training (a rate that is too high) is a bad one, and no error here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [*overrides, f"output_dir={folder}", "run=[train]", "report.format=[]"]
    with (folder / "printed.log").open("w") as log, contextlib.redirect_stdout(log):
        try:
            result = train(arguments, seconds)
        except (ConfigError, TrainingError) as failure:  # such as a time that is too short for this model
            return Trial(label, tuple(overrides), seconds, math.inf, failure.message)
    if result.stopped_by is not None:
        raise KeyboardInterrupt
    error = math.inf if result.best is None else result.best
    return Trial(label, tuple(overrides), seconds, error, "" if math.isfinite(error) else "no finite validation error")


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the smallest error; None if all failed."""
    finite = [trial for trial in trials if not trial.problem]
    return min(finite, key=lambda trial: trial.error, default=None)
