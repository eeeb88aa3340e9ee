"""A potential against labelled data: metrics, predictions, and the frames that it predicts worst."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset, load_dataset
from nequip_like.data.fields import Graph
from nequip_like.data.given import Source
from nequip_like.data.graph import split
from nequip_like.errors import DataError, ModelError
from nequip_like.inference.loading import load_any
from nequip_like.inference.predictor import DEFAULT_BATCH_SIZE, Predictor, check_fits
from nequip_like.model.potential import Potential
from nequip_like.train.metrics_manager import MetricsManager
from nequip_like.train.presets import METRICS, metric_entries

COMPARED = (fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS)
WORST_FRAMES = 10


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


@dataclass(frozen=True)
class Evaluation:
    """What a potential does on a data set.

    Attributes:
        dataset: The data set, with its labels.
        predictions: Predicted fields of each frame, on the CPU.
        metrics: ``{name: value}`` in eV and Angstrom: ``{total_energy, per_atom_energy, forces, stress}_{mae, rmse,
            maxabserr}``, and ``forces_mae_H`` and so on for each species. What no frame has a label for is left out.
        worst: The frames with the largest errors, worst first.
    """

    dataset: GraphDataset
    predictions: list[Graph]
    metrics: dict[str, float]
    worst: list[WorstFrame]

    @property
    def compared(self) -> tuple[str, ...]:
        """Labels that both the data has and the potential predicts."""
        return compared_labels(self.dataset, self.predictions[0])

    def pairs(self, label: str) -> tuple[Tensor, Tensor]:
        """Labels and predictions of all frames, rows of a frame together; rows without a label are NaN.

        Args:
            label: One of :attr:`compared`.

        Returns:
            Two tensors (rows, ...), float64, in the units of :mod:`nequip_like.data.fields`.
        """
        labels = torch.cat([frame[label] for frame in self.dataset.frames])
        return labels, torch.cat([prediction[label] for prediction in self.predictions])


def compared_labels(dataset: GraphDataset, predicted: Container[str]) -> tuple[str, ...]:
    """Labels that some frame of a data set has and that are predicted."""
    return tuple(label for label in COMPARED if label in dataset.labels and label in predicted)


def evaluate(
    potential: Potential | str | Path,
    dataset: GraphDataset | Source,
    batch_size: int = DEFAULT_BATCH_SIZE,
    device: str | torch.device = "cpu",
    *,
    key_mapping: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> Evaluation:
    """Compare a potential with the labels of a data set.

    Missing labels (NaN) and weights of frames and atoms count as they do in training. Metrics are sums over all
    frames, so they do not depend on the batch size.

    Args:
        potential: The potential, or a model file, a checkpoint or a run folder.
        dataset: A data set made for the potential's species and cutoff, or what one can be made of: files, ``Atoms`` or
            graphs, one or many.
        batch_size: Structures at a time.
        device: ``cpu``, ``cuda``, ...; ``auto`` takes a GPU if there is one.
        key_mapping: ``{name in the file: label}``, where names are not the usual ones; for files and ``Atoms``.
        units: ``{"energy": ..., "length": ...}`` of files and ``Atoms``; eV and Angstrom by default.

    Raises:
        ModelFileError: If the model cannot be read.
        ModelError: If the data set was made for other species or a smaller cutoff, or if a prediction is not finite.
        DataError: If no frame has a label that the potential predicts, or the data cannot be read.
        ConfigError: If there is no such device, unit or label.
    """
    if not isinstance(potential, Potential):
        potential = load_any(potential)[0]
    if isinstance(dataset, GraphDataset):
        check_fits(potential, dataset)
    else:
        dataset = load_dataset(dataset, potential.type_names, potential.cutoff, key_mapping, units)
    predictor = Predictor(potential, device, batch_size)
    labels = compared_labels(dataset, potential.predicted_fields)
    if not labels:
        raise DataError(
            f"data set '{dataset.name}': no frame has an energy, forces or stress that the model predicts",
            "declare the names of the labels in the file, for example key_mapping: {my_energy: total_energy}",
        )
    overall = MetricsManager(metric_entries(labels), sync=False)
    by_type = MetricsManager(_entries_by_type(), type_names=dataset.type_names, sync=False)
    predictions: list[Graph] = []
    for batch, prediction in predictor.batches(dataset):  # type: ignore[arg-type] # a Dataset has len and []
        parts = split(prediction)
        for part in parts:
            _check_finite(part, dataset, len(predictions))
            predictions.append(part)
        overall.update(prediction, batch)
        if fields.FORCES in labels:
            by_type.update(prediction, batch)
    metrics = {name: float(value) for name, value in overall.compute().items()}
    for name in overall.missing_terms():
        del metrics[name]
    if fields.FORCES in labels:
        metrics |= _type_values(by_type, dataset.type_names)
    return Evaluation(dataset, predictions, metrics, _worst(dataset, predictions, labels))


def _check_finite(prediction: Graph, dataset: GraphDataset, index: int) -> None:
    for name in (fields.TOTAL_ENERGY, fields.FORCES):
        if name in prediction and not bool(torch.isfinite(prediction[name]).all()):
            raise ModelError(
                f"the model predicts '{name}' of {dataset.origin(index)} as a number that is not finite",
                "the training diverged, or the frame has atoms much closer than any in the training data",
            )


def _entries_by_type() -> list[dict[str, Any]]:
    return [
        {"name": f"{fields.FORCES}_{short}", "field": fields.FORCES, "metric": metric, "per_type": True}
        for short, metric in METRICS.items()
    ]


def _type_values(manager: MetricsManager, type_names: list[str]) -> dict[str, float]:
    """Values by species. Predictions are finite, so a value that is NaN means a species without a label."""
    values = {name: float(value) for name, value in manager.compute().items()}
    names = [f"{fields.FORCES}_{short}_{name}" for name in type_names for short in METRICS]
    return {name: values[name] for name in names if values[name] == values[name]}


def _worst(dataset: GraphDataset, predictions: list[Graph], labels: tuple[str, ...]) -> list[WorstFrame]:
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
