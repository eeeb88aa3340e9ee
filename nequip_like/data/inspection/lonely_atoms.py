"""Atoms that see nobody within the cutoff radius: a model cannot tell them from isolated ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import edge_vectors
from nequip_like.data.neighbors import add_neighbors
from nequip_like.data.statistics import neighbors_per_atom
from nequip_like.errors import DataError

_REACH = 6.0  # Angstrom; as far as cutoff radii of good models go, so that no one misses who is farther away
_MOST_FRAMES = 200  # whose distances are measured


def describe_lonely_atoms(dataset: GraphDataset) -> str | None:
    """One sentence on atoms that a longer cutoff radius would show to each other; None without any.

    Frames that are isolated atoms are none of these, nor are atoms more than 6 Angstrom away from the next one.
    """
    table = dataset.table
    frames = np.flatnonzero((table.fewest_neighbors == 0) & ~table.isolated).tolist()
    distances = _measure_beyond_cutoff([dataset.frames[i] for i in frames[:_MOST_FRAMES]])
    if len(distances) == 0:
        return None
    lonely = sum(int((neighbors_per_atom(dataset.frames[i]) == 0).sum()) for i in frames)
    atoms = int(table.atoms.sum())
    return (
        f"{lonely} of {atoms} atoms have no neighbour within {dataset.cutoff:g} Angstrom, in {len(frames)} frames; the "
        f"nearest is {float(distances.min()):.2f} to {float(distances.max()):.2f} Angstrom away; raise cutoff_radius; "
        f"first: {dataset.origin(frames[0])}"
    )


def check_neighbors(train: GraphDataset) -> None:
    """Refuse a training set in which no atom sees another one.

    Raises:
        DataError: With the shortest distance.
    """
    if train.table.most_neighbors.any():
        return
    distances = _measure_beyond_cutoff(train.frames[:_MOST_FRAMES])
    if len(distances):
        advice = f"raise cutoff_radius; the shortest distance is {float(distances.min()):.2f} Angstrom"
    elif train.table.isolated.all():
        advice = "each of its frames is an isolated atom; add frames in which atoms are bound"
    else:
        advice = f"no two atoms are within {_REACH:g} Angstrom of each other; is the length unit right?"
    raise DataError(f"no atom of the training set has a neighbour within {train.cutoff:g} Angstrom", advice)


def _measure_beyond_cutoff(frames: Sequence[Graph]) -> torch.Tensor:
    """Distances from atoms that have no neighbour to the nearest atom, up to ``_REACH``, in any order, Angstrom."""
    distances = [torch.zeros(0, dtype=torch.float64)]
    for frame in frames:
        lonely = neighbors_per_atom(frame) == 0
        wide = add_neighbors(frame, _REACH)
        centre = wide[fields.EDGE_INDEX][0]
        nearest = torch.full((len(lonely),), torch.inf, dtype=torch.float64)
        nearest = nearest.scatter_reduce(0, centre, edge_vectors(wide).norm(dim=1), "amin")
        distances.append(nearest[lonely & nearest.isfinite()])
    return torch.cat(distances)
