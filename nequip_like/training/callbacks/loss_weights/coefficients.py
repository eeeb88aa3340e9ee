"""Callbacks that watch the coefficients of the loss, and that set them at given epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import lightning

from nequip_like.errors import ConfigError
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.terms import check_coefficient
from nequip_like.training.callbacks.loss_weights.base import (
    CoefficientCallback,
    Coefficients,
    find_loss,
    select_weighted,
)
from nequip_like.training.callbacks.loss_weights.schedule import LossWeightSchedule
from nequip_like.training.callbacks.loss_weights.softadapt import SoftAdapt

__all__ = [
    "LinearLossCoefficientScheduler",
    "LossCoefficientMonitor",
    "LossCoefficientScheduler",
    "LossWeightSchedule",
    "SoftAdapt",
]


class LossCoefficientMonitor(lightning.Callback):
    """Logs the coefficients of the loss as ``loss_coeff/NAME``.

    Args:
        interval: ``epoch`` or ``batch``.
        frequency: At every n-th of these.

    Raises:
        ConfigError: If an argument is something else.
    """

    def __init__(self, interval: Literal["epoch", "batch"] = "epoch", frequency: int = 1) -> None:
        if interval not in ("epoch", "batch"):
            raise ConfigError(f"interval of LossCoefficientMonitor is {interval!r}", "write epoch or batch")
        if frequency < 1:
            raise ConfigError(f"frequency of LossCoefficientMonitor is {frequency}", "give 1 or more")
        self.interval = interval
        self.frequency = frequency

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Log after a batch."""
        if self.interval == "batch" and trainer.global_step % self.frequency == 0:
            self._log(pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log after an epoch."""
        if self.interval == "epoch" and trainer.current_epoch % self.frequency == 0:
            self._log(pl_module)

    def _log(self, module: lightning.LightningModule) -> None:
        for name, coeff in find_loss(module, type(self).__name__).coeffs.items():
            if coeff is not None:
                module.log(f"loss_coeff/{name}", coeff)


class LossCoefficientScheduler(CoefficientCallback):
    """Sets the coefficients of the loss at the start of some epochs.

    They stay until the next change; checkpoints keep them, so a resumed run has those that it would have had.

    Args:
        schedule: ``{epoch: {NAME: coefficient}}``; terms that are not named are only observed. Coefficients are scaled
            to sum up to 1, unless the loss has ``weights``.

    Raises:
        ConfigError: If an epoch or a coefficient is no number from 0 up.

    Example:
        >>> from nequip_like.metrics import EnergyForceLoss
        >>> callback = LossCoefficientScheduler({100: {"total_energy": 9.0, "forces": 1.0}})
        >>> [callback.coefficients_at(epoch, 0, EnergyForceLoss())["per_atom_energy_mse"] for epoch in (0, 99, 100)]
        [0.5, 0.5, 0.9]
    """

    alone = False

    def __init__(self, schedule: Mapping[int | str, Coefficients]) -> None:
        if not schedule:
            raise ConfigError("LossCoefficientScheduler has an empty schedule", "write {100: {forces_mse: 1.0}}")
        self.schedule = {_read_epoch(epoch): dict(coeffs) for epoch, coeffs in schedule.items()}
        for coeffs in self.schedule.values():
            _check_sum(coeffs, "LossCoefficientScheduler")

    def check_loss(self, loss: MetricsManager) -> None:
        """Refuse names that the loss does not have."""
        for coeffs in self.schedule.values():
            _resolve_names(coeffs, loss, "schedule of LossCoefficientScheduler")

    def coefficients_at(self, epoch: int, step: int, loss: MetricsManager) -> dict[str, float]:
        """The coefficients in an epoch: those of the last change, or else the configured ones."""
        changes = [change for change in self.schedule if change <= epoch]
        coeffs = self._select_coefficients(max(changes), loss) if changes else loss.configured_coeffs
        return select_weighted(loss.scaled(coeffs))

    def _select_coefficients(self, epoch: int, loss: MetricsManager) -> Coefficients:
        return _resolve_names(self.schedule[epoch], loss, "schedule of LossCoefficientScheduler")

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Set the coefficients, if they change at this epoch."""
        if trainer.current_epoch in self.schedule:
            loss = find_loss(pl_module, type(self).__name__)
            loss.set_coeffs(self._select_coefficients(trainer.current_epoch, loss))


class LinearLossCoefficientScheduler(CoefficientCallback):
    """Moves the coefficients of the loss linearly from what they are to what they shall be.

    At the start of epoch ``start_epoch + n`` they are ``initial + n / transition_epochs * (final - initial)``, both
    scaled to sum up to 1 (unless the loss has ``weights``); ``initial`` is what they are when ``start_epoch`` begins.
    Terms without a name go to zero.

    Args:
        final_coeffs: ``{NAME: coefficient}`` for the end.
        transition_epochs: Number of epochs on the way.
        start_epoch: The epoch that still has the initial ones.

    Raises:
        ConfigError: If an argument is out of range.

    Example:
        From 0.5 and 0.5 to 0.2 and 0.8 within 3 epochs:

        >>> from nequip_like.metrics import EnergyForceLoss
        >>> callback = LinearLossCoefficientScheduler({"total_energy": 1.0, "forces": 4.0}, transition_epochs=3)
        >>> [round(callback.coefficients_at(epoch, 0, EnergyForceLoss())["forces_mse"], 3) for epoch in (0, 1, 3)]
        [0.5, 0.6, 0.8]
    """

    alone = False

    def __init__(self, final_coeffs: Mapping[str, float], transition_epochs: int, start_epoch: int = 0) -> None:
        if transition_epochs < 1 or start_epoch < 0:
            raise ConfigError(
                f"LinearLossCoefficientScheduler has start_epoch {start_epoch}, transition_epochs {transition_epochs}",
                "start at 0 or later, and give 1 epoch or more",
            )
        _check_sum(final_coeffs, "LinearLossCoefficientScheduler")
        self.final_coeffs = {name: float(coeff) for name, coeff in final_coeffs.items()}
        self.transition_epochs = transition_epochs
        self.start_epoch = start_epoch
        self._initial: dict[str, float] | None = None

    @property
    def state_key(self) -> str:
        """Several of them, one after the other, each have their own state."""
        return f"{type(self).__qualname__}_{self.start_epoch}"

    def state_dict(self) -> dict[str, Any]:
        """The coefficients at the start, for checkpoints."""
        return {"initial": self._initial}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the coefficients at the start."""
        self._initial = state_dict["initial"]

    def check_loss(self, loss: MetricsManager) -> None:
        """Refuse names that the loss does not have."""
        self._scale_final(loss)

    def coefficients_at(self, epoch: int, step: int, loss: MetricsManager) -> dict[str, float]:
        """The coefficients in an epoch, if those of the start are the configured ones."""
        initial = self._initial
        if initial is None:
            initial = {name: coeff or 0.0 for name, coeff in loss.scaled(loss.configured_coeffs).items()}
        elapsed = min(epoch - self.start_epoch, self.transition_epochs)
        return select_weighted(
            loss.scaled(self._interpolate(initial, elapsed, loss) if elapsed > 0 else loss.configured_coeffs)
        )

    def _scale_final(self, loss: MetricsManager) -> dict[str, float]:
        final = _resolve_names(self.final_coeffs, loss, "final_coeffs of LinearLossCoefficientScheduler")
        return select_weighted(loss.scaled(final))

    def _interpolate(self, initial: Mapping[str, float], elapsed: int, loss: MetricsManager) -> dict[str, float]:
        share, final = elapsed / self.transition_epochs, self._scale_final(loss)
        return {
            name: first + share * (final.get(name, 0.0) - first)
            for name, first in initial.items()
            if first or name in final
        }

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Set the coefficients of this epoch."""
        loss = find_loss(pl_module, type(self).__name__)
        elapsed = trainer.current_epoch - self.start_epoch
        if elapsed >= 0 and self._initial is None:
            self._initial = {name: coeff or 0.0 for name, coeff in loss.coeffs.items()}
        if self._initial is not None and 0 < elapsed <= self.transition_epochs:
            loss.set_coeffs(self._interpolate(self._initial, elapsed, loss))


def _resolve_names(coeffs: Coefficients, loss: MetricsManager, setting: str) -> dict[str, float | None]:
    """Coefficients by the names of terms; given by these, or by fields."""
    return {loss.term_name(key, setting): coeff for key, coeff in coeffs.items()}


def _read_epoch(epoch: int | str) -> int:
    try:
        number = int(epoch)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise ConfigError(f"LossCoefficientScheduler has the epoch {epoch!r}", "epochs are whole numbers from 0 up")
    return number


def _check_sum(coeffs: Coefficients, callback_name: str) -> None:
    total = sum(check_coefficient(name, coeff) or 0.0 for name, coeff in coeffs.items())
    if not total > 0:
        raise ConfigError(
            f"{callback_name} has no coefficient above 0 in {dict(coeffs)}", "give at least one term a coefficient"
        )
