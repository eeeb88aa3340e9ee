"""A callback that watches the coefficients of the loss."""

from __future__ import annotations

from typing import Any, Literal

import lightning

from nequip_like.errors import ConfigError
from nequip_like.training.callbacks.loss_weights.base import find_loss
from nequip_like.training.callbacks.loss_weights.schedule import LossWeightSchedule
from nequip_like.training.callbacks.loss_weights.softadapt import SoftAdapt

__all__ = [
    "LossCoefficientMonitor",
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
