"""List why training ended before its last epoch, and what to change so that it goes on."""

from __future__ import annotations

import lightning

from nequip_like.optim.schedules.learning_rate import LearningRate
from nequip_like.training.callbacks.early_stopping import stop_reasons
from nequip_like.training.graceful_stop import GracefulStop

_NEARLY_DOWN = 0.05  # of the highest rate


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
            causes.append((f"the time of trainer.max_time is up ({progress}{_describe_rate(trainer)})", ""))
        if isinstance(callback, GracefulStop) and callback.reached == "max_steps":
            causes.append((f"trainer.max_steps={callback.max_steps} is reached ({progress})", "raise it"))
    return causes


def _describe_rate(trainer: lightning.Trainer) -> str:
    """Say that the learning rate was on its way down: such a model is far from what it would have become."""
    for config in trainer.lr_scheduler_configs:
        rate = config.scheduler
        if isinstance(rate, LearningRate) and rate.schedule in ("cosine", "linear"):
            share = max(rate.get_last_lr()) / rate.highest
            if share > _NEARLY_DOWN:
                return f", the learning rate still at {share:.0%}; in place of max_time, a budget lets it come down"
    return ""
