"""Lightning's early stopping, resumable, and with its reason in one line."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.training.callbacks.words import say


class ResumableEarlyStopping(EarlyStopping):
    """Lightning's EarlyStopping, of which a resumed run may have another patience: Lightning takes the old one.

    With ``check_on_train_epoch_end`` a value of a validation counts once, however many epochs lie between validations.

    Attributes:
        reason: Why it ended training, in one line; None if it did not.
    """

    reason: str | None = None
    _validated = False  # since the last look at the end of an epoch

    @property
    def state_key(self) -> str:
        """The same as Lightning's, so that checkpoints of one can be gone on with by the other."""
        return super().state_key.replace(type(self).__qualname__, EarlyStopping.__qualname__)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what an earlier run found."""
        super().load_state_dict({**state_dict, "patience": self.patience})
        self._validated = bool(state_dict.get("validated", False))

    def state_dict(self) -> dict[str, Any]:
        """Lightning's, and whether a value waits for the end of the epoch."""
        return {**super().state_dict(), "validated": self._validated}

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look at a validation, now or at the end of the epoch."""
        self._validated = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Judge the value of this epoch, or of a validation that took place in it."""
        if self._validated or not self.monitor.startswith("val"):
            super().on_train_epoch_end(trainer, pl_module)
        self._validated = False

    def _run_early_stopping_check(self, trainer: lightning.Trainer) -> None:
        stopped_before = trainer.should_stop
        super()._run_early_stopping_check(trainer)
        if trainer.should_stop and not stopped_before:
            by_epoch = self._check_on_train_epoch_end and not self.monitor.startswith("val")
            looks = "epochs" if by_epoch else "validations"
            why = f"{self.monitor} has not improved in {self.wait_count} {looks}, best {float(self.best_score):.6g}"
            if self.wait_count < self.patience:
                why = (self.stopping_reason_message or "").removesuffix(" Signaling Trainer to stop.")
            self.reason = stop_line(trainer, why)
            say(self.reason)


def stop_line(trainer: lightning.Trainer, why: str) -> str:
    """The line that tells of an early stop."""
    return f"early stopping at epoch {trainer.current_epoch}, step {trainer.global_step}: {why}"


def stop_reasons(trainer: lightning.Trainer) -> list[str]:
    """Lines of all callbacks that ended this training early."""
    reasons = [getattr(callback, "reason", None) for callback in trainer.callbacks]  # type: ignore[attr-defined] # set by Lightning's callback connector
    return [reason for reason in reasons if isinstance(reason, str)]
