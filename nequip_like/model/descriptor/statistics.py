"""Statistics of features and energies of a training set, by which a descriptor network is normalised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.graph import edge_vectors
from nequip_like.model.descriptor.arguments import build_descriptor
from nequip_like.nn.chebyshev.descriptor import ChebyshevDescriptor, Environments
from nequip_like.nn.scale_shift import per_type_values


def measure_statistics(arguments: Mapping[str, Any], dataset: GraphDataset) -> dict[str, Any]:
    """Measure what the arguments of a descriptor network leave open: ``feature_stats``, ``E_shift``, ``E_scaling``.

    Energies per atom, above the energies of isolated atoms, come to lie between -1 and 1 with the scaling 2 / range and
    the middle of the range as shift. Each of the two can be given alone. Features have the statistics of the atoms of
    their own species, whose network they go to; frames are read one after the other and not kept.

    Args:
        arguments: Those of :func:`~nequip_like.model.descriptor.builder.DescriptorANNModel` that are given.
        dataset: The training set.
    """
    statistics: dict[str, Any] = {}
    names = list(arguments["type_names"])
    if arguments.get("normalize_features", True) and arguments.get("feature_stats") is None:
        statistics["feature_stats"] = measure_features(build_descriptor(arguments), names, dataset)
    is_set = [arguments.get(name) is not None for name in ("E_shift", "E_scaling")]
    if arguments.get("normalize_energy", True) and not all(is_set):
        shifts = per_type_values("per_type_energy_shifts", arguments.get("per_type_energy_shifts"), names, 0.0)
        lowest, highest = _find_energy_range(dataset, shifts)
        if math.isfinite(lowest):
            scaling = 2.0 / (highest - lowest) if highest > lowest else 1.0
            measured = {"E_shift": 0.5 * (lowest + highest), "E_scaling": scaling}
            statistics |= {name: value for name, value in measured.items() if arguments.get(name) is None}
    return statistics


def measure_features(
    descriptor: ChebyshevDescriptor, type_names: list[str], dataset: GraphDataset
) -> dict[str, dict[str, Any]]:
    """Statistics of the features of each species: count, mean, std, min and max.

    Args:
        descriptor: The descriptor.
        type_names: The species.
        dataset: Frames with neighbours; a species that does not occur has the statistics of all atoms.
    """
    sums = [_Moments(descriptor.size) for _ in type_names]
    for frame in dataset.frames:
        types = frame[fields.ATOM_TYPES]
        centre, neighbour = frame[fields.EDGE_INDEX]
        features = descriptor(Environments(edge_vectors(frame), centre, types[neighbour], len(types)))
        for number, moments in enumerate(sums):
            moments.add(features[types == number])
    overall = _Moments(descriptor.size)
    for moments in sums:
        overall.merge(moments)
    return {
        name: (moments if moments.count else overall).describe() for name, moments in zip(type_names, sums, strict=True)
    }


class _Moments:
    """Count, mean, sum of squared deviations and range of rows, without the cancellation of a sum of squares."""

    def __init__(self, size: int) -> None:
        self.count = 0.0
        self.mean, self.deviations = torch.zeros(2, size, dtype=torch.float64)
        self.lowest = torch.full((size,), torch.inf, dtype=torch.float64)
        self.highest = -self.lowest

    def add(self, rows: Tensor) -> None:
        if not len(rows):
            return
        part = _Moments(rows.shape[1])
        part.count = float(len(rows))
        part.mean = rows.mean(0)
        part.deviations = (rows - part.mean).square().sum(0)
        part.lowest, part.highest = rows.amin(0), rows.amax(0)
        self.merge(part)

    def merge(self, other: _Moments) -> None:
        """Chan, Golub and LeVeque's update of mean and squared deviations."""
        if not other.count:
            return
        total = self.count + other.count
        difference = other.mean - self.mean
        self.mean = self.mean + difference * (other.count / total)
        self.deviations = self.deviations + other.deviations + difference**2 * (self.count * other.count / total)
        self.lowest = torch.minimum(self.lowest, other.lowest)
        self.highest = torch.maximum(self.highest, other.highest)
        self.count = total

    def describe(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "mean": self.mean.tolist(),
            "std": (self.deviations / max(self.count, 1.0)).sqrt().tolist(),
            "min": self.lowest.tolist(),
            "max": self.highest.tolist(),
        }


def _find_energy_range(dataset: GraphDataset, shifts: Tensor) -> tuple[float, float]:
    """Lowest and highest energy per atom above the shifts, eV; infinite without energies."""
    lowest, highest = math.inf, -math.inf
    for frame in dataset.frames:
        if fields.TOTAL_ENERGY not in frame:
            continue
        types = frame[fields.ATOM_TYPES]
        energy = (float(frame[fields.TOTAL_ENERGY]) - float(shifts[types].sum())) / len(types)
        if math.isfinite(energy):
            lowest, highest = min(lowest, energy), max(highest, energy)
    return lowest, highest
