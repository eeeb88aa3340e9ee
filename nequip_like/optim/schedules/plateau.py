"""The schedule that follows a metric: smaller steps once it no longer falls."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class PlateauState:
    """What a plateau remembers.

    Attributes:
        reductions: How often the learning rate was reduced.
        best: Smallest value so far.
        bad: Values in a row that were no improvement.
        smoothed: The running mean of values; None before the first.
    """

    reductions: int = 0
    best: float = math.inf
    bad: int = 0
    smoothed: float | None = None


class Plateau:
    """Counts values that are no improvement; the rule is that of torch's ReduceLROnPlateau.

    Args:
        factor: What the learning rate is multiplied by.
        patience: So many values without improvement are let pass; the next one reduces the learning rate.
        threshold: Relative improvement that counts: a value below best * (1 - threshold).
        smoothing_factor: With a > 0 the values are a running mean first, a * mean + (1 - a) * value.

    Example:
        With patience 2, the third value in a row that is no improvement reduces the learning rate; NaN is none:

        >>> plateau = Plateau(factor=0.5, patience=2)
        >>> shares = []
        >>> for value in (1.0, 0.8, 0.9, math.nan, 0.8, 0.8):
        ...     plateau.follow(value)
        ...     shares.append(plateau.share)
        >>> shares
        [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]
    """

    def __init__(
        self, factor: float = 0.1, patience: int = 10, threshold: float = 1e-4, smoothing_factor: float = 0.0
    ) -> None:
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.smoothing_factor = smoothing_factor
        self.state = PlateauState()

    @property
    def share(self) -> float:
        """The learning rate as a share of the optimizer's."""
        return float(self.factor**self.state.reductions)

    def follow(self, value: float) -> None:
        """Take the next value; one that is not finite is no improvement."""
        state = self.state
        mean = self._update_mean(value)
        if mean < state.best * (1.0 - self.threshold):
            state.best, state.bad = mean, 0
        else:
            state.bad += 1
        if state.bad > self.patience:
            state.reductions, state.bad = state.reductions + 1, 0

    def _update_mean(self, value: float) -> float:
        if not math.isfinite(value):
            return math.inf  # it would stay in the mean for ever
        mean = value if self.state.smoothed is None else self.state.smoothed
        self.state.smoothed = self.smoothing_factor * mean + (1.0 - self.smoothing_factor) * value
        return self.state.smoothed

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values."""
        return asdict(self.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.state = PlateauState(**state)
