"""What several callbacks print and count: labels with units, values, the best validation, steps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from nequip_like.metrics.terms import WEIGHTED_SUM
from nequip_like.training.checkpointing.callback import ResumableCheckpoint
from nequip_like.training.guarded_module import GuardedModule
from nequip_like.training.lightning_internals import accumulating, ends_within_epoch
from nequip_like.training.loss_shares import compute_shares
from nequip_like.training.module import NequIPLightningModule
from nequip_like.training.recovery.recovering_module import find_rate_factor

_MSE = re.compile(r"_mse(?=_|$)")


@dataclass(frozen=True)
class ShownMetric:
    """How a logged value is shown.

    Attributes:
        label: A few letters.
        unit: Its unit; empty if it has none.
        factor: What to multiply values in eV and Angstrom by.
    """

    label: str
    unit: str
    factor: float


# Energies and forces are read in milli-units: the errors that matter are a few hundredths of a unit.
_QUANTITIES = {
    "total_energy": ("E total", "meV"),
    "per_atom_energy": ("E", "meV/atom"),
    "forces": ("F", "meV/A"),
    "stress": ("S", "meV/A^3"),
}
_KINDS = {"mae": "mae", "rmse": "rmse", "maxabserr": "max"}
SHOWN = {
    **{
        f"{quantity}_{metric}": ShownMetric(f"{label} {kind}", unit, 1e3)
        for quantity, (label, unit) in _QUANTITIES.items()
        for metric, kind in _KINDS.items()
    },
    WEIGHTED_SUM: ShownMetric("weighted sum", "", 1.0),
}


@rank_zero_only
def say(line: str) -> None:
    """Print a line, once for all processes, and at once: into log files as well."""
    print(line, flush=True)


def convert_to_numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Logged values as plain numbers; waits for the device."""
    return {name: float(value) for name, value in values.items()}


def root_name(name: str) -> str:
    """``forces_mse`` as ``forces_rmse``; other names as they are."""
    return _MSE.sub("_rmse", name)


def take_roots(values: Mapping[str, float]) -> dict[str, float]:
    """Mean squared errors as root mean squared errors, for people to read.

    Only for means over all that there is: the root comes last, a mean of roots is something else.

    Args:
        values: Values by name. Those of ``NAME_mse`` come back as ``NAME_rmse``, unless that is there already.

    Example:
        >>> take_roots({"forces_mse": 0.09, "stress_mae": 0.2})
        {'forces_rmse': 0.3, 'stress_mae': 0.2}
    """
    result = {}
    for name, value in values.items():
        root = root_name(name)
        if root == name:
            result[name] = value
        elif root not in values:
            result[root] = math.sqrt(value) if value >= 0 else math.nan
    return result


def compute_training_values(module: lightning.LightningModule) -> dict[str, dict[str, float]]:
    """``{"train": {name: value}}``: means over the epoch so far, roots taken last; in a run all processes must call it.

    Empty if the module has no loss.
    """
    if not isinstance(module, NequIPLightningModule) or module.loss is None:
        return {}
    values = convert_to_numbers(module.loss.compute())
    if module.train_metrics is not None:
        # The sum of the metrics is not the loss, which is what training is about.
        values = {**convert_to_numbers(module.train_metrics.compute()), **values}
    return {"train": take_roots(values)}


def collect_validation_values(trainer: lightning.Trainer) -> dict[str, dict[str, float]]:
    """``{"val0": {name: value}}`` of the last validation, roots taken last."""
    return group_by_set(trainer.callback_metrics)


