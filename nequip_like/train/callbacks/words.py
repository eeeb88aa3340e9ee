"""Lines and numbers as callbacks show them: units, roots of mean squares, the best validation."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import lightning
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from nequip_like.train.checkpoints import ResumableCheckpoint
from nequip_like.train.metric_terms import WEIGHTED_SUM

_MSE = re.compile(r"_mse(?=_|$)")


@dataclass(frozen=True)
class Shown:
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
        f"{quantity}_{metric}": Shown(f"{label} {kind}", unit, 1e3)
        for quantity, (label, unit) in _QUANTITIES.items()
        for metric, kind in _KINDS.items()
    },
    WEIGHTED_SUM: Shown("weighted sum", "", 1.0),
}


@rank_zero_only
def say(line: str) -> None:
    """Print a line, once for all processes, and at once: into log files as well."""
    print(line, flush=True)


def numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Logged values as plain numbers; waits for the device."""
    return {name: float(value) for name, value in values.items()}


def root_name(name: str) -> str:
    """``forces_mse`` as ``forces_rmse``; other names as they are."""
    return _MSE.sub("_rmse", name)


def with_roots(values: Mapping[str, float]) -> dict[str, float]:
    """Mean squared errors as root mean squared errors, for people to read.

    Only for means over all that there is: the root comes last, a mean of roots is something else.

    Args:
        values: Values by name. Those of ``NAME_mse`` come back as ``NAME_rmse``, unless that is there already.
    """
    result = {}
    for name, value in values.items():
        root = root_name(name)
        if root == name:
            result[name] = value
        elif root not in values:
            result[root] = math.sqrt(value) if value >= 0 else math.nan
    return result


def learning_rate(trainer: lightning.Trainer) -> float:
    """The present rate of the first group of parameters; NaN without an optimizer."""
    return float(trainer.optimizers[0].param_groups[0]["lr"]) if trainer.optimizers else math.nan


def best_line(trainer: lightning.Trainer) -> str | None:
    """Which checkpoint is the best; None if none follows a value."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ResumableCheckpoint) and callback.monitor and (order := callback.ranking()):
            best = order[0]
            return f"best {callback.monitor}: {best.value:.6g} at epoch {best.epoch}, step {best.step}, {best.file}"
    return None
