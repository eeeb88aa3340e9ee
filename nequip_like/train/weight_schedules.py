"""A callback that changes the weights of the loss over epochs or steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning

from nequip_like.arguments import check
from nequip_like.errors import ConfigError
from nequip_like.train.loss_callbacks import CoefficientCallback, loss_of, weighted
from nequip_like.train.metrics_manager import MetricsManager
from nequip_like.train.weight_functions import Interval, weight_function


class LossWeightSchedule(CoefficientCallback):
    """Changes weights (or coefficients) of the loss as functions of the epoch or of the number of optimizer steps.

    Each term has a ``kind``:

    - ``constant``: ``value``;
    - ``piecewise_constant``: ``value``, multiplied at each of ``boundaries: {100: 25.0}`` that was reached,
      cumulatively: 1 up to epoch 99, 25 from epoch 100 on;
    - ``linear``, ``cosine``: from ``from`` at ``start`` to ``to`` at ``end``.

    ``value`` and ``from`` are the configured weight if they are not given. Terms without a schedule keep theirs. With
    ``weights`` these are the weights that are used; with ``coeffs`` all are scaled to sum up to 1 afterwards.

    The weights depend on nothing but the epoch and the number of steps, so there is no state, and a resumed run has
    those that it would have had.

    Args:
        terms: Term (``forces_mse``, or ``forces``) -> its schedule.
        interval: What plain numbers count: ``epoch`` or ``step``. ``start: {steps: 1000}`` and ``end: {steps: 5000}``
            say it themselves.

    Raises:
        ConfigError: If a key is unknown or missing, or a value out of range.
    """

    def __init__(self, terms: Mapping[str, Mapping[str, Any]], interval: Interval = "epoch") -> None:
        check("interval of LossWeightSchedule", interval, Interval)
        if not terms:
            raise ConfigError(
                "LossWeightSchedule has no terms", "write terms: {forces: {kind: linear, to: 25, end: 100}}"
            )
        self.functions = {name: weight_function(name, entry, interval) for name, entry in terms.items()}
        self._by_steps = any(function.interval == "step" for function in self.functions.values())

    def check_loss(self, loss: MetricsManager) -> None:
        """Refuse terms that the loss does not have, or whose first weight nobody gave."""
        seen: dict[str, str] = {}
        for key, function in self.functions.items():
            name = loss.term_name(key, "terms of LossWeightSchedule")
            if name in seen:
                raise ConfigError(f"terms of LossWeightSchedule: '{seen[name]}' and '{key}' are the same", "keep one")
            seen[name] = key
            if function.uses_configured and loss.configured_coeffs[name] is None:
                raise ConfigError(
                    f"terms of LossWeightSchedule: '{key}' has no weight in the loss", "give from, or value"
                )

    def coefficients_at(self, epoch: int, step: int, loss: MetricsManager) -> dict[str, float]:
        """The coefficients in an epoch, after a number of optimizer steps."""
        return weighted(loss.scaled(self._weights(epoch, step, loss)))

    def _weights(self, epoch: int, step: int, loss: MetricsManager) -> dict[str, float | None]:
        weights = loss.configured_coeffs
        for key, function in self.functions.items():
            name = loss.term_name(key, "terms of LossWeightSchedule")
            weights[name] = function.at(epoch, step, weights[name] or 0.0)
        if not any(weights.values()):
            raise ConfigError(
                f"LossWeightSchedule: all weights are 0 in epoch {epoch}, step {step}", "keep one above 0"
            )
        return weights

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Set the weights of this epoch."""
        self._set(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Set the weights of this step."""
        if self._by_steps:
            self._set(trainer, pl_module)

    def _set(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        loss = loss_of(module, type(self).__name__)
        weights = self._weights(trainer.current_epoch, trainer.global_step, loss)
        if loss.scaled(weights) != loss.coeffs:
            loss.set_coeffs(weights)
