"""Frames that are the same structure, or nearly so, also where one is turned or its atoms stand in another order.

Each frame has a fingerprint: for each pair of species, a histogram of distances whose bins are smooth. Frames of the
same composition with nearly the same fingerprint are pairs. What their labels differ by is then compared with what the
models say that they differ by: errors of the models cancel, so a contradiction of a few meV per atom is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.graph import edge_vectors
from nequip_like.workflow.label_audit.committee import Predictions

_BIN, _FIRST = 0.25, 0.5  # Angstrom
_MOST_SPECIES = 12  # that are told apart in a fingerprint; of more, pairs are numbered modulo
EQUAL = 5e-4  # largest difference of fingerprints of the same structure; files round positions
NEAR = 3e-3  # of nearly the same one: atoms are displaced by some 0.005 Angstrom
_CHUNK = 256  # frames that are compared with all others at once
_MOST_COMPARED = 20_000  # frames of one composition; in larger sets pairs are not looked for
_NEIGHBORS = 4  # of a frame that are looked at, itself included
# What labels of a pair may differ by beyond what the models say.
ENERGY_LIMIT = 2e-3  # eV/atom
FORCE_LIMIT = 0.1  # eV/Angstrom


@dataclass(frozen=True)
class Contradiction:
    """Two frames that are nearly the same, with labels that are not.

    Attributes:
        first: The one in front.
        second: The other one.
        distance: Of their fingerprints.
        energy: What their energies differ by, eV/atom, beyond what the models say.
        force: The same of the length of a force, eV/Angstrom, the largest.
    """

    first: int
    second: int
    distance: float
    energy: float
    force: float


def find_alike_pairs(dataset: GraphDataset) -> list[tuple[int, int, float]]:
    """Pairs of frames that are nearly the same: both, the one in front first, and how far they are apart.

    Args:
        dataset: Frames with neighbour lists.
    """
    prints = [_make_fingerprint(dataset, i) for i in range(len(dataset))]
    compositions: dict[bytes, list[int]] = {}
    for i in range(len(dataset)):
        numbers = np.sort(dataset.frames[i][fields.ATOMIC_NUMBERS].numpy())
        if len(numbers) > 1:
            compositions.setdefault(numbers.tobytes(), []).append(i)
    pairs: dict[tuple[int, int], float] = {}
    for members in compositions.values():
        if len(members) > _MOST_COMPARED:
            continue
        points = torch.from_numpy(np.stack([prints[i] for i in members]))
        for start in range(0, len(members), _CHUNK):
            distances = torch.cdist(points[start : start + _CHUNK], points, p=torch.inf)
            near, nearest = distances.topk(min(_NEIGHBORS, len(members)), largest=False)
            for row, column in torch.nonzero(near <= NEAR).tolist():
                first, partner = sorted((members[start + row], members[int(nearest[row, column])]))
                if first != partner:
                    pairs[first, partner] = float(near[row, column])
    return [(first, partner, distance) for (first, partner), distance in sorted(pairs.items())]


def find_contradictions(
    dataset: GraphDataset, pairs: list[tuple[int, int, float]], predictions: Predictions
) -> list[Contradiction]:
    """Pairs whose labels differ otherwise than predictions do."""
    energies, atoms = dataset.table.energy, dataset.table.atoms
    contradictions = []
    for first, partner, distance in pairs:
        predicted = predictions.energy[partner] - predictions.energy[first]
        energy = abs(energies[partner] - energies[first] - predicted) / atoms[first]
        change, force = _compare_forces(dataset, first, partner, predictions)
        if change > FORCE_LIMIT:
            continue  # alike only on average, as two frames of a large liquid are
        energy, force = (0.0 if np.isnan(value) else float(value) for value in (energy, force))
        if energy > ENERGY_LIMIT or force > FORCE_LIMIT:
            contradictions.append(Contradiction(first, partner, distance, energy, force))
    return contradictions


def group_equal(count: int, pairs: list[tuple[int, int, float]]) -> np.ndarray:
    """A number for each frame, the same for those that are the same structure (frames,).

    Example:
        >>> group_equal(4, [(0, 2, 0.0), (1, 2, 0.02)]).tolist()
        [0, 1, 0, 3]
    """
    number = np.arange(count)
    for first, partner, distance in pairs:
        if distance <= EQUAL:
            number[number == number[partner]] = number[first]
    return number


def _make_fingerprint(dataset: GraphDataset, index: int) -> np.ndarray:
    frame = dataset.frames[index]
    species = frame[fields.ATOM_TYPES].numpy() % _MOST_SPECIES
    centre, neighbor = frame[fields.EDGE_INDEX].numpy()
    lengths = edge_vectors(frame).norm(dim=1).numpy()
    kinds = min(len(dataset.type_names), _MOST_SPECIES)
    a, b = np.minimum(species[centre], species[neighbor]), np.maximum(species[centre], species[neighbor])
    pair = a * kinds + b
    centres = np.arange(_FIRST, dataset.cutoff, _BIN)
    heights = np.exp(-(((lengths[:, None] - centres) / _BIN) ** 2) / 2)
    heights *= (0.5 * (1 + np.cos(np.pi * np.minimum(lengths / dataset.cutoff, 1.0))))[:, None]
    bins = np.zeros((kinds * kinds, len(centres)))
    np.add.at(bins, pair, heights)
    species_pairs = [i * kinds + j for i in range(kinds) for j in range(i, kinds)]
    print_of = bins[species_pairs].ravel() / len(species)
    return np.asarray(print_of)


def _compare_forces(dataset: GraphDataset, first: int, partner: int, predictions: Predictions) -> tuple[float, float]:
    """Largest difference of predicted lengths of forces, and of the labels' beyond that; NaN without labels.

    Atoms are put into the order of their species and predicted lengths, which is the same in a turned frame.
    """
    lengths, rests = [], []
    for i in (first, partner):
        frame, predicted = dataset.frames[i], np.linalg.norm(predictions.forces[i], axis=1)
        order = np.lexsort((predicted, frame[fields.ATOM_TYPES].numpy()))
        labels = np.linalg.norm(frame[fields.FORCES].numpy(), axis=1) if fields.FORCES in frame else np.nan
        lengths.append(predicted[order])
        rests.append((labels - predicted)[order])
    return float(np.abs(lengths[1] - lengths[0]).max()), float(np.abs(rests[1] - rests[0]).max())
