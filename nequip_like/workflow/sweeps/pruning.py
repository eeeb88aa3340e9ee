"""Ends a run of a search that is worse than the others were: each validation is reported to the study."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

_BEST_EPOCH = "best_epoch"  # attribute of a run of the study


class PrunedError(Exception):
    """A study ended the run. It is no mistake of the user's, and nothing words it anew on its way.

    Args:
        monitored: What is followed.
        best: Its best value so far.
        epoch: The epoch in which the run ended, from 0.
        larger_is_better: Whether large values are good.
        best_epoch: The epoch of the best value.
    """

    def __init__(self, monitored: str, best: float, epoch: int, larger_is_better: bool, best_epoch: int) -> None:
        self.monitored, self.best, self.best_epoch = monitored, best, best_epoch
        self.larger_is_better = larger_is_better
        self.best_metrics: dict[str, float] = {}
        self.message = f"worse than other runs of the study, at epoch {epoch}"
        super().__init__(self.message)


class TrialReport(lightning.Callback):
    """Reports the followed metric to a study after each validation, and ends the run if the study says so.

    A run that goes on reports on: the study knows how many validations it has heard of. It comes after the checkpoints
    of the same validation, which then hold what is reported.

    Args:
        study: The study.
        number: Number of the run in it.
        monitor: The metric.

    Raises:
        PrunedError: Out of the training, if the run is to end.
    """

    def __init__(self, study: Study, number: int, monitor: str) -> None:
        from optuna.trial import Trial

        frozen = study.get_trials(deepcopy=False)[number]
        self.monitor = monitor
        self._trial = Trial(study, frozen._trial_id)  # another process may have chosen its values
        self._validations = 1 + max(frozen.intermediate_values, default=-1)
        self._best = find_best(frozen)
        self._best_epoch = int(frozen.user_attrs.get(_BEST_EPOCH, 0))

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report, and ask."""
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or value is None:
            return
        larger = is_larger_better(trainer, self.monitor)
        error = -float(value) if larger else float(value)
        self._trial.report(error, self._validations)
        self._validations += 1
        if error < self._best:
            self._best, self._best_epoch = error, trainer.current_epoch
            self._trial.set_user_attr(_BEST_EPOCH, trainer.current_epoch)
        if self._trial.should_prune():
            best = -self._best if larger else self._best
            raise PrunedError(self.monitor, best, trainer.current_epoch, larger, self._best_epoch)


def find_best(trial: FrozenTrial) -> float:
    """The best of the values that a run of a study has reported, over all its interruptions; infinite without one."""
    return min(filter(math.isfinite, trial.intermediate_values.values()), default=math.inf)


def is_larger_better(trainer: lightning.Trainer, monitor: str) -> bool:
    """Whether large values of a metric are good, as the checkpoint that follows it says."""
    followers = (callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint))
    return any(callback.monitor == monitor and callback.mode == "max" for callback in followers)
