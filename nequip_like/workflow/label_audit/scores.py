"""How far labels stand from what models say that have not seen them, measured by what is usual for frames as difficult.

A residual says little by itself: models are worse for large forces and where they know little. How much they know is
seen from how far two of them differ. So each residual is divided by the typical one (the median) of values with about
the same *difficulty*, which is made of that spread, of the size of the force, and of the typical residual. The quotient
over 1.4826 is a score: of residuals that are normally distributed it would be the number of standard deviations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.workflow.label_audit.committee import Predictions

NORMAL = 1.4826  # of a normal distribution, the standard deviation over the median of absolute values
_SHARE_OF_FORCE = 0.05  # of a force, that models miss in any case
_FLOOR = 0.3  # of the typical residual, that is never less difficult
_CLASS, _MOST_CLASSES = 40, 12  # values that have a median of their own, at least; and how many such classes
_SMALLEST_ENERGY, _SMALLEST_FORCE = 1e-5, 1e-4  # eV/atom, eV/Angstrom; labels are rounded to about as much


@dataclass(frozen=True)
class Scores:
    """Residuals of frames and of atoms, with their scores. NaN where a label is missing.

    Attributes:
        energy: Residual of the energy per atom (frames,), eV, without what is common to most frames.
        common: That, eV.
        energy_score: Its score (frames,).
        force: Length of the residual of each atom's force, for each frame (atoms,), eV/Angstrom.
        force_score: Their scores (atoms,) of each frame.
        worst: The largest score of the forces of each frame (frames,).
        typical_energy: Median of the absolute residuals of energies, eV/atom.
        typical_force: Median of the residuals of forces, eV/Angstrom.
    """

    energy: np.ndarray
    common: float
    energy_score: np.ndarray
    force: list[np.ndarray]
    force_score: list[np.ndarray]
    worst: np.ndarray
    typical_energy: float
    typical_force: float


def compute_scores(dataset: GraphDataset, predictions: Predictions) -> Scores:
    """Compare labels with predictions.

    Args:
        dataset: The frames with their labels.
        predictions: Of models that have not seen them.
    """
    atoms = dataset.table.atoms
    energy = (dataset.table.energy - predictions.energy) / atoms
    common = 0.0 if np.isnan(energy).all() else float(np.nanmedian(energy))
    energy = energy - common
    energy_score, typical_energy = _score_energies(energy, predictions.energy_spread / atoms)
    force, spread, size, species = [], [], [], []
    for i, predicted in enumerate(predictions.forces):
        frame = dataset.frames[i]
        labels = frame[fields.FORCES].numpy() if fields.FORCES in frame else np.full_like(predicted, np.nan)
        force.append(np.linalg.norm(labels - predicted, axis=1))
        size.append(np.linalg.norm(predicted, axis=1))
        spread.append(predictions.forces_spread[i])
        species.append(frame[fields.ATOM_TYPES].numpy())
    flat, typical_force = _score_forces(*map(np.concatenate, (force, spread, size, species)))
    force_score = np.split(flat, np.cumsum(atoms)[:-1])
    worst = np.array([np.nan if np.isnan(part).all() else np.nanmax(part) for part in force_score])
    return Scores(energy, common, energy_score, force, force_score, worst, typical_energy, typical_force)


def _score_energies(residual: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, float]:
    labelled = ~np.isnan(residual)
    scores = np.full(len(residual), np.nan)
    if not labelled.any():
        return scores, float("nan")
    typical = max(float(np.median(np.abs(residual[labelled]))), _SMALLEST_ENERGY)
    difficulty = np.hypot(spread[labelled], _FLOOR * typical)
    scores[labelled] = compare_with_alike(residual[labelled], difficulty, _SMALLEST_ENERGY)
    return scores, typical


def _score_forces(
    residual: np.ndarray, spread: np.ndarray, size: np.ndarray, species: np.ndarray
) -> tuple[np.ndarray, float]:
    labelled = ~np.isnan(residual)
    scores = np.full(len(residual), np.nan)
    if not labelled.any():
        return scores, float("nan")
    typical = max(float(np.median(residual[labelled])), _SMALLEST_FORCE)
    difficulty = np.sqrt(spread**2 + (_SHARE_OF_FORCE * size) ** 2 + (_FLOOR * typical) ** 2)
    for kind in np.unique(species[labelled]):
        of_kind = labelled & (species == kind)
        scores[of_kind] = compare_with_alike(residual[of_kind], difficulty[of_kind], _SMALLEST_FORCE)
    return scores, typical


def compare_with_alike(residual: np.ndarray, difficulty: np.ndarray, smallest: float) -> np.ndarray:
    """Scores: absolute residuals over the typical one of values that are about as difficult, over 1.4826.

    Values are put into classes by their difficulty. The medians of the classes, which may only rise, are joined by
    lines on logarithmic axes; beyond the last one, what is typical grows with the difficulty.

    Args:
        residual: Residuals (values,).
        difficulty: How difficult each is, above zero (values,).
        smallest: What is typical at least.

    Example:
        One of ten is ten times what is typical:

        >>> compare_with_alike(np.array([1.0] * 9 + [-10.0]), np.ones(10), 1e-5).round(2).tolist()[-2:]
        [0.67, 6.74]
    """
    order = np.argsort(difficulty, kind="stable")
    classes = np.array_split(order, int(np.clip(len(order) // _CLASS, 1, _MOST_CLASSES)))
    places = np.log([np.median(difficulty[part]) for part in classes])
    medians = np.log([max(float(np.median(np.abs(residual[part]))), smallest) for part in classes])
    points = np.log(difficulty)
    typical = np.interp(points, places, np.maximum.accumulate(medians)) + np.maximum(0.0, points - places[-1])
    scores: np.ndarray = np.abs(residual) / np.exp(typical) / NORMAL
    return scores
