"""Errors of predictions as numbers: over all frames, and for the forces on each species."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.data.tables.frame_table import tabulate
from nequip_like.metrics.baseline import compute_baseline_errors, compute_mean_remainder
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.presets import METRICS, build_metric_entries

_EDGES = (fields.EDGE_INDEX, fields.EDGE_CELL_SHIFT, fields.EDGE_VECTORS)


class ErrorMetrics:
    """Sums of errors over batches; what comes out does not depend on how frames are batched.

    Args:
        labels: What is compared: some of ``total_energy``, ``forces``, ``stress``.
        type_names: Species, by the atom types of the frames.

    Example:
        >>> labels = {
        ...     "total_energy": torch.tensor([[-2.0]]),
        ...     "forces": torch.zeros(2, 3),
        ...     "num_atoms": torch.tensor([2]),
        ...     "atom_types": torch.tensor([0, 1]),
        ... }
        >>> errors = ErrorMetrics(["total_energy", "forces"], ["H", "O"])
        >>> predicted = {"total_energy": torch.tensor([[-1.9]]), "forces": torch.tensor([[0.3] * 3, [0.0] * 3])}
        >>> errors.update({**labels, **predicted}, labels)
        >>> values = errors.compute()
        >>> [round(values[name], 4) for name in ("per_atom_energy_mae", "forces_mae", "forces_mae_H", "forces_mae_O")]
        [0.05, 0.15, 0.3, 0.0]
    """

    def __init__(self, labels: Sequence[str], type_names: Sequence[str]) -> None:
        self._overall = MetricsManager(build_metric_entries(tuple(labels)), sync=False)
        self._by_type = None
        self._type_names = list(type_names)
        if fields.FORCES in labels:
            self._by_type = MetricsManager(_list_entries_by_type(), type_names=self._type_names, sync=False)

    def update(self, prediction: Graph, target: Graph) -> None:
        """Add a batch."""
        self._overall.update(prediction, target)
        if self._by_type is not None:
            self._by_type.update(prediction, target)

    def compute(self) -> dict[str, float]:
        """Metrics by name, in eV and Angstrom; what no frame has a label for is left out."""
        metrics = {name: float(value) for name, value in self._overall.compute().items()}
        for name in self._overall.missing_terms():
            del metrics[name]
        if self._by_type is not None:
            values = {name: float(value) for name, value in self._by_type.compute().items()}
            names = [f"{fields.FORCES}_{short}_{name}" for name in self._type_names for short in METRICS]
            # Predictions are finite, so a value that is NaN means a species without a label.
            metrics |= {name: values[name] for name in names if values[name] == values[name]}
        return metrics


def compute_baseline(
    frames: Sequence[Graph], labels: Sequence[str], references: Mapping[str, float]
) -> dict[str, float]:
    """Errors of a model that knows nothing on these frames, by name: no forces, no stress, mean energies.

    Args:
        frames: The frames, with their labels.
        labels: As for :class:`ErrorMetrics`.
        references: Reference energy of each species, eV; the mean per atom that they leave on these frames is added.
    """
    manager = MetricsManager(build_metric_entries(tuple(labels)), sync=False)
    return compute_baseline_errors(frames, manager, references, compute_mean_remainder(tabulate(frames), references))


def compute_errors(
    frames: Iterable[tuple[Graph, Graph]], labels: Sequence[str], type_names: Sequence[str], batch_size: int
) -> dict[str, float]:
    """Metrics of frames and their predictions, without evaluating the potential again.

    Args:
        frames: ``(frame, prediction)``.
        labels: As for :class:`ErrorMetrics`.
        type_names: As for :class:`ErrorMetrics`.
        batch_size: Frames at a time.
    """
    metrics = ErrorMetrics(labels, type_names)
    pairs = [({k: v for k, v in frame.items() if k not in _EDGES}, predicted) for frame, predicted in frames]
    for start in range(0, len(pairs), batch_size):
        targets, predictions = zip(*pairs[start : start + batch_size], strict=True)
        target = collate(targets)
        metrics.update({**target, **_join_predictions(predictions)}, target)
    return metrics.compute()


def _join_predictions(predictions: Sequence[Graph]) -> Graph:
    return {key: torch.cat([prediction[key] for prediction in predictions]) for key in predictions[0]}


def _list_entries_by_type() -> list[dict[str, Any]]:
    return [
        {"name": f"{fields.FORCES}_{short}", "field": fields.FORCES, "metric": metric, "per_type": True}
        for short, metric in METRICS.items()
    ]
