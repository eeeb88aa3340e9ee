"""What callbacks that change the coefficients of the loss have in common."""

from __future__ import annotations

from collections.abc import Mapping

import lightning

from nequip_like.errors import ConfigError
from nequip_like.metrics.manager import MetricsManager

Coefficients = Mapping[str, float | None]


class CoefficientCallback(lightning.Callback):
    """Base class: sets coefficients of the loss in the course of a run; each run has one at most."""

    def check_loss(self, loss: MetricsManager) -> None:
        """Refuse terms that the loss does not have.

        Raises:
            ConfigError: Naming the term.
        """
        raise NotImplementedError

    def coefficients_at(self, epoch: int, step: int, loss: MetricsManager) -> dict[str, float] | None:
        """The coefficients that a run has at a point of its course, without looking at how it got there.

        Args:
            epoch: The epoch, from 0 on.
            step: Number of optimizer steps that were taken before.
            loss: The loss as it was configured.

        Returns:
            Name of each term with a coefficient -> the coefficient as it is used; None if nobody can know beforehand.

        Raises:
            ConfigError: If a term is unknown.
        """
        raise NotImplementedError

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Before the first step, refuse names that the loss does not have, and others that set its coefficients."""
        loss = find_loss(pl_module, type(self).__name__)
        callbacks = [
            callback for callback in getattr(trainer, "callbacks", ()) if isinstance(callback, CoefficientCallback)
        ]
        check_together(callbacks or [self], loss)


def check_together(callbacks: list[CoefficientCallback], loss: MetricsManager) -> None:
    """Refuse callbacks that do not fit the loss, or each other.

    Raises:
        ConfigError: Naming the term, or both callbacks.
    """
    names = [type(callback).__name__ for callback in callbacks]
    if len(callbacks) > 1:
        raise ConfigError(
            f"the callbacks {' and '.join(names)} all set the coefficients of the loss",
            "take one of them; a LossWeightSchedule takes all terms",
        )
    for callback in callbacks:
        callback.check_loss(loss)


def find_loss(module: lightning.LightningModule, callback_name: str) -> MetricsManager:
    """The loss of a module.

    Raises:
        ConfigError: If it has none; ``callback_name`` needs it.
    """
    loss = getattr(module, "loss", None)
    if not isinstance(loss, MetricsManager):
        raise ConfigError(
            f"{callback_name} needs training_module.loss", "for example nequip_like.metrics.EnergyForceLoss"
        )
    return loss


def select_weighted(coeffs: Coefficients) -> dict[str, float]:
    """Coefficients without the terms that are only observed."""
    return {name: coeff for name, coeff in coeffs.items() if coeff is not None}
