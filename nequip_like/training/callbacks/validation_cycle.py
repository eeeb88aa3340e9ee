"""Validation after each n-th optimizer update, whatever the length of an epoch and of an accumulation."""

from __future__ import annotations

from typing import Any

import lightning

from nequip_like.arguments import Count, check

_NEVER = 2**62  # no number of batches is a multiple of it


class ValidationCycle(lightning.Callback):
    """Lets Lightning validate where the number of optimizer updates is a multiple of ``every_n_updates``.

    Lightning itself counts batches: with accumulation, an epoch that ends within an accumulation shifts the updates
    that its validations fall on. A step that is left out (``on_non_finite: skip``) counts as an update.

    It has to come before all callbacks that ask whether a validation follows.

    Args:
        every_n_updates: Number of updates from one validation to the next.

    Raises:
        ConfigError: If it is no whole number from 1 up.
    """

    def __init__(self, every_n_updates: Count) -> None:
        check("validate_every_n_updates", every_n_updates, Count)
        self.every_n_updates = every_n_updates
        self._updates = 0
        self._due = False

    def state_dict(self) -> dict[str, Any]:
        """Whether the last batch asked for a validation: Lightning asks once more on resuming."""
        return {"due": self._due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was written."""
        self._due = bool(state_dict["due"])

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take over from Lightning."""
        self._updates = trainer.global_step
        self._tell(trainer)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take over again: with new loaders Lightning sets its own interval."""
        self._tell(trainer)

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any, **kwargs: Any) -> None:
        """A validation is due after the batch that made the update, not after further batches of an accumulation."""
        updates = trainer.global_step
        self._due = updates != self._updates and updates % self.every_n_updates == 0
        self._updates = updates
        self._tell(trainer)

    def _tell(self, trainer: lightning.Trainer) -> None:
        trainer.val_check_batch = 1 if self._due else _NEVER
