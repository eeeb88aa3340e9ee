"""The models that come into question, from small to large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nequip_like.auto.settings import Setting
from nequip_like.auto.step_time import StepTime

LEAST_STEPS = 1500  # with fewer a smaller model is better
_MOST_COMPARED = 3


@dataclass(frozen=True)
class Candidate:
    """A model.

    Attributes:
        name: In words.
        settings: ``{key of model: value}``.
    """

    name: str
    settings: Mapping[str, str]

    @property
    def overrides(self) -> list[str]:
        """As they are typed."""
        return [f"model.{key}={value}" for key, value in self.settings.items()]

    def choose(self, reason: str) -> list[Setting]:
        """Make settings of it; the reason stands beside the first one."""
        reasons = {next(iter(self.settings)): reason}
        return [Setting(f"model.{key}", value, reasons.get(key, "")) for key, value in self.settings.items()]


def _make(l_max: int, features: int) -> Candidate:
    settings = {"l_max": str(l_max), "parity": "false", "num_features": str(features)}
    return Candidate(f"l={l_max}, {features} features", settings)


USUAL = _make(2, 32)
CANDIDATES = (_make(1, 32), USUAL, _make(2, 64), _make(3, 64))


def list_worth_trying(times: Mapping[str, StepTime], seconds: float) -> list[Candidate]:
    """List the models that learn something in a time, the largest first; of too many the largest ones.

    Args:
        times: Times of a step, by the candidates' names; those that were not measured do not come into question.
        seconds: The time.

    Example:
        >>> times = {c.name: StepTime(0.01 * (i + 1), 1000) for i, c in enumerate(CANDIDATES)}
        >>> [candidate.name for candidate in list_worth_trying(times, 50.0)]
        ['l=2, 64 features', 'l=2, 32 features', 'l=1, 32 features']
        >>> [candidate.name for candidate in list_worth_trying(times, 1.0)]
        ['l=1, 32 features']
    """
    measured = [candidate for candidate in CANDIDATES if candidate.name in times]
    fitting = [candidate for candidate in measured if times[candidate.name].count_steps(seconds) >= LEAST_STEPS]
    return list(reversed(fitting))[:_MOST_COMPARED] or measured[:1]


def choose_without_trial(times: Mapping[str, StepTime], seconds: float) -> tuple[Candidate, str]:
    """Choose a model by the number of steps that it gets: the usual one, or the smallest.

    Args:
        times: Times of a step, by the candidates' names, the usual model among them.
        seconds: The time.

    Returns:
        The candidate, and why.
    """
    steps = times[USUAL.name].count_steps(seconds)
    if steps >= LEAST_STEPS:
        return USUAL, f"{steps:,} steps of {1000 * times[USUAL.name].seconds:.3g} ms fit into the time"
    smallest = CANDIDATES[0]
    return smallest, f"{USUAL.name} would get no more than {steps:,} steps"
