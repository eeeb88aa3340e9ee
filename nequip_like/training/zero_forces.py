"""Forces that are worse than none: a validation whose RMSE exceeds the root mean square of the forces themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.metrics.elementwise import MeanSquaredError, RootMeanSquaredError
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.modifiers import FieldModifier
from nequip_like.metrics.terms import Term
from nequip_like.training.module import NequIPLightningModule

_BATCH = 256
_SHOWS = 1.0005  # 100.1 % when rounded: a model that predicts next to nothing is as good as zero
_USED = (fields.POSITIONS, fields.NUM_ATOMS, fields.FORCES, fields.FRAME_WEIGHT, fields.ATOM_WEIGHT)


@dataclass(frozen=True)
class WorseThanZero:
    """Forces of a validation that are further from the labels than zero is.

    Attributes:
        name: The validation set and kind of weights, ``val0`` or ``val0_raw``.
        rmse: Root mean square error of the forces, eV/Angstrom.
        rms: Root mean square of the labels, eV/Angstrom.
    """

    name: str
    rmse: float
    rms: float

    @property
    def share(self) -> str:
        """The error in percent of the labels."""
        return f"{100 * self.rmse / self.rms:.1f} %"

    def describe(self) -> str:
        """A sentence for the end of a training."""
        return (
            f"warning: forces worse than zero: on {self.name} their RMSE, {1e3 * self.rmse:.4g} meV/A, is {self.share} "
            f"of the RMS force, {1e3 * self.rms:.4g} meV/A; a model that predicts no forces at all would be better"
        )


def describe_shares(worse_sets: Sequence[WorseThanZero]) -> str:
    """Name these sets in a few words, for the end of an epoch's line."""
    shares = ", ".join(f"{worse_set.name} {worse_set.share}" for worse_set in worse_sets)
    return f"forces worse than zero: {shares} of the RMS force"


def worse_than_zero(trainer: lightning.Trainer, values: Mapping[str, Any]) -> list[WorseThanZero]:
    """Find the validation sets on which a model that predicts no forces would be better.

    Args:
        trainer: The trainer, with its module and data.
        values: Logged values by name, ``val0_epoch/forces_rmse``: errors over whole validation sets.

    Returns:
        Nothing for sets without force labels, or with an error of forces that is not among the metrics.
    """
    module = getattr(trainer, "lightning_module", None)
    if not isinstance(module, NequIPLightningModule):
        return []
    datasets = module.list_validation_sets()
    worse_sets = []
    for evaluation in module.validations:
        term = _find_force_term(evaluation.manager)
        if (
            term is None
            or evaluation.position >= len(datasets)
            or (key := f"{evaluation.prefix}/{term.name}") not in values
        ):
            continue
        if evaluation.prefix not in module.error_of_zero:
            dataset = datasets[evaluation.position]
            frames = dataset.frames if fields.FORCES in dataset.labels else []
            module.error_of_zero[evaluation.prefix] = error_of_zero(frames, term)
        rmse, rms = _take_root(term, float(values[key])), _take_root(term, module.error_of_zero[evaluation.prefix])
        if rms > 0 and rmse >= rms * _SHOWS:
            worse_sets.append(WorseThanZero(evaluation.prefix.removesuffix("_epoch"), rmse, rms))
    return worse_sets


def error_of_zero(frames: Sequence[Graph], term: Term) -> float:
    """Error of a model that predicts no forces, over a whole data set; masked and weighted as the term is.

    Args:
        frames: The frames of the data set, with labels of forces.
        term: A metric of the forces.

    Returns:
        The value of the metric; NaN if no frame has a label that counts.
    """
    entry = {"name": term.name, "field": fields.FORCES, "metric": term.metric, "average": term.average}
    manager = MetricsManager([{**entry, "ignore_nan": term.ignore_nan}], sync=False)
    for start in range(0, len(frames), _BATCH):
        parts = [{key: frame[key] for key in _USED if key in frame} for frame in frames[start : start + _BATCH]]
        batch = collate(parts)
        manager.update({fields.FORCES: torch.zeros_like(batch[fields.FORCES])}, batch)
    return float(manager.compute()[term.name])


def _find_force_term(manager: MetricsManager) -> Term | None:
    """The root mean square error of the forces, or the mean square."""
    terms = [
        term
        for term in manager.terms
        if term.modifier == FieldModifier(fields.FORCES)
        and isinstance(term.metric, MeanSquaredError)
        and not term.type_names
    ]
    return next((term for term in terms if isinstance(term.metric, RootMeanSquaredError)), terms[0] if terms else None)


def _take_root(term: Term, value: float) -> float:
    return value if isinstance(term.metric, RootMeanSquaredError) else math.sqrt(max(value, 0.0))
