"""Structures as a few large arrays, and batches of them with their neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ase import Atoms

from nequip_like.data import fields
from nequip_like.data.dataset import COLLISION
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.data.io.annotations import Annotations
from nequip_like.data.io.structures import LARGEST_LENGTH, check_extent, graph_from_atoms
from nequip_like.data.labels.frame_units import is_stated_unit
from nequip_like.data.labels.names import label_of
from nequip_like.data.neighbors import FEW_ATOMS, add_neighbors
from nequip_like.data.species import explain_unknown_species

_ATOMIC_NUMBERS = 118
_COUNTED_TOGETHER = 16  # structures whose edges are there at a time
_MOST_PAIRS = 1 << 19  # that are looked at together: 12 MB of vectors


@dataclass(frozen=True)
class Remarks:
    """What a frame holds beside its structure and labels.

    Attributes:
        text: Values of the structure by name, as they stand in the comment line of an extended XYZ file.
        values: The same, and those of atoms, as they were read.
    """

    text: Mapping[str, str] = field(default_factory=dict)
    values: Annotations = field(default_factory=Annotations)

    @classmethod
    def collect(cls, info: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Remarks:
        """All values but what may be labels, units, and the structure itself."""
        return cls(
            values=Annotations(
                {
                    name: value
                    for name, value in info.items()
                    if isinstance(name, str) and label_of(name) is None and not is_stated_unit(name, value)
                },
                {
                    name: array
                    for name, array in arrays.items()
                    if name not in ("numbers", "positions") and label_of(name) is None
                },
            )
        )


@dataclass(frozen=True)
class StructureArrays:
    """A run of structures.

    Attributes:
        numbers: Atomic numbers of all atoms, shape (atoms,).
        positions: Shape (atoms, 3), Angstrom.
        counts: Number of atoms of each structure, shape (structures,).
        cells: Shape (structures, 3, 3), Angstrom; zeros without a cell.
        pbc: Shape (structures, 3).
        title: What they are frames of, for messages.
        first: Number of the first one there.
        remarks: What each holds beside; empty where nobody asked for it.
        origins: Where each comes from, where title and number do not tell it.
    """

    numbers: np.ndarray
    positions: np.ndarray
    counts: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray
    title: str
    first: int
    remarks: Sequence[Remarks] = ()
    origins: Sequence[str] = ()

    def __len__(self) -> int:
        """Number of structures."""
        return len(self.counts)

    def origin(self, index: int) -> str:
        """Where a structure comes from, such as ``md.xyz frame 12``."""
        return self.origins[index] if self.origins else f"{self.title} frame {self.first + index}"

    def place(self, index: int) -> tuple[str, int | None]:
        """The file and the number of the frame that a structure comes from."""
        return split_origin(self.origins[index]) if self.origins else (self.title, self.first + index)

    @classmethod
    def of_atoms(
        cls, structures: Sequence[Atoms], title: str, first: int, remarks: Sequence[Remarks] = ()
    ) -> StructureArrays:
        """Those of ASE.

        Args:
            structures: At least one.
            title: What they are frames of.
            first: Number of the first one there.
            remarks: What each holds beside.

        Raises:
            DataError: If one cannot be right, as :func:`nequip_like.data.io.structures.graph_from_atoms` says.
        """
        arrays = cls(
            np.concatenate([atoms.numbers for atoms in structures]).astype(np.int64),
            np.concatenate([atoms.positions for atoms in structures]).astype(np.float64),
            np.array([len(atoms) for atoms in structures]),
            np.array([atoms.cell.array for atoms in structures], dtype=np.float64),
            np.array([atoms.pbc for atoms in structures], dtype=bool),
            title,
            first,
            remarks,
        )
        if not arrays.is_plain or arrays.pbc.any():
            for i, atoms in enumerate(structures):
                check_extent(graph_from_atoms(atoms, where=arrays.origin(i)), arrays.origin(i))
        return arrays

    @property
    def is_plain(self) -> bool:
        """Whether all numbers are ones that a structure can have; of periodic cells it says nothing."""
        numbers, lengths = self.numbers, (self.positions, self.cells)
        return bool(
            self.counts.min() > 0
            and numbers.min() >= 1
            and numbers.max() <= _ATOMIC_NUMBERS
            and all((np.abs(array) <= LARGEST_LENGTH).all() for array in lengths)  # false for NaN, too
        )

    def make_batch(self, chosen: range, cutoff: float, types: torch.Tensor, type_names: Sequence[str]) -> Graph:
        """A batch of some of the structures as a potential takes it, with types and neighbours.

        It is that which :func:`~nequip_like.data.graph.collate` makes of them one by one.

        Args:
            chosen: Which of them.
            cutoff: The model's cutoff, Angstrom.
            types: Type of each atomic number (:func:`nequip_like.data.species.type_table`).
            type_names: The model's species, for messages.

        Raises:
            DataError: If two atoms collide, or a species is none of the model's.
        """
        ends = np.cumsum(self.counts)
        start, stop = int(ends[chosen.start] - self.counts[chosen.start]), int(ends[chosen.stop - 1])
        counts, cells, pbc = (a[chosen.start : chosen.stop] for a in (self.counts, self.cells, self.pbc))
        graph: Graph = {
            fields.POSITIONS: torch.from_numpy(self.positions[start:stop].copy()),
            fields.CELL: torch.from_numpy(cells.copy()),
            fields.PBC: torch.from_numpy(pbc.copy()),
            fields.ATOMIC_NUMBERS: torch.from_numpy(self.numbers[start:stop].copy()),
            fields.NUM_ATOMS: torch.from_numpy(counts.copy()),
            fields.FRAME_INDEX: torch.from_numpy(np.array(chosen)),
            fields.BATCH: torch.from_numpy(np.arange(len(chosen)).repeat(counts)),
        }
        graph[fields.ATOM_TYPES] = types[graph[fields.ATOMIC_NUMBERS]]
        if bool((graph[fields.ATOM_TYPES] < 0).any()):
            unknown = int(graph[fields.BATCH][graph[fields.ATOM_TYPES] < 0][0])
            one = {fields.ATOMIC_NUMBERS: graph[fields.ATOMIC_NUMBERS][graph[fields.BATCH] == unknown]}
            raise explain_unknown_species(one, types, self.origin(chosen[unknown]), type_names)
        if not pbc.any() and counts.max() <= FEW_ATOMS:
            edges = _pair_molecules(graph[fields.POSITIONS].numpy(), counts, cutoff)
            if edges is not None:
                shifts = torch.zeros(edges.shape[1], 3, dtype=torch.float64)
                return {**graph, fields.EDGE_INDEX: torch.from_numpy(edges), fields.EDGE_CELL_SHIFT: shifts}
        return collate([self._complete(graph, i, index, cutoff) for i, index in enumerate(chosen)])

    def _complete(self, batch: Graph, i: int, index: int, cutoff: float) -> Graph:
        own = batch[fields.BATCH] == i
        graph = {
            key: value[own] if fields.field(key).owner == "node" else value[i : i + 1]
            for key, value in batch.items()
            if key != fields.BATCH
        }
        return add_neighbors(graph, cutoff, origin=self.origin(index), closest=COLLISION)

    def measure(self, measure: str, cutoff: float, types: torch.Tensor, type_names: Sequence[str]) -> np.ndarray:
        """Atoms or edges of each structure, at least 1.

        Args:
            measure: ``atoms`` or ``edges``.
            cutoff: As for :meth:`make_batch`.
            types: As for :meth:`make_batch`.
            type_names: As for :meth:`make_batch`.
        """
        if measure == "atoms":
            return self.counts
        edges = np.zeros(len(self), dtype=np.int64)
        for start in range(0, len(self), _COUNTED_TOGETHER):
            chosen = range(start, min(start + _COUNTED_TOGETHER, len(self)))
            batch = self.make_batch(chosen, cutoff, types, type_names)
            owners = batch[fields.BATCH][batch[fields.EDGE_INDEX][0]].numpy()
            edges[start : chosen.stop] = np.bincount(owners, minlength=len(chosen))
        return np.maximum(edges, 1)


def split_origin(origin: str) -> tuple[str, int | None]:
    """The file and the number of the frame, out of where a frame comes from.

    Example:
        >>> split_origin("md.xyz frame 12")
        ('md.xyz', 12)
    """
    file, _, number = origin.rpartition(" frame ")
    return (file, int(number)) if file and number.isdecimal() else (origin, None)


def _pair_molecules(positions: np.ndarray, counts: np.ndarray, cutoff: float) -> np.ndarray | None:
    """The edges (2, edges) of small molecules, in the order of ``add_neighbors``; None where two atoms collide.

    All pairs of all molecules are looked at in a few operations on arrays. A molecule with fewer atoms than the largest
    is filled up with atoms that are nowhere (NaN), which have no neighbours.
    """
    most = int(counts.max())
    starts = np.cumsum(counts) - counts
    together = max(1, _MOST_PAIRS // most**2)
    parts = []
    for first in range(0, len(counts), together):
        here, begin = counts[first : first + together], starts[first : first + together]
        places = np.arange(most)
        is_there = places < here[:, None]
        padded = np.full((len(here), most, 3), np.nan)
        padded[is_there] = positions[begin[0] : begin[0] + int(here.sum())]
        squares = np.zeros((len(here), most, most))
        for axis in range(3):  # no array of all vectors
            squares += np.square(padded[:, :, None, axis] - padded[:, None, :, axis])
        squares[:, places, places] = np.inf
        if np.nanmin(squares, initial=np.inf) < COLLISION**2:
            return None
        graph, centre, neighbour = np.nonzero(squares < cutoff * cutoff)
        parts.append(np.stack([centre, neighbour]) + begin[graph])
    return np.concatenate(parts, axis=1)
