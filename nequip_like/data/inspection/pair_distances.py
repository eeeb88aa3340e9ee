"""The closest atoms of each pair of species, beside what their covalent radii say of a bond."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from ase.data import atomic_numbers, covalent_radii

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.graph import edge_vectors


@dataclass(frozen=True)
class ClosestPair:
    """The closest two atoms of two species.

    Attributes:
        species: Both chemical symbols, in the order of the data set's types.
        distance: Angstrom.
        ratio: The distance over the sum of both covalent radii.
        frame: Index of the frame.
    """

    species: tuple[str, str]
    distance: float
    ratio: float
    frame: int


def find_closest_pairs(dataset: GraphDataset) -> list[ClosestPair]:
    """Find the closest atoms of each pair of species, those that are closest for their radii first.

    Args:
        dataset: Frames with neighbour lists. Pairs that are never within the cutoff radius are left out.
    """
    names, kinds = dataset.type_names, len(dataset.type_names)
    closest = torch.full((kinds * kinds,), torch.inf, dtype=torch.float64)
    where = torch.zeros(kinds * kinds, dtype=torch.int64)
    for i, frame in enumerate(dataset.frames):
        a, b = frame[fields.ATOM_TYPES][frame[fields.EDGE_INDEX]]
        place = torch.minimum(a, b) * kinds + torch.maximum(a, b)
        nearer = closest.scatter_reduce(0, place, edge_vectors(frame).norm(dim=1), "amin")
        where[nearer < closest] = i
        closest = nearer
    pairs = []
    for place in torch.nonzero(closest.isfinite()).flatten().tolist():
        species = names[place // kinds], names[place % kinds]
        bond = float(sum(covalent_radii[atomic_numbers[name]] for name in species))
        distance = float(closest[place])
        pairs.append(ClosestPair(species, distance, distance / bond, int(where[place])))
    return sorted(pairs, key=lambda pair: pair.ratio)