def group_by_set(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Errors of validation sets by set and by name, roots taken last.

    Args:
        metrics: Values by logged name; others than those of validations are left out.

    Example:
        >>> group_by_set({"val0_epoch/forces_mse": 0.09, "train_loss_epoch/forces_mse": 0.04})
        {'val0': {'forces_rmse': 0.3}}
    """
    rows: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        prefix, _, name = key.partition("_epoch/")
        if name and re.match(r"val\d", prefix):
            rows.setdefault(prefix, {})[name] = float(value)
    return {prefix: take_roots(values) for prefix, values in sorted(rows.items())}


def compute_training_shares(module: lightning.LightningModule) -> dict[str, float]:
    """The share of each term in the loss of the epoch so far; in a run all processes must call it."""
    if not isinstance(module, NequIPLightningModule) or module.loss is None:
        return {}
    return convert_to_numbers(compute_shares(module.loss, module.loss.compute()))


def collect_shares(trainer: lightning.Trainer) -> dict[str, float]:
    """The share of each term in the loss of the last epoch, from 0 to 1."""
    start = "train_loss_share/"
    values = trainer.callback_metrics.items()
    return {name.removeprefix(start): float(value) for name, value in values if name.startswith(start)}


def learning_rate(trainer: lightning.Trainer) -> float:
    """The present rate of the first group of parameters; NaN without an optimizer.

    Of a run that went back to earlier weights it is the part of the schedule's rate that is left.
    """
    factor = find_rate_factor(trainer.lightning_module)
    return factor * float(trainer.optimizers[0].param_groups[0]["lr"]) if trainer.optimizers else math.nan


def describe_best(trainer: lightning.Trainer) -> str | None:
    """Which checkpoint is the best; None if none follows a value."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ResumableCheckpoint) and callback.monitor and (order := callback.ranking()):
            best = order[0]
            return f"best {callback.monitor}: {best.value:.6g} at epoch {best.epoch}, step {best.step}, {best.file}"
    return None


def micro_step(trainer: lightning.Trainer) -> int:
    """Number of batches that were trained on, of all runs that go on from one another."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined] # of a base class


def update_step(trainer: lightning.Trainer) -> int:
    """Number of updates of the weights: Lightning's ``global_step`` without the steps that were left out."""
    module = trainer.lightning_module
    left_out = module.guard.skipped_steps if isinstance(module, GuardedModule) else 0
    return trainer.global_step - left_out


def steps_in_epoch(trainer: lightning.Trainer) -> int:
    """Number of optimizer steps of the present epoch, with that of the present batch."""
    return math.ceil(trainer.fit_loop.epoch_loop.batch_progress.current.ready / trainer.accumulate_grad_batches)


def after_step(trainer: lightning.Trainer, every_n: int | None) -> bool:
    """Whether the present batch ended an optimizer step, and one of each n-th."""
    return every_n is not None and not accumulating(trainer) and trainer.global_step % every_n == 0


class StepCounters(lightning.Callback):
    """Logs ``micro_step`` and ``update_step`` beside whatever else is logged; each run has one.

    ``micro_step`` counts batches, ``update_step`` updates of the weights. They differ with
    ``trainer.accumulate_grad_batches``, and after steps that were left out because something was not finite.
    """

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        """Log with the values of a step, when these are written."""
        if trainer.loggers and not accumulating(trainer) and trainer._logger_connector.should_update_logs:
            self._log(trainer, pl_module, of_epoch=False)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log with the values of a validation."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._log(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log with the values of an epoch; a part of one, at which training stops, has none."""
        if not ends_within_epoch(trainer):
            self._log(trainer, pl_module)

    def _log(self, trainer: lightning.Trainer, module: lightning.LightningModule, of_epoch: bool = True) -> None:
        counts = {"micro_step": micro_step(trainer), "update_step": update_step(trainer)}
        # Lightning takes no whole numbers, and single precision ends at 16 million.
        exact = {name: torch.tensor(float(count), dtype=torch.float64) for name, count in counts.items()}
        # The same on all processes: Lightning wants to be told.
        log = module.log_values if isinstance(module, NequIPLightningModule) else module.log_dict
        log(exact, batch_size=1, sync_dist=of_epoch)
