"""List why training ended before its last epoch, and what to change so that it goes on."""

from __future__ import annotations

import lightning

from nequip_like.training.callbacks.early_stopping import stop_reasons
from nequip_like.training.graceful_stop import GracefulStop


def list_ends(trainer: lightning.Trainer) -> list[tuple[str, str]]:
    """List each cause with what has to be changed to go on; empty if training went to its end.

    Args:
        trainer: The trainer, after training.
    """
    progress = f"{trainer.global_step} steps done"
    causes = []
    if not -1 < (trainer.max_epochs or -1) <= trainer.current_epoch:
        causes += [(reason, "nevertheless give it more patience, or leave it out") for reason in stop_reasons(trainer)]
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set by Lightning's callback connector
        if isinstance(callback, GracefulStop) and callback.reached == "max_time":
            causes.append((f"the time of trainer.max_time is up ({progress})", ""))
        if isinstance(callback, GracefulStop) and callback.reached == "max_steps":
            causes.append((f"trainer.max_steps={callback.max_steps} is reached ({progress})", "raise it"))
    return causes
