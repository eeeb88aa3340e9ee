"""Compares a potential with labelled data: metrics, predictions, and the frames that it predicts worst."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.batches.batch_size import BatchSize, SizeOfBatch
from nequip_like.data.dataset import GraphDataset, load_dataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import arrays_of, graphs_of, split
from nequip_like.data.io.annotations import group_key, group_names
from nequip_like.data.io.readers import Source
from nequip_like.errors import DataError, ModelError
from nequip_like.inference.error_metrics import ErrorMetrics, compute_baseline, compute_errors
from nequip_like.inference.predictor import DEFAULT_BATCH_SIZE, Predictor, check_fits
from nequip_like.inference.uncertainty_quality import UncertaintyQuality, judge_predictions
from nequip_like.model.families import list_members
from nequip_like.model.potential import Potential
from nequip_like.summaries import Summarized, html_table

COMPARED = (fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS)
WORST_FRAMES = 10
COLUMNS = (("MAE", "mae"), ("RMSE", "rmse"), ("max", "maxabserr"))  # of tables of errors
_UNITS = {
    fields.TOTAL_ENERGY: "eV",
    "per_atom_energy": "eV/atom",
    fields.FORCES: "eV/Å",
    fields.STRESS: "eV/Å³",
}
_FIRST = ("per_atom_energy_rmse", "forces_rmse", "stress_rmse")
_METRIC = re.compile(rf"({'|'.join(_UNITS)})_({'|'.join(name for _, name in COLUMNS)})(?:_(\w+))?")


@dataclass(frozen=True)
class WorstFrame:
    """A frame with a large error.

    Attributes:
        index: Position in the data set.
        origin: File and frame that it comes from.
        quantity: What the error is of: ``forces`` (root mean square over the frame, eV/Angstrom), else
            ``per_atom_energy`` (absolute, eV), else ``stress`` (root mean square, eV/Angstrom^3).
        error: The error.
    """

    index: int
    origin: str
    quantity: str
    error: float


@dataclass(frozen=True, repr=False)
class Groups(Summarized):
    """Errors by what frames have in common.

    Attributes:
        key: The key of ``atoms.info`` whose values are the groups.
        frames: ``{group: number of frames}``, sorted by name.
        metrics: ``{group: {name: value}}``, as :attr:`Evaluation.metrics`.
    """

    key: str
    frames: dict[str, int]
    metrics: dict[str, dict[str, float]]

    def summary(self) -> dict[str, Any]:
        """The key, and the size of each group."""
        return {"key": self.key, "frames": self.frames}


@dataclass(frozen=True, repr=False)
class Evaluation(Summarized):
    """What a potential does on a data set.

    Attributes:
        dataset: The data set, with its labels.
        predictions: Predicted fields of each frame, on the CPU.
        metrics: ``{name: value}`` in eV and Angstrom: ``{total_energy, per_atom_energy, forces, stress}_{mae, rmse,
            maxabserr}``, and ``forces_mae_H`` and so on for each species. What no frame has a label for is left out.
        worst: The frames with the largest errors, worst first.
        groups: Errors by group, where the frames carry several.
        baseline: Errors of a model that knows nothing, as :attr:`metrics`: no forces, no stress, and the energy shifts
            of the potential with the mean per atom that they leave on these frames.
        uncertainty: Quality of the predicted uncertainties, by what they are of; empty where none are predicted.
    """

    dataset: GraphDataset
    predictions: list[Graph]
    metrics: dict[str, float]
    worst: list[WorstFrame]
    groups: Groups | None = None
    baseline: dict[str, float] = field(default_factory=dict)
    uncertainty: dict[str, UncertaintyQuality] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Name, size and the errors that are looked at first, in eV and Angstrom."""
        errors = {name: value for name, value in self.metrics.items() if name in _FIRST}
        return {"name": self.dataset.name, "frames": len(self.dataset), **errors}

    def _repr_html_(self) -> str:
        """All errors as a table, in eV and Angstrom."""
        return _format_error_table(f"{self.dataset.name}: {len(self.dataset)} frames", self.metrics)

    def __getstate__(self) -> dict[str, Any]:
        """Predictions as arrays, for the reason that :class:`~nequip_like.data.dataset.GraphDataset` has."""
        return {**self.__dict__, "predictions": arrays_of(self.predictions)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, predictions=graphs_of(state["predictions"]))

    @property
    def compared(self) -> tuple[str, ...]:
        """Labels that both the data has and the potential predicts."""
        return select_compared_labels(self.dataset, self.predictions[0])

    def pairs(self, label: str) -> tuple[Tensor, Tensor]:
        """Labels and predictions of all frames, rows of a frame together; rows without a label are NaN.

        Args:
            label: One of :attr:`compared`.

        Returns:
            Two tensors (rows, ...), float64, in the units of :mod:`nequip_like.data.fields`.
        """
        labels = torch.cat([frame[label] for frame in self.dataset.frames])
        return labels, torch.cat([prediction[label] for prediction in self.predictions])


