"""Where a model is no better than one that knows nothing: no forces, no stress, mean energies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import lightning

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.metrics.baseline import compute_baseline_errors, compute_mean_remainder
from nequip_like.metrics.elementwise import MeanSquaredError, RootMeanSquaredError
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.modifiers import FieldModifier, PerAtomModifier
from nequip_like.metrics.terms import PER_ATOM_ENERGY, Term
from nequip_like.training.module import NequIPLightningModule

_SHOWS = 1.0005  # 100.1 % when rounded: a model that predicts next to nothing is as good as the baseline

# What is judged: name, worse than what, its share of what, unit, factor from the package's units.
_Words = tuple[str, str, str, str]
_JUDGED: Final[Mapping[str, _Words]] = {
    fields.FORCES: ("forces", "worse than zero", "the RMS force", "meV/A"),
    PER_ATOM_ENERGY: ("energies", "worse than their mean", "the spread", "meV/atom"),
    fields.STRESS: ("stress", "worse than zero", "the RMS stress", "meV/A^3"),
}
_EARLY = 3  # epochs in which energies and stress may still be on their way


@dataclass(frozen=True)
class WorseThanBaseline:
    """Errors of a validation that are larger than those of the baseline.

    Attributes:
        name: The validation set and kind of weights, ``val0`` or ``val0_raw``.
        rmse: Root mean square error, eV and Angstrom.
        baseline: That of the baseline.
        quantity: ``forces``, ``per_atom_energy`` or ``stress``.
    """

    name: str
    rmse: float
    baseline: float
    quantity: str = fields.FORCES

    @property
    def share(self) -> str:
        """The error in percent of that of the baseline."""
        return f"{100 * self.rmse / self.baseline:.1f} %"

    def describe(self) -> str:
        """A sentence for the end of a training."""
        subject, worse, whole, unit = _JUDGED[self.quantity]
        better = {fields.FORCES: "no forces at all", fields.STRESS: "no stress at all"}.get(
            self.quantity, "reference energies and their mean remainder"
        )
        return (
            f"warning: {subject} {worse}: on {self.name} their RMSE, {1e3 * self.rmse:.4g} {unit}, is {self.share} of "
            f"{whole}, {1e3 * self.baseline:.4g} {unit}; a model that predicts {better} would be better"
        )


def describe_shares(worse_sets: Sequence[WorseThanBaseline]) -> str:
    """Name these sets in a few words, for the end of an epoch's line."""
    sentences = []
    for quantity, (subject, worse, whole, _) in _JUDGED.items():
        shares = [f"{entry.name} {entry.share}" for entry in worse_sets if entry.quantity == quantity]
        if shares:
            sentences.append(f"{subject} {worse}: {', '.join(shares)} of {whole}")
    return "; ".join(sentences)


def worse_than_baseline(
    trainer: lightning.Trainer, values: Mapping[str, Any], early: bool = False
) -> list[WorseThanBaseline]:
    """Find the validation sets on which the baseline would be better.

    Args:
        trainer: The trainer, with its module and data.
        values: Logged values by name, ``val0_epoch/forces_rmse``: errors over whole validation sets.
        early: Judge energies and stress in the first three epochs, too.

    Returns:
        Nothing for sets without labels, or with an RMSE that is not among the metrics.
    """
    module = getattr(trainer, "lightning_module", None)
    baselines = compute_baselines(module)
    if not isinstance(module, NequIPLightningModule) or not baselines:
        return []
    judged = [name for name in _JUDGED if name == fields.FORCES or early or trainer.current_epoch >= _EARLY]
    worse_sets = []
    for evaluation in module.validations:
        name = evaluation.prefix.removesuffix("_epoch")
        for quantity in judged:
            term = _find_term(evaluation.manager, quantity)
            key = "" if term is None else f"{evaluation.prefix}/{term.name}"
            if term is None or key not in values or term.name not in baselines.get(name, {}):
                continue
            rmse, limit = _take_root(term, float(values[key])), _take_root(term, baselines[name][term.name])
            if limit > 0 and rmse >= limit * _SHOWS:
                worse_sets.append(WorseThanBaseline(name, rmse, limit, quantity))
    return worse_sets


def compute_baselines(module: object) -> dict[str, dict[str, float]]:
    """Errors of the baseline on each validation set, ``{"val0": {"forces_rmse": ...}}``; computed when first asked for.

    Energies are those of the reference energies and of the mean per atom that these leave on the training set.

    Args:
        module: The module; any other object has none.
    """
    data = getattr(getattr(module, "_trainer", None), "datamodule", None)
    if not isinstance(module, NequIPLightningModule) or not isinstance(data, DataModule):
        return {}
    datasets = module.list_validation_sets()
    references = {} if data.reference is None else data.reference.energies
    mean = None
    for evaluation in module.validations:
        if evaluation.prefix in module.baselines or evaluation.position >= len(datasets):
            continue
        if mean is None:
            mean = compute_mean_remainder(data.train_set.table, references)
        frames = datasets[evaluation.position].frames
        module.baselines[evaluation.prefix] = compute_baseline_errors(frames, evaluation.manager, references, mean)
    return {prefix.removesuffix("_epoch"): errors for prefix, errors in module.baselines.items()}


def _find_term(manager: MetricsManager, quantity: str) -> Term | None:
    """Find the root mean square error of a quantity, or the mean square."""
    compared = PerAtomModifier(fields.TOTAL_ENERGY) if quantity == PER_ATOM_ENERGY else FieldModifier(quantity)
    terms = [
        term
        for term in manager.terms
        if term.modifier == compared and isinstance(term.metric, MeanSquaredError) and not term.type_names
    ]
    return next((term for term in terms if isinstance(term.metric, RootMeanSquaredError)), terms[0] if terms else None)


def _take_root(term: Term, value: float) -> float:
    return value if isinstance(term.metric, RootMeanSquaredError) else math.sqrt(max(value, 0.0))
