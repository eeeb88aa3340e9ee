"""Energies of species and the size of forces, found so that some wrong labels among them change little."""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.workflow.label_audit.fitting import ModelScales

_ROUNDS = 30
_SMALLEST = 1e-4  # eV/atom; residuals below it have the same weight
_LARGEST_FORCES = 0.02  # of the atoms, whose forces may be wrong by any factor


def fit_scales(dataset: GraphDataset) -> ModelScales:
    """What all models of an audit share.

    Energies of the species have the smallest sum of absolute residuals (by least squares with weights that are found
    again in each round): frames in another unit, or of another level of theory, do not move them while they are few.
    """
    table = dataset.table
    labelled = np.flatnonzero(table.find_labelled(fields.TOTAL_ENERGY))
    shifts, spread = dict.fromkeys(dataset.type_names, 0.0), 0.0
    if len(labelled):
        numbers = [atomic_numbers[name] for name in dataset.type_names]
        fractions = table.compute_fractions(numbers, labelled)
        energies = table.energy[labelled] / table.atoms[labelled]
        solution = _fit_absolute(fractions, energies)
        shifts = dict(zip(dataset.type_names, map(float, solution), strict=True))
        spread = float(np.median(np.abs(energies - fractions @ solution)))
    lengths = np.sort(table.force_squares[table.force_counts > 0] / table.force_counts[table.force_counts > 0])
    if len(lengths):
        inliers = lengths[: max(1, round((1 - _LARGEST_FORCES) * len(lengths)))]
        spread = float(np.sqrt(inliers.mean()))
    return ModelScales(shifts, spread or 1.0, float(table.neighbors.sum() / table.atoms.sum()))


def _fit_absolute(coefficients: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Solution with the smallest sum of absolute residuals.

    Example:
        >>> _fit_absolute(np.ones((5, 1)), np.array([1.0, 1.0, 1.0, 2.0, 90.0])).round(3).tolist()
        [1.0]
    """
    weights = np.ones(len(targets))
    solution: np.ndarray = np.zeros(coefficients.shape[1])
    for _ in range(_ROUNDS):
        solution = np.linalg.lstsq(coefficients * weights[:, None], targets * weights, rcond=1e-8)[0]
        weights = 1.0 / np.sqrt(np.maximum(np.abs(targets - coefficients @ solution), _SMALLEST))
    return np.asarray(solution)
