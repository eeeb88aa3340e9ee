"""Early stopping on several criteria, each with its own metric, patience, threshold and bound."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import lightning
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.arguments import Count, NotNegative, Range, check, checked
from nequip_like.errors import ConfigError, did_you_mean
from nequip_like.metrics.terms import check_term_names
from nequip_like.training.callbacks.early_stopping import stop_line
from nequip_like.training.callbacks.words import say
from nequip_like.training.module import NequIPLightningModule

Size = Annotated[float, Range(low=0, high=math.inf, high_open=True)]
_KEYS: dict[str, Any] = {
    "metric": Literal["mae", "rmse"] | None,
    "patience": Count | None,
    "threshold": Size,
    "lower_bound": Size,
}


@dataclass
class Progress:
    """What a criterion has seen so far.

    Attributes:
        best: Smallest error that counted as an improvement.
        bad: Validations since then.
        epoch: The epoch in which an error of training was counted last.
    """

    best: float = math.inf
    bad: int = 0
    epoch: int | None = None


@dataclass(frozen=True)
class Criterion:
    """When one error is small enough, or has stopped falling.

    Attributes:
        logged: Name of the logged value.
        patience: Validations without improvement until the criterion is met; None: standing still never meets it.
        threshold: An error counts as an improvement if it is below the best by more than this.
        lower_bound: An error of at most this meets the criterion at once.
    """

    logged: str
    patience: int | None = None
    threshold: float = 0.0
    lower_bound: float = 0.0

    def is_new(self, epoch: int, progress: Progress) -> bool:
        """Whether there is an error that was not counted yet: one of training changes once an epoch.

        Args:
            epoch: The present epoch.
            progress: What was seen before; brought up to date.
        """
        if not re.match(r"train_\w+_epoch/", self.logged):
            return True
        last_epoch, progress.epoch = progress.epoch, epoch
        return last_epoch != epoch

    def is_met(self, error: float, progress: Progress, uncounted: bool = True) -> bool:
        """Whether the criterion is met by the error of one validation.

        An error within the bound meets it without a look at the progress, which stays as it is: if the error leaves
        the bound again, the count of bad validations goes on where it was.

        Args:
            error: The value that was logged. NaN is no improvement.
            progress: What was seen before; brought up to date.
            uncounted: Whether this error was not counted yet.

        Example:
            With patience 2, the second validation in a row without improvement meets it; NaN is none:

            >>> criterion = read_criteria({"forces": {"metric": "rmse", "patience": 2}})["forces"]
            >>> progress = Progress()
            >>> [criterion.is_met(error, progress, uncounted=True) for error in (0.3, 0.2, math.nan, 0.25)]
            [False, False, False, True]
        """
        if error <= self.lower_bound:
            return True
        if self.patience is None:
            return False
        if uncounted and error < progress.best - self.threshold:
            progress.best, progress.bad = error, 0
        elif uncounted:
            progress.bad += 1
        return progress.bad >= self.patience

    def describe(self, error: float, progress: Progress) -> str:
        """Why it is met, in a few words."""
        if error <= self.lower_bound:
            return f"{self.logged} is {error:.6g}, within its lower_bound {self.lower_bound:g}"
        return f"{self.logged} has not improved in {progress.bad} validations, best {progress.best:.6g}"


def read_criteria(criteria: Mapping[str, Any], val_set: int = 0) -> dict[str, Criterion]:
    """Check the criteria of a config.

    Args:
        criteria: ``{forces: {metric: rmse, patience: 20}}``. A key is a label, or the whole name of a logged value
            (with its ``/``), which then has no ``metric``. An entry that is null is left out.
        val_set: The validation set that labels mean.

    Raises:
        ConfigError: If one cannot mean what was written.

    Example:
        >>> criteria = read_criteria({"forces": {"metric": "rmse", "patience": 20}})
        >>> criteria["forces"].logged
        'val0_epoch/forces_rmse'
    """
    check("criteria", criteria, Mapping[str, Mapping[str, Any] | None])
    parsed = {key: _read(key, entry, val_set) for key, entry in criteria.items() if entry is not None}
    if not parsed:
        raise ConfigError("criteria is empty", "for example criteria: {forces: {metric: rmse, patience: 20}}")
    return parsed


def _read(key: str, entry: Mapping[str, Any], val_set: int) -> Criterion:
    check_term_names(entry, list(_KEYS), f"key of criteria.{key}:")
    for name, value in entry.items():
        check(f"criteria.{key}.{name}", value, _KEYS[name])
    numbers = {name: value for name, value in entry.items() if name != "metric"}
    if "/" not in key:
        return Criterion(f"val{val_set}_epoch/{key}_{entry.get('metric') or 'mae'}", **numbers)
    if entry.get("metric") is not None:
        raise ConfigError(f"criteria.{key} has a metric", "leave it out: the name says what is logged")
    return Criterion(key, **numbers)


class CriteriaStopping(lightning.Callback):
    """Ends training when several criteria are met in the same validation, or one of them.

    After each validation, for each criterion in this order: an error of at most ``lower_bound`` meets it; without
    ``patience`` nothing else does; an error below the best by more than ``threshold`` is the new best, and any other
    adds one to the bad validations; ``patience`` bad ones in a row meet it. An error of training
    (``train_loss_epoch/NAME``) counts once an epoch, however many validations that has. Errors are those of whole
    validation sets: the root of an RMSE is taken last.

    Args:
        criteria: For each label (``forces``, ``total_energy``, ``per_atom_energy``, ``stress``) or logged value
            (``val1_epoch/weighted_sum``): ``metric`` (``mae`` or ``rmse``, for labels; default ``mae``), ``patience``
            (default null), ``threshold`` and ``lower_bound`` (default 0), in eV and Angstrom.
        combine: ``and``: all must be met in the same validation; ``or``: any.
        val_set: The validation set that labels mean, from 0.

    Attributes:
        reason: Why it ended training, in one line; None if it did not.

    Raises:
        ConfigError: If a criterion cannot mean what was written.
    """

    @checked
    def __init__(
        self, criteria: Mapping[str, Any], combine: Literal["and", "or"] = "and", val_set: NotNegative = 0
    ) -> None:
        self.criteria = read_criteria(criteria, val_set)
        self.combine = combine
        self.progress = {key: Progress() for key in self.criteria}
        self.reason: str | None = None

    @property
    def monitored(self) -> list[str]:
        """Names of the logged values that it follows."""
        return [criterion.logged for criterion in self.criteria.values()]

    @property
    def state_key(self) -> str:
        """The key of the state in checkpoints; callbacks that follow other values have a state of their own."""
        return self._generate_state_key(monitored=sorted(self.monitored))

    def state_dict(self) -> dict[str, Any]:
        """Best errors and bad validations, for checkpoints."""
        return {
            criterion.logged: {name: x for name, x in asdict(self.progress[key]).items() if x is not None}
            for key, criterion in self.criteria.items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what an earlier run found; patience, threshold and bounds are those of this run."""
        for key, criterion in self.criteria.items():
            if criterion.logged in state_dict:
                self.progress[key] = Progress(**state_dict[criterion.logged])

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Refuse a value that nothing logs, before the first step.

        Raises:
            ConfigError: Naming what there is.
        """
        logged_names = _list_logged_names(pl_module)
        for name in self.monitored:
            # Values of the user's own callbacks show up at the first validation.
            if name not in logged_names and name.startswith(("val", "train_")) and logged_names:
                of_validation = [logged_name for logged_name in logged_names if logged_name.startswith("val")]
                raise _explain_not_logged(name, of_validation or logged_names)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Judge all criteria; end training if it is time."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        errors = self._collect_errors(trainer, pl_module)
        met = [key for key, error in errors.items() if self._is_met(key, error, trainer.current_epoch)]
        stop = len(met) == len(self.criteria) if self.combine == "and" else bool(met)
        if trainer.world_size > 1:
            # All have the same errors; this is for those who count on it.
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            trainer.should_stop = True
            why = [self.criteria[key].describe(errors[key], self.progress[key]) for key in met]
            self.reason = stop_line(trainer, "; ".join(why))
            say(self.reason)

    def _is_met(self, key: str, error: float, epoch: int) -> bool:
        criterion, progress = self.criteria[key], self.progress[key]
        return criterion.is_met(error, progress, criterion.is_new(epoch, progress))

    def _collect_errors(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> dict[str, float]:
        values = trainer.callback_metrics
        logged_names = _list_logged_names(module)
        errors = {}
        for key, criterion in self.criteria.items():
            if criterion.logged in values:
                errors[key] = float(values[criterion.logged])
            elif criterion.logged not in logged_names:  # else of training, and not logged yet: no error to judge
                raise _explain_not_logged(criterion.logged, list(values))
        return errors


def _list_logged_names(module: lightning.LightningModule) -> list[str]:
    """Names that validations and training log."""
    if not isinstance(module, NequIPLightningModule):
        return []
    names = module.validation_names()
    for prefix, manager in (("train_loss", module.loss), ("train_metric", module.train_metrics)):
        if manager is not None:
            names += [f"{prefix}_{interval}/{name}" for interval in ("epoch", "step") for name in manager.log_names]
    return names


def _explain_not_logged(name: str, logged_names: list[str]) -> ConfigError:
    return ConfigError(f"CriteriaStopping follows '{name}', which is not logged", did_you_mean(name, logged_names))