class Evaluations(Summarized, dict[str, Evaluation]):
    """The evaluation of each data set, by name."""

    def summary(self) -> dict[str, Any]:
        """The data sets."""
        return {name: repr(evaluation) for name, evaluation in self.items()}

    def _repr_html_(self) -> str:
        """The tables of all data sets, one below the other."""
        return "".join(evaluation._repr_html_() for evaluation in self.values())


def _format_error_table(title: str, metrics: Mapping[str, float]) -> str:
    """Errors: a row for each quantity, and for the forces on each species."""
    split_names = [_METRIC.fullmatch(name) for name in metrics]
    rows: dict[str, dict[str, str]] = {}
    for match in split_names:
        if match is not None:
            quantity, short_name, species = match.groups()
            of = f"{quantity} on {species}" if species else quantity
            rows.setdefault(of, {"unit": _UNITS[quantity]})[short_name] = f"{metrics[match.group()]:.4g}"
    cells = [[of, row["unit"], *(row.get(name, "") for _, name in COLUMNS)] for of, row in rows.items()]
    return html_table(title, ("error of", "unit", *(heading for heading, _ in COLUMNS)), cells)


def select_compared_labels(dataset: GraphDataset, predicted: Container[str]) -> tuple[str, ...]:
    """Labels that some frame of a data set has and that are predicted."""
    return tuple(label for label in COMPARED if label in dataset.labels and label in predicted)


def evaluate(
    potential: Potential | str | Path,
    dataset: GraphDataset | Source,
    batch_size: SizeOfBatch | BatchSize = DEFAULT_BATCH_SIZE,
    device: str | torch.device = "cpu",
    *,
    key_mapping: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    group_by: str | None = None,
) -> Evaluation:
    """Compare a potential with the labels of a data set.

    Missing labels (NaN) and weights of frames and atoms count as they do in training. Metrics are sums over all
    frames, so they do not depend on the batch size.

    Args:
        potential: The potential, or a model file, a checkpoint or a run folder.
        dataset: A data set made for the potential's species and cutoff, or what one can be made of: files, ``Atoms`` or
            graphs, one or many.
        batch_size: Structures at a time, or ``{"atoms": 2048}``, ``{"edges": 100000}``.
        device: ``cpu``, ``cuda``, ...; ``auto`` takes a GPU if there is one.
        key_mapping: ``{name in the file: label}``, where names are not the usual ones; for files and ``Atoms``.
        units: ``{"energy": ..., "length": ...}`` of files and ``Atoms``; eV and Angstrom by default.
        group_by: Key of ``atoms.info`` by whose values errors are told apart; by default ``config_type`` or ``group``,
            where these have 2 to 20 values.

    Raises:
        ModelFileError: If the model cannot be read.
        ModelError: If the data set was made for other species or a smaller cutoff, or if a prediction is not finite.
        DataError: If no frame has a label that the potential predicts, or the data cannot be read.
        ConfigError: If there is no such device, unit or label, or ``group_by`` is no word or number.

    Example:
        Two atoms that are too far apart to see each other have the energies of the isolated atoms, -2 eV here:

        >>> from ase import Atoms
        >>> from ase.calculators.singlepoint import SinglePointCalculator
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> potential = NequIPGNNModel(type_names=["H"], r_max=3.0, per_type_energy_shifts=-1.0, **tiny)
        >>> atoms = Atoms("H2", [[0, 0, 0], [0, 0, 9]])
        >>> atoms.calc = SinglePointCalculator(atoms, energy=-2.5)
        >>> metrics = evaluate(potential, atoms).metrics
        >>> round(metrics["total_energy_mae"], 6), round(metrics["per_atom_energy_mae"], 6)
        (0.5, 0.25)
    """
    predictor = Predictor(potential, device, batch_size)
    potential = predictor.potential
    if isinstance(dataset, GraphDataset):
        check_fits(potential, dataset)
    else:
        dataset = load_dataset(dataset, potential.type_names, potential.cutoff, key_mapping, units)
    labels = select_compared_labels(dataset, potential.predicted_fields)
    if not labels:
        raise DataError(
            f"data set '{dataset.name}': no frame has an energy, forces or stress that the model predicts",
            "declare the names of the labels in the file, for example key_mapping={'my_energy': 'total_energy'}, "
            "--key-mapping my_energy=total_energy",
        )
    metrics = ErrorMetrics(labels, dataset.type_names)
    predictions: list[Graph] = []
    for batch, prediction in predictor.batches(dataset):  # type: ignore[arg-type] # a Dataset has len and []
        parts = split(prediction)
        for part in parts:
            _check_finite(part, dataset, len(predictions))
            predictions.append(part)
        metrics.update(prediction, batch)
    groups = _evaluate_groups(dataset, predictions, labels, group_by)
    worst = _rank_worst_frames(dataset, predictions, labels)
    baseline = compute_baseline(dataset.frames, labels, _find_references(potential))
    uncertainty = judge_predictions(dataset.frames, predictions)
    return Evaluation(dataset, predictions, metrics.compute(), worst, groups, baseline, uncertainty)


