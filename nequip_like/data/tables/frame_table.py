"""The table of a data set: what statistics, reference energies and checks ask of each frame, without its atoms.

It is measured once: from frames in memory when first asked for, from prepared ones when they are written. So a set of
millions of frames begins to train without a pass over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols as symbol_of

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import batch_index, collate, edge_vectors, fill_missing_labels
from nequip_like.summaries import Summarized

ISOLATED_DISTANCE = 10.0  # Angstrom to the nearest periodic image; then a single atom is isolated
OPTIONAL_FIELDS = (*fields.LABELS, *fields.WEIGHTS)  # what a frame may lack; the order is that of the bits

# Labels of damaged files may be so large that their squares are infinite; who looks at the values says so.
LARGE_NUMBERS = np.errstate(over="ignore", invalid="ignore")

_CHUNK = 256  # frames that are measured at once; bounds the memory
_NUMBERS = 128  # more than there are elements


@dataclass(frozen=True, repr=False)
class FrameTable(Summarized):
    """One row for each frame, and one for each species of each frame (a *group* of atoms).

    Attributes:
        atoms: Atoms of each frame (frames,).
        energy: Total energy (frames,), eV; NaN without.
        volume: Volume of the cell (frames,), Angstrom^3; 0 without.
        periodic: Number of periodic directions (frames,).
        isolated: Whether a frame is an isolated atom (frames,).
        shortest: Shortest distance (frames,), Angstrom; infinite without neighbours.
        largest_force: Length of the largest force (frames,), eV/Angstrom; 0 without.
        fewest_neighbors: Of an atom (frames,); 0 where neighbours were not looked for.
        most_neighbors: The same.
        labelled: Bits of :data:`OPTIONAL_FIELDS` of which a frame has a value (frames,).
        partly: The same, of which it lacks a part of the values.
        species: Number of groups of each frame (frames,).
        number: Atomic number of each group (groups,); those of a frame follow each other, in ascending order.
        count: Atoms of each group (groups,).
        neighbors: Edges from atoms of each group (groups,).
        force_squares: Sum of squared force components of each group (groups,), and
        force_counts: their number (groups,).
    """

    atoms: np.ndarray
    energy: np.ndarray
    volume: np.ndarray
    periodic: np.ndarray
    isolated: np.ndarray
    shortest: np.ndarray
    largest_force: np.ndarray
    fewest_neighbors: np.ndarray
    most_neighbors: np.ndarray
    labelled: np.ndarray
    partly: np.ndarray
    species: np.ndarray
    number: np.ndarray
    count: np.ndarray
    neighbors: np.ndarray
    force_squares: np.ndarray
    force_counts: np.ndarray

    def summary(self) -> dict[str, Any]:
        """Number of frames and atoms, and the species."""
        return {"frames": len(self), "atoms": int(self.atoms.sum()), "species": " ".join(self.count_species())}

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.atoms)

    @classmethod
    def join(cls, tables: Sequence[FrameTable]) -> FrameTable:
        """The frames of several tables, one after the other."""
        return cls(*(np.concatenate([getattr(table, name) for table in tables]) for name in COLUMNS))

    def select(self, indices: Sequence[int] | np.ndarray) -> FrameTable:
        """Some of the frames, in the order of the indices."""
        chosen = np.asarray(indices, dtype=np.int64)
        species = self.species[chosen].astype(np.int64)
        # The groups of each chosen frame: its first one, and so many behind it.
        within = np.arange(int(species.sum())) - np.repeat(np.cumsum(species) - species, species)
        groups = np.repeat(self.first_groups[chosen], species) + within
        return FrameTable(
            *(getattr(self, name)[groups if name in _OF_GROUPS else chosen] for name in COLUMNS),
        )

    @cached_property
    def first_groups(self) -> np.ndarray:
        """Position of the first group of each frame (frames,)."""
        species = self.species.astype(np.int64)
        return np.cumsum(species) - species

    @cached_property
    def frame_of(self) -> np.ndarray:
        """Frame of each group (groups,)."""
        return np.repeat(np.arange(len(self)), self.species)

    @property
    def edges(self) -> np.ndarray:
        """Edges of each frame (frames,), each pair of neighbours twice; 0 where neighbours were not looked for."""
        return np.bincount(self.frame_of, self.neighbors, len(self)).astype(np.int64)

    def find_labelled(self, label: str, partly: bool = False) -> np.ndarray:
        """Which frames have a value of a label or weight (frames,); with ``partly``, which lack a part of them."""
        bit = np.uint32(1 << OPTIONAL_FIELDS.index(label))
        return ((self.partly if partly else self.labelled) & bit) != 0

    def count_labels(self) -> dict[str, int]:
        """``{label: number of frames that have it}``, of labels that any has."""
        counts = {label: int(self.find_labelled(label).sum()) for label in fields.LABELS}
        return {label: count for label, count in counts.items() if count}

    def count_species(self, frames: np.ndarray | None = None) -> dict[str, int]:
        """``{symbol: number of atoms}``, sorted by atomic number.

        Args:
            frames: Which frames to count (frames,), as booleans; all by default.
        """
        chosen = slice(None) if frames is None else frames[self.frame_of]
        counts = np.bincount(self.number[chosen], self.count[chosen], minlength=_NUMBERS)
        return {symbol_of[number]: int(counts[number]) for number in np.flatnonzero(counts)}

    def compute_energies(self, references: Mapping[str, float]) -> np.ndarray:
        """Energy per atom above the reference energies (frames,), eV; NaN without.

        Args:
            references: Reference energy of each species, eV; of others 0.
        """
        referred = np.bincount(self.frame_of, self.count * list_references(references)[self.number], len(self))
        energies: np.ndarray = (self.energy - referred) / self.atoms
        return energies

    def compute_fractions(self, numbers: Sequence[int], frames: np.ndarray) -> np.ndarray:
        """Fraction of each species in some frames (frames, species).

        Args:
            numbers: Atomic numbers; atoms of others count in none.
            frames: Indices of the frames.
        """
        part = self.select(frames)
        column = np.full(_NUMBERS, -1)
        column[list(numbers)] = np.arange(len(numbers))
        columns = column[part.number]
        known = columns >= 0
        fractions = np.zeros((len(part), len(numbers)))
        fractions[part.frame_of[known], columns[known]] = part.count[known] / part.atoms[part.frame_of[known]]
        return fractions


COLUMNS = tuple(entry.name for entry in dataclass_fields(FrameTable))
_OF_GROUPS = ("number", "count", "neighbors", "force_squares", "force_counts")


def list_references(references: Mapping[str, float]) -> np.ndarray:
    """Reference energy of each atomic number, eV; 0 of species that have none."""
    return np.array([references.get(symbol, 0.0) for symbol in symbol_of])


def tabulate(frames: Sequence[Graph] | FrameTable) -> FrameTable:
    """The table of frames: their own where they carry one, else measured now.

    Args:
        frames: Graphs, all with neighbour lists or all without; or a table, which is given back.

    Example:
        >>> from ase.build import molecule
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> table = tabulate([graph_from_atoms(molecule(name)) for name in ("H2O", "H2", "O")])
        >>> table.count_species(), table.number.tolist(), table.count.tolist(), table.isolated.tolist()
        ({'H': 4, 'O': 2}, [1, 8, 1, 8], [2, 1, 2, 1], [False, False, True])
        >>> table.select([2, 0]).count_species()
        {'H': 2, 'O': 2}
    """
    if isinstance(frames, FrameTable):
        return frames
    table = getattr(frames, "table", None)
    if isinstance(table, FrameTable):
        return table
    chunks = [frames[start : start + _CHUNK] for start in range(0, len(frames), _CHUNK)]
    return FrameTable.join([_measure(chunk) for chunk in chunks]) if chunks else _make_empty()


def is_isolated_atom(frame: Graph) -> bool:
    """Whether a frame is one atom without periodic images closer than ``ISOLATED_DISTANCE``.

    Example:
        >>> from ase import Atoms
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> boxes = [Atoms("H", cell=[a, a, a], pbc=True) for a in (9.0, 10.0)]
        >>> [is_isolated_atom(graph_from_atoms(atoms)) for atoms in (*boxes, Atoms("H"))]
        [False, True, True]
    """
    if int(frame[fields.NUM_ATOMS][0]) != 1:
        return False
    pbc = frame[fields.PBC][0]
    if not bool(pbc.any()):
        return True
    vectors = frame[fields.CELL][0][pbc]
    steps = torch.cartesian_prod(*[torch.arange(-2.0, 3.0, dtype=vectors.dtype)] * len(vectors))
    images = steps.reshape(-1, len(vectors)) @ vectors
    distances = images.norm(dim=1)
    return bool(distances[distances > 0].min() >= ISOLATED_DISTANCE)


@LARGE_NUMBERS
def _measure(frames: Sequence[Graph]) -> FrameTable:
    batch = collate(fill_missing_labels(frames))
    count, frame_of = len(frames), batch_index(batch).numpy()
    atoms = batch[fields.NUM_ATOMS].numpy()
    numbers = batch[fields.ATOMIC_NUMBERS].numpy()
    groups, group_of, sizes = np.unique(frame_of * _NUMBERS + numbers, return_inverse=True, return_counts=True)
    neighbors, nearest = np.zeros(len(numbers), dtype=np.int64), np.full(count, np.inf)
    if fields.EDGE_INDEX in batch:
        centre = batch[fields.EDGE_INDEX][0].numpy()
        neighbors = np.bincount(centre, minlength=len(numbers))
        np.minimum.at(nearest, frame_of[centre], edge_vectors(batch).norm(dim=1).numpy())
    starts = np.cumsum(atoms) - atoms
    forces = batch[fields.FORCES].numpy() if fields.FORCES in batch else np.full((len(numbers), 3), np.nan)
    is_labelled = ~np.isnan(forces)
    squares = np.where(is_labelled, forces, 0.0) ** 2
    lengths = np.where(is_labelled.all(axis=1), np.sqrt(squares.sum(axis=1)), 0.0)
    energy = batch[fields.TOTAL_ENERGY].flatten().numpy() if fields.TOTAL_ENERGY in batch else np.full(count, np.nan)
    labelled, partly = _find_labels(batch, frame_of, count)
    return FrameTable(
        atoms=atoms.astype(np.int64),
        energy=energy,
        volume=torch.linalg.det(batch[fields.CELL]).abs().numpy(),
        periodic=batch[fields.PBC].sum(dim=1).numpy(),
        isolated=np.array([is_isolated_atom(frame) for frame in frames]),
        shortest=nearest,
        largest_force=np.maximum.reduceat(lengths, starts),
        fewest_neighbors=np.minimum.reduceat(neighbors, starts),
        most_neighbors=np.maximum.reduceat(neighbors, starts),
        labelled=labelled,
        partly=partly,
        species=np.bincount(groups // _NUMBERS, minlength=count),
        number=groups % _NUMBERS,
        count=sizes,
        neighbors=np.bincount(group_of, neighbors, minlength=len(groups)).astype(np.int64),
        force_squares=np.bincount(group_of, squares.sum(axis=1), minlength=len(groups)),
        force_counts=np.bincount(group_of, is_labelled.sum(axis=1), minlength=len(groups)).astype(np.int64),
    )


def _find_labels(batch: Graph, frame_of: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Bits of the labels and weights that each frame has, and of those of which it lacks a part."""
    labelled, partly = np.zeros(count, dtype=np.uint32), np.zeros(count, dtype=np.uint32)
    for position, name in enumerate(OPTIONAL_FIELDS):
        if name not in batch:
            continue
        has_value = ~torch.isnan(batch[name]).flatten(1).numpy()
        owner = frame_of if fields.field(name).owner == "node" else np.arange(count)
        some, all_of = np.zeros(count, dtype=bool), np.ones(count, dtype=bool)
        np.logical_or.at(some, owner, has_value.any(axis=1))
        np.logical_and.at(all_of, owner, has_value.all(axis=1))
        labelled |= some.astype(np.uint32) << position
        partly |= (some & ~all_of).astype(np.uint32) << position
    return labelled, partly


def _make_empty() -> FrameTable:
    kinds: dict[str, Callable[..., Any]] = {name: np.int64 for name in COLUMNS}
    kinds |= dict.fromkeys(("energy", "volume", "shortest", "largest_force", "force_squares"), np.float64)
    kinds |= {"isolated": np.bool_, "labelled": np.uint32, "partly": np.uint32}
    return FrameTable(*(np.zeros(0, dtype=kinds[name]) for name in COLUMNS))
