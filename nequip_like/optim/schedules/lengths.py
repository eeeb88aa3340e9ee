"""Lengths of schedules: in epochs, optimizer steps or as a share of the run; and the length of a run itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nequip_like.arguments import Count, Positive, fits, shown
from nequip_like.errors import ConfigError
from nequip_like.optim.schedules.progress import Progress

# A number of epochs, {epochs: ...}, {steps: ...} or {share: ...}.
Length = float | Mapping[str, Any]
_ADVICE = "give a number of epochs, {epochs: 10}, {steps: 790} or a share of the run, {share: 0.1}"


@dataclass(frozen=True)
class RunLength:
    """How long a run is.

    Args:
        steps_per_epoch: Optimizer steps of an epoch; None if nobody can tell.
        epochs: Largest number of epochs; None for no limit.
        steps: Largest number of optimizer steps; None for no limit.
        progress: What a run with a budget of time goes by; its number of steps is not known beforehand.

    Example:
        The limit that is reached first ends the run:

        >>> RunLength(steps_per_epoch=79, epochs=10, steps=500).total
        500
        >>> print(RunLength(steps_per_epoch=79).total)
        None
    """

    steps_per_epoch: int | None = None
    epochs: int | None = None
    steps: int | None = None
    progress: Progress | None = None

    @property
    def total(self) -> int | None:
        """Optimizer steps of the whole run; None if it has no end, or one that is a matter of time."""
        if self.progress is not None:
            return None
        limits = [] if self.steps is None else [self.steps]
        if self.epochs is not None and self.steps_per_epoch is not None:
            limits.append(self.epochs * self.steps_per_epoch)
        return min(limits, default=None)

    def share_at(self, step: int) -> float:
        """The share of the run that is done after a number of optimizer steps.

        Args:
            step: The number of steps.

        Raises:
            ConfigError: If the run has no end.

        Example:
            >>> RunLength(steps=200).share_at(50)
            0.25
        """
        if self.progress is not None:
            return self.progress.at(step)
        if self.total is None:
            raise ConfigError(
                "a share of the run is asked for, but the run has no end, or nobody knows its number of steps",
                "give trainer.max_steps, or budget: 30min",
            )
        return min(1.0, step / max(1, self.total))


def check_length(name: str, length: Any) -> None:
    """Refuse what is no length.

    Args:
        name: Name of the argument, for messages.
        length: A number of epochs, ``{"epochs": ...}``, ``{"steps": ...}`` or ``{"share": ...}``.

    Raises:
        ConfigError: If it is something else.
    """
    unit, number = _split_length(length)
    if unit not in ("epochs", "steps", "share") or not fits(number, Positive):
        raise ConfigError(f"{name} is {shown(length)}", _ADVICE)
    if unit == "share" and number > 1:
        raise ConfigError(f"{name} is the share {shown(number)} of the run", "give a number above 0, 1 at most")
    if unit == "steps" and not fits(number, Count):
        raise ConfigError(f"{name} has {shown(number)} steps", "give a whole number, 1 or more")


def in_epochs(length: Length) -> bool:
    """Whether a length is given in epochs."""
    return _split_length(length)[0] == "epochs"


def as_share(length: Length) -> float | None:
    """The share of the run that a length is; None if it is given in epochs or steps."""
    unit, number = _split_length(length)
    return float(number) if unit == "share" else None


def in_steps(name: str, length: Length, run: RunLength) -> int:
    """A length in whole optimizer steps, the nearest number from 1 up.

    Args:
        name: Name of the argument, for messages.
        length: The length, checked.
        run: The run.

    Raises:
        ConfigError: If it is in epochs, and the epochs of the run have no fixed number of steps; if it is a share of a
            run without an end.

    Example:
        >>> run = RunLength(steps_per_epoch=79)
        >>> in_steps("T_max", 10, run), in_steps("T_max", {"epochs": 0.5}, run), in_steps("T_max", {"steps": 100}, run)
        (790, 40, 100)
    """
    unit, number = _split_length(length)
    if unit == "steps":
        return int(number)
    if unit == "share":
        if run.total is None:
            raise ConfigError(
                f"{name} is a share of the run, which has no end, or whose number of steps nobody knows",
                f"give trainer.max_steps, or a budget of time, or {name}: {{steps: 1000}}",
            )
        return max(1, round(number * run.total))
    if run.steps_per_epoch is None:
        raise ConfigError(
            f"{name} is given in epochs, but the run's epochs have no fixed number of steps",
            f"give it in steps: {name}: {{steps: 1000}}",
        )
    return max(1, round(number * run.steps_per_epoch))


def _split_length(length: Any) -> tuple[str, Any]:
    if isinstance(length, Mapping):
        return next(iter(length.items())) if len(length) == 1 else ("", None)
    return "epochs", length