def _find_references(potential: Potential) -> dict[str, float]:
    """Energy shift of each species that a potential was built with; 0 of a family that has no such argument."""
    shifts = list_members(potential.config)[0].get("arguments", {}).get("per_type_energy_shifts")
    if isinstance(shifts, Mapping):
        return {str(name): float(shift) for name, shift in shifts.items()}
    return dict.fromkeys(potential.type_names, float(shifts or 0.0))


def _evaluate_groups(
    dataset: GraphDataset, predictions: list[Graph], labels: tuple[str, ...], key: str | None
) -> Groups | None:
    key = group_key(dataset.annotations) if key is None else key
    if key is None or not any(key in frame.info for frame in dataset.annotations):
        return None
    members: dict[str, list[tuple[Graph, Graph]]] = {}
    for name, pair in zip(
        group_names(dataset.annotations, key), zip(dataset.frames, predictions, strict=True), strict=True
    ):
        members.setdefault(name, []).append(pair)
    metrics = {
        name: compute_errors(members[name], labels, dataset.type_names, DEFAULT_BATCH_SIZE) for name in sorted(members)
    }
    return Groups(key, {name: len(members[name]) for name in metrics}, metrics)


def _check_finite(prediction: Graph, dataset: GraphDataset, index: int) -> None:
    for name in (fields.TOTAL_ENERGY, fields.FORCES):
        if name in prediction and not bool(torch.isfinite(prediction[name]).all()):
            raise ModelError(
                f"the model predicts '{name}' of {dataset.origin(index)} as a number that is not finite",
                "the training diverged, or the frame has atoms much closer than any in the training data",
            )


def _rank_worst_frames(dataset: GraphDataset, predictions: list[Graph], labels: tuple[str, ...]) -> list[WorstFrame]:
    """Frames ranked by the first of forces, energy and stress that is compared; frames without it are left out."""
    label = next(name for name in (fields.FORCES, fields.TOTAL_ENERGY, fields.STRESS) if name in labels)
    quantity = "per_atom_energy" if label == fields.TOTAL_ENERGY else label
    frames = []
    for i, (frame, prediction) in enumerate(zip(dataset.frames, predictions, strict=True)):
        error = prediction[label] - frame[label]
        error = error[~torch.isnan(error)]
        if error.numel():
            size = float(error.square().mean().sqrt())
            if label == fields.TOTAL_ENERGY:
                size /= len(frame[fields.POSITIONS])
            frames.append(WorstFrame(i, dataset.origin(i), quantity, size))
    return sorted(frames, key=lambda frame: -frame.error)[:WORST_FRAMES]
