"""How long a run is, in optimizer steps: schedules need it before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning

from nequip_like.errors import naming
from nequip_like.optim.schedulers import SCHEDULER
from nequip_like.optim.schedules.learning_rate import LearningRate
from nequip_like.optim.schedules.lengths import RunLength
from nequip_like.optim.schedules.progress import RunProgress
from nequip_like.training.budget.keeper import find_keeper
from nequip_like.training.graceful_stop import GracefulStop
from nequip_like.training.lightning_internals import count_steps_of_epoch


def begin_schedules(trainer: lightning.Trainer) -> None:
    """Tell each ``LearningRate`` how long the run is; when training starts, so that the loader is known.

    Raises:
        ConfigError: If a schedule needs to know more than the run tells.
    """
    for config in trainer.lr_scheduler_configs:
        if isinstance(config.scheduler, LearningRate):
            with naming(SCHEDULER):
                config.scheduler.begin(run_length(trainer, trainer.num_training_batches))


def check_length_of_run(scheduler: Any, trainer: Mapping[str, Any], has_budget: bool = False) -> None:
    """Refuse a schedule that takes its length from a run without an end, before the data are known.

    Args:
        scheduler: The schedule.
        trainer: Arguments of the trainer.
        has_budget: Whether the run ends at a time.

    Raises:
        ConfigError: If the schedule cannot begin.
    """
    if isinstance(scheduler, LearningRate):
        limits = {name: trainer.get(f"max_{name}") for name in ("epochs", "steps")}
        finite_limits = {name: limit for name, limit in limits.items() if isinstance(limit, int) and limit > -1}
        with naming(SCHEDULER):
            # How many steps an epoch has does not matter here.
            progress = RunProgress() if has_budget else None
            scheduler.begin(RunLength(steps_per_epoch=1, **finite_limits, progress=progress))


def run_length(trainer: lightning.Trainer, batches: float) -> RunLength:
    """How long a run is.

    Args:
        trainer: The trainer with its callbacks.
        batches: Batches of an epoch, of each process; may be infinite.
    """
    callbacks: list[lightning.Callback] = trainer.callbacks  # type: ignore[attr-defined] # set by Lightning's connector
    limits = [trainer.max_steps, *(callback.max_steps for callback in callbacks if isinstance(callback, GracefulStop))]
    keeper = find_keeper(trainer)
    return RunLength(
        steps_per_epoch=count_steps_of_epoch(trainer, batches),
        epochs=None if trainer.max_epochs in (None, -1) else trainer.max_epochs,
        steps=min((limit for limit in limits if limit > -1), default=None),
        progress=None if keeper is None else keeper.progress,
    )
