"""Callbacks that watch and change the coefficients of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import lightning

from nequip_like.errors import ConfigError
from nequip_like.train.metric_terms import check_coefficient, check_names
from nequip_like.train.metrics_manager import MetricsManager

Coefficients = Mapping[str, float | None]


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
        for name, coeff in _loss(module, type(self).__name__).coeffs.items():
            if coeff is not None:
                module.log(f"loss_coeff/{name}", coeff)


class LossCoefficientScheduler(lightning.Callback):
    """Sets the coefficients of the loss at the start of some epochs.

    They stay until the next change; checkpoints keep them, so a resumed run has those that it would have had.

    Args:
        schedule: ``{epoch: {NAME: coefficient}}``, scaled to sum up to 1; terms that are not named are only observed.

    Raises:
        ConfigError: If an epoch or a coefficient is no number from 0 up.
    """

    def __init__(self, schedule: Mapping[int | str, Coefficients]) -> None:
        if not schedule:
            raise ConfigError("LossCoefficientScheduler has an empty schedule", "write {100: {forces_mse: 1.0}}")
        self.schedule = {_epoch(epoch): dict(coeffs) for epoch, coeffs in schedule.items()}
        for coeffs in self.schedule.values():
            _check_sum(coeffs, "LossCoefficientScheduler")

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Refuse names that the loss does not have, before the first step."""
        loss = _loss(pl_module, type(self).__name__)
        for coeffs in self.schedule.values():
            check_names(coeffs, list(loss.coeffs), "metric in the schedule of LossCoefficientScheduler:")

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Set the coefficients, if they change at this epoch."""
        if (coeffs := self.schedule.get(trainer.current_epoch)) is not None:
            _loss(pl_module, type(self).__name__).set_coeffs(coeffs)


class LinearLossCoefficientScheduler(lightning.Callback):
    """Moves the coefficients of the loss linearly from what they are to what they shall be.

    At the start of epoch ``start_epoch + n`` they are ``initial + n / transition_epochs * (final - initial)``, both
    scaled to sum up to 1; ``initial`` is what they are when ``start_epoch`` begins. Terms without a name go to zero.

    Args:
        final_coeffs: ``{NAME: coefficient}`` for the end.
        transition_epochs: Number of epochs on the way.
        start_epoch: The epoch that still has the initial ones.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(self, final_coeffs: Mapping[str, float], transition_epochs: int, start_epoch: int = 0) -> None:
        if transition_epochs < 1 or start_epoch < 0:
            raise ConfigError(
                f"LinearLossCoefficientScheduler has start_epoch {start_epoch}, transition_epochs {transition_epochs}",
                "start at 0 or later, and give 1 epoch or more",
            )
        total = _check_sum(final_coeffs, "LinearLossCoefficientScheduler")
        self.final_coeffs = {name: float(coeff) / total for name, coeff in final_coeffs.items()}
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

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Refuse names that the loss does not have, before the first step."""
        known = list(_loss(pl_module, type(self).__name__).coeffs)
        check_names(self.final_coeffs, known, "metric in final_coeffs of LinearLossCoefficientScheduler:")

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Set the coefficients of this epoch."""
        loss = _loss(pl_module, type(self).__name__)
        done = trainer.current_epoch - self.start_epoch
        if done >= 0 and self._initial is None:
            self._initial = {name: coeff or 0.0 for name, coeff in loss.coeffs.items()}
        if self._initial is None or not 0 < done <= self.transition_epochs:
            return
        share = done / self.transition_epochs
        loss.set_coeffs(
            {
                name: initial + share * (self.final_coeffs.get(name, 0.0) - initial)
                for name, initial in self._initial.items()
                if initial or name in self.final_coeffs
            }
        )


def _epoch(epoch: int | str) -> int:
    try:
        number = int(epoch)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise ConfigError(f"LossCoefficientScheduler has the epoch {epoch!r}", "epochs are whole numbers from 0 up")
    return number


def _check_sum(coeffs: Coefficients, who: str) -> float:
    total = sum(check_coefficient(name, coeff) or 0.0 for name, coeff in coeffs.items())
    if not total > 0:
        raise ConfigError(f"{who} has no coefficient above 0 in {dict(coeffs)}", "give at least one term a coefficient")
    return total


def _loss(module: lightning.LightningModule, who: str) -> MetricsManager:
    loss = getattr(module, "loss", None)
    if not isinstance(loss, MetricsManager):
        raise ConfigError(f"{who} needs training_module.loss", "for example nequip_like.train.EnergyForceLoss")
    return loss
