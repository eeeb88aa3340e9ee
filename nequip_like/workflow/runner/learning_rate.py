"""What a run file says of the course of the learning rate, read once for all programs that train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nequip_like.errors import ConfigError

_OF_PLATEAU = ("lr_factor", "plateau_patience", "patience")
_OF_STEP = ("step_size", "gamma")


@dataclass(frozen=True)
class Schedule:
    """A schedule of the learning rate.

    Attributes:
        kind: ``plateau``, ``step``, or None for a learning rate that stays as it is.
        factor: What a plateau multiplies the learning rate with.
        patience: Evaluations without improvement that a plateau lets pass.
        step_size: Epochs, or cycles, between two steps.
        gamma: What a step multiplies the learning rate with.
    """

    kind: str | None
    factor: float = 0.8
    patience: int = 50
    step_size: int = 30
    gamma: float = 0.1

    @classmethod
    def read(cls, train: Mapping[str, Any]) -> Schedule | None:
        """Read the section ``train`` of a run; None if it says nothing of a schedule.

        Raises:
            ConfigError: If keys contradict each other.

        Example:
            >>> Schedule.read({"gamma": 0.5})
            Schedule(kind='step', factor=0.8, patience=50, step_size=30, gamma=0.5)
        """
        of_plateau, of_step = ([key for key in keys if key in train] for keys in (_OF_PLATEAU, _OF_STEP))
        if not ("scheduler" in train or of_plateau or of_step):
            return None
        kind = train.get("scheduler", "plateau" if of_plateau else "step")
        unused = {"plateau": of_step, "step": of_plateau}.get(kind, [*of_plateau, *of_step])
        if unused:
            raise ConfigError(
                f"train.{unused[0]} is given, but train.scheduler is {kind or 'null'}", "leave one of them out"
            )
        if {"patience", "plateau_patience"} <= train.keys() and train["patience"] != train["plateau_patience"]:
            raise ConfigError("train.patience and train.plateau_patience are both given", "give one of them")
        named = {"lr_factor": "factor", "plateau_patience": "patience"}
        return cls(kind, **{named.get(key, key): train[key] for key in (*of_plateau, *of_step)})

    def count_until_stop(self, train: Mapping[str, Any]) -> int:
        """Evaluations without improvement after which a training ends early; 0: it does not.

        Args:
            train: The section ``train`` of the run.

        Raises:
            ConfigError: If it counts in patiences, and there is no plateau.
        """
        factor = train.get("early_stop_factor", 0)
        if factor and self.kind != "plateau":
            raise ConfigError(
                "train.early_stop_factor counts in patiences of a plateau", "give train.scheduler: plateau"
            )
        return max(1, factor * self.patience) if factor else 0
