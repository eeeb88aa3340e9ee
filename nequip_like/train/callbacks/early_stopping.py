"""Lightning's early stopping, resumable, and with its reason in one line."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import EarlyStopping

from nequip_like.train.callbacks.words import say


class ResumableEarlyStopping(EarlyStopping):
    """Lightning's EarlyStopping, of which a resumed run may have another patience: Lightning takes the old one.

    Attributes:
        reason: Why it ended training, in one line; None if it did not.
    """

    reason: str | None = None

    @property
    def state_key(self) -> str:
        """The same as Lightning's, so that checkpoints of one can be gone on with by the other."""
        return super().state_key.replace(type(self).__qualname__, EarlyStopping.__qualname__)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what an earlier run found."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def _run_early_stopping_check(self, trainer: lightning.Trainer) -> None:
        stopped_before = trainer.should_stop
        super()._run_early_stopping_check(trainer)
        if trainer.should_stop and not stopped_before:
            why = f"{self.monitor} has not improved in {self.wait_count} validations, best {float(self.best_score):.6g}"
            if self.wait_count < self.patience:
                why = (self.stopping_reason_message or "").removesuffix(" Signaling Trainer to stop.")
            self.reason = stop_line(trainer, why)
            say(self.reason)


def stop_line(trainer: lightning.Trainer, why: str) -> str:
    """The line that tells of an early stop."""
    return f"early stopping at epoch {trainer.current_epoch}, step {trainer.global_step}: {why}"


def stop_reasons(trainer: lightning.Trainer) -> list[str]:
    """Lines of all callbacks that ended this training early."""
    found = [getattr(callback, "reason", None) for callback in trainer.callbacks]  # type: ignore[attr-defined] # set by Lightning's callback connector
    return [reason for reason in found if isinstance(reason, str)]
