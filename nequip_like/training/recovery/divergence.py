"""Whether a run leaves its own recent range by far: losses, gradient norms and validation errors as they come.

One hot batch is no divergence, and losses of batches differ by orders of magnitude where frames do. What is looked at
is therefore the median of each ten steps, beside the medians of the two hundred steps before. All of it is of plain
numbers, which are there already when a step is judged, and costs a microsecond a step.

What is found here is a suspicion: weights of a loss that change, or data of another kind, look the same. The module
that trains settles it by a comparison with the last good weights on the very batch
(:mod:`~nequip_like.training.recovery.recovering_module`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from statistics import median
from typing import Annotated, Any, Literal

from nequip_like.arguments import Count, Range, check, check_known_keys, shown
from nequip_like.errors import ConfigError

Action = Literal["rollback", "warn", "ignore"]
_KEY = "on_divergence"

BLOCK = 10  # steps whose median counts: a few hot batches do not move it
RANGE = 20  # such medians make the recent range
LEAST = 5  # with fewer, training has only begun, and losses rise and fall by a factor of ten
# How far above the median of the recent range a block may be, in decades. Where the blocks themselves differ, it is so
# many times their mean distance from the median, if that is more.
MARGINS = {"loss": 0.7, "gradient norm": 1.0}
SPREADS = 6.0
LARGEST = 2.0  # and never more than this, which is what counts while the range has only begun
# A good moment is at most so many decades above the median, a factor of two, or so many of these distances.
CALM = 0.3
LATEST = 3  # so many steps of a block that is not full yet count there
CALM_SPREADS = 2.0

WORSE = 3.0  # a validation error is far above the best from this factor on
IN_A_ROW = 3  # so many of them count
GOOD = 2.0  # up to this factor above the best the weights are good to come back to


@dataclass(frozen=True)
class DivergenceSettings:
    """What is done when a run leaves its range.

    Args:
        action: ``rollback``: go back to the last good weights, with a lower learning rate; ``warn``: say so and go
            on; ``ignore``: do not look.
        max_rollbacks: After so many the run ends.
        rate_factor: What each multiplies the learning rate by. Each further one to the same weights counts once more:
            the square, the cube, ...
    """

    action: Action = "rollback"
    max_rollbacks: int = 5
    rate_factor: float = 0.5

    @classmethod
    def of(cls, config: Any) -> DivergenceSettings:
        """Read the argument ``on_divergence`` of a Lightning module.

        Args:
            config: The action, or ``{action: rollback, max_rollbacks: 5, rate_factor: 0.5}``, any of them.

        Raises:
            ConfigError: If it is something else, or a value is out of range.

        Example:
            >>> DivergenceSettings.of("warn").action, DivergenceSettings.of({"rate_factor": 0.1}).max_rollbacks
            ('warn', 5)
        """
        settings = {"action": config} if isinstance(config, str) else config
        if not isinstance(settings, Mapping):
            raise ConfigError(f"{_KEY} is {shown(config)}", "give rollback, warn or ignore, or a mapping with settings")
        check_known_keys(_KEY, settings, [field.name for field in fields(cls)])
        annotations: dict[str, Any] = {
            "action": Action,
            "max_rollbacks": Count,
            "rate_factor": Annotated[float, Range(low=0, high=1, low_open=True, high_open=True)],
        }
        for key, value in settings.items():
            check(_KEY if isinstance(config, str) else f"{_KEY}.{key}", value, annotations[key])
        return cls(**settings)


class _Levels:
    """Decimal logarithms of the medians of blocks of one quantity, the newest last.

    Args:
        margin: How far above its range a block may be, in decades, once there is a range.
    """

    def __init__(self, margin: float) -> None:
        self.margin = margin
        self.values: list[float] = []
        self._block: list[float] = []

    @property
    def usual(self) -> float:
        """The median of the recent range."""
        return median(self.values)

    @property
    def spread(self) -> float:
        """Mean distance of the recent range's blocks from their median."""
        usual = self.usual
        return sum(abs(value - usual) for value in self.values) / len(self.values)

    @property
    def limit(self) -> float:
        """What a block must not exceed."""
        few = len(self.values) < LEAST
        return self.usual + (LARGEST if few else min(max(self.margin, SPREADS * self.spread), LARGEST))

    @property
    def calm(self) -> bool:
        """Whether the last block, and the last steps of the present one, are near the median of the range."""
        if not self.values:
            return True
        latest = [_log(median(self._block[-LATEST:]))] if self._block else []
        highest = max([self.values[-1], *latest])
        return highest <= self.usual + max(CALM, CALM_SPREADS * self.spread)

    def see(self, value: float) -> tuple[float, float] | None:
        """Take a step; at the end of a block that is out of range, where it was and where it is."""
        self._block.append(value)
        if not self.values:
            self.values.append(_log(value))  # before it there is nothing: the first step stands for untrained weights
        if len(self._block) < BLOCK:
            return None
        level = _log(median(self._block))
        self._block.clear()
        if level > self.limit:
            before = self.usual
            return before, level
        self.values = [*self.values[1 - RANGE :], level]
        return None

    def begin_at(self, values: list[float]) -> None:
        """Go on with an earlier range."""
        self.values, self._block = list(values), []

    def state_dict(self) -> dict[str, list[float]]:
        """Plain values."""
        return {"values": self.values, "block": list(self._block)}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Go on from a state."""
        self.values, self._block = list(state["values"]), list(state["block"])


class DivergenceWatch:
    """Follows the steps and validations of one run.

    Example:
        Fifty steps with losses around 0.01; a single hot batch does nothing, ten do:

        >>> watch = DivergenceWatch()
        >>> quiet = [watch.see_step(0.01 + 0.001 * (step % 3), 1.0) for step in range(50)]
        >>> hot = [watch.see_step(1e6 if step == 4 else 0.01, 1.0) for step in range(10)]
        >>> set(quiet + hot)
        {None}
        >>> print([watch.see_step(2.5, 1.0) for step in range(10)][-1])
        the loss rose from 0.011 to 2.5 (median of 10 steps)
    """

    def __init__(self) -> None:
        self._levels = {name: _Levels(margin) for name, margin in MARGINS.items()}
        self.best: float | None = None
        self._level_at_best = 0.0
        self._bad = 0
        self._validation_is_good = True

    # --- steps

    def see_step(self, loss: float, norm: float) -> str | None:
        """Take the next step.

        Args:
            loss: Of the whole step, of all processes.
            norm: Euclidean norm of the gradient, before it is clipped; 0 where it is not known.

        Returns:
            What rose, from what to what; None as long as all is well.
        """
        losses, norms = self._levels.values()
        # Both always: their blocks end together.
        jumps = {"loss": losses.see(loss), "gradient norm": norms.see(norm) if norm > 0.0 else None}
        for name, jump in jumps.items():
            if jump is not None:
                before, now = (10.0**level for level in jump)
                return f"the {name} rose from {before:.3g} to {now:.3g} (median of {BLOCK} steps)"
        return None

    @property
    def calm(self) -> bool:
        """Whether errors are where they have been, of steps and validations: the weights are good to come back to."""
        return self._levels["loss"].calm and self._validation_is_good

    def forget(self) -> None:
        """Begin with a new range: what was suspected is how it is now."""
        for levels in self._levels.values():
            levels.begin_at([])

    def get_range(self) -> dict[str, list[float]]:
        """The recent range, to be kept with weights."""
        return {name: list(levels.values) for name, levels in self._levels.items()}

    def set_range(self, kept: Mapping[str, list[float]]) -> None:
        """Go on with the range of the weights that came back."""
        for name, levels in self._levels.items():
            levels.begin_at(kept[name])
        self._bad, self._validation_is_good = 0, True

    # --- validations

    def see_validation(self, value: float) -> str | None:
        """Take the error of a validation.

        Args:
            value: Smaller is better.

        Returns:
            What rose; None as long as all is well. An error far above the best counts if it is so several times in a
            row, and if the losses of steps have risen as well.
        """
        levels = self._levels["loss"]
        usual = levels.usual if levels.values else 0.0
        self._validation_is_good = math.isfinite(value) and (self.best is None or value <= GOOD * self.best)
        if math.isfinite(value) and (self.best is None or value < self.best):
            self.best, self._level_at_best, self._bad = value, usual, 0
            return None
        if self.best is None or (math.isfinite(value) and value <= WORSE * self.best):
            self._bad = 0
            return None
        self._bad += 1
        if self._bad < IN_A_ROW or usual <= self._level_at_best + CALM:
            return None
        self._bad = 0
        return f"the validation error rose from {self.best:.3g} to {value:.3g}"

    # --- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "levels": {name: level.state_dict() for name, level in self._levels.items()},
            "best": self.best,
            "level_at_best": self._level_at_best,
            "bad": self._bad,
            "validation_is_good": self._validation_is_good,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        for name, level in self._levels.items():
            level.load_state_dict(state["levels"][name])
        self.best, self._level_at_best, self._bad = state["best"], state["level_at_best"], state["bad"]
        self._validation_is_good = state["validation_is_good"]


def _log(value: float) -> float:
    return math.log10(max(value, 1e-300))
