"""How often values of single steps are logged."""

from __future__ import annotations

import lightning

from nequip_like.training.lightning_internals import count_steps_of_epoch

EVERY = 20


class LoggingInterval(lightning.Callback):
    """Logs values of steps at every 20th one, or at the end of each epoch if it has fewer; each run has one.

    Args:
        every_n_steps: ``trainer.log_every_n_steps``, if the user gave it: this is kept, and 0 logs nothing.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        self.every_n_steps = every_n_steps

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep Lightning from a warning when it loads the data: whether the interval is too long is seen after that."""
        self._set(trainer, 1)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Set the interval, now that the number of batches is known."""
        if self.every_n_steps is not None:
            self._set(trainer, self.every_n_steps)
            return
        in_epoch = count_steps_of_epoch(trainer, trainer.num_training_batches)
        self._set(trainer, EVERY if in_epoch is None else max(1, min(EVERY, in_epoch)))

    def _set(self, trainer: lightning.Trainer, every_n_steps: int) -> None:
        trainer.log_every_n_steps = every_n_steps  # type: ignore[attr-defined] # set by Lightning's connector
