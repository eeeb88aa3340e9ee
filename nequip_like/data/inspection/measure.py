"""Measurements on the frames of a data set: one number per frame or atom, all frames at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields

import torch
from ase.data import covalent_radii

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import batch_index, collate, edge_vectors, num_graphs
from nequip_like.summaries import Summarized

_CHUNK = 256  # frames that are measured at once; bounds the memory, and larger is not faster
_RADII = torch.from_numpy(covalent_radii)


@dataclass(frozen=True, repr=False)
class FrameFacts(Summarized):
    """Measured values. NaN where a label is missing.

    Attributes:
        atoms: Atoms per frame (frames,).
        neighbors: Neighbours of each atom (atoms,).
        shortest: Shortest distance in each frame (frames,), infinite without neighbours, Angstrom.
        bond_ratio: Distance to the nearest neighbour over the sum of covalent radii (atoms,), infinite without.
        numbers: Atomic number of each atom (atoms,).
        frame_of: Frame of each atom (atoms,).
        energy: Total energy (frames,), eV.
        charges: Sum of Z^(7/3) over the atoms (frames,), to which all-electron energies are nearly proportional.
        force: Length of the force on each atom (atoms,), eV/Angstrom.
        largest_force: Largest force of each frame (frames,), 0 where it has none, eV/Angstrom.
        force_squares: Sum of squared force components of each frame (frames,), and
        force_counts: their number (frames,).
        net_force: Length of the sum of forces over the number of atoms (frames,), eV/Angstrom.
        stress: Largest component of the stress (frames,), eV/Angstrom^3.
        volume: Volume of the cell (frames,), Angstrom^3; 0 without.
        periodic: Number of periodic directions (frames,).
        has_cell: Whether any cell vector is not zero (frames,).
        left_handed: Whether the cell vectors are left-handed (frames,).
    """

    atoms: torch.Tensor
    neighbors: torch.Tensor
    shortest: torch.Tensor
    bond_ratio: torch.Tensor
    numbers: torch.Tensor
    frame_of: torch.Tensor
    energy: torch.Tensor
    charges: torch.Tensor
    force: torch.Tensor
    largest_force: torch.Tensor
    force_squares: torch.Tensor
    force_counts: torch.Tensor
    net_force: torch.Tensor
    stress: torch.Tensor
    volume: torch.Tensor
    periodic: torch.Tensor
    has_cell: torch.Tensor
    left_handed: torch.Tensor


def measure(frames: Sequence[Graph]) -> FrameFacts:
    """Measure frames that have neighbour lists."""
    parts = []
    first = 0
    for batch in _collate_batches(frames):
        parts.append(_measure(batch, first))
        first += num_graphs(batch)
    return FrameFacts(*(torch.cat([getattr(part, f.name) for part in parts]) for f in dataclass_fields(FrameFacts)))


def _collate_batches(frames: Sequence[Graph]) -> Iterator[Graph]:
    for start in range(0, len(frames), _CHUNK):
        yield collate(frames[start : start + _CHUNK])


def _measure(batch: Graph, first: int) -> FrameFacts:
    frame_of, count = batch_index(batch), num_graphs(batch)
    numbers = batch[fields.ATOMIC_NUMBERS]
    centre, neighbor = batch[fields.EDGE_INDEX]
    lengths = edge_vectors(batch).norm(dim=1)
    nearest = _take_smallest(lengths, centre, len(frame_of))
    ratio = lengths / (_RADII[numbers[centre]] + _RADII[numbers[neighbor]])
    forces = batch.get(fields.FORCES)
    if forces is None:
        forces = torch.full_like(batch[fields.POSITIONS], torch.nan)
    is_labelled = ~torch.isnan(forces)
    length = forces.norm(dim=1)
    forces_or_zero = torch.where(is_labelled, forces, 0.0)
    sums = [
        _sum_per_frame(value, frame_of, count)
        for value in (forces_or_zero.square().sum(dim=1), is_labelled.sum(dim=1).double())
    ]
    atoms = batch[fields.NUM_ATOMS]
    determinant = torch.linalg.det(batch[fields.CELL])
    stress = batch.get(fields.STRESS)
    energy = batch.get(fields.TOTAL_ENERGY)
    missing = torch.full((count,), torch.nan, dtype=torch.float64)
    return FrameFacts(
        atoms=atoms,
        neighbors=torch.bincount(centre, minlength=len(frame_of)),
        shortest=_take_smallest(nearest, frame_of, count),
        bond_ratio=_take_smallest(ratio, centre, len(frame_of)),
        numbers=numbers,
        frame_of=frame_of + first,
        energy=missing if energy is None else energy.flatten(),
        charges=_sum_per_frame(numbers.double() ** (7 / 3), frame_of, count),
        force=length,
        largest_force=torch.zeros(count, dtype=torch.float64).scatter_reduce(
            0, frame_of, torch.where(torch.isnan(length), 0.0, length), "amax"
        ),
        force_squares=sums[0],
        force_counts=sums[1],
        net_force=torch.zeros(count, 3, dtype=torch.float64).index_add(0, frame_of, forces).norm(dim=1) / atoms,
        stress=missing if stress is None else stress.abs().amax(dim=(1, 2)),
        volume=determinant.abs(),
        periodic=batch[fields.PBC].sum(dim=1),
        has_cell=batch[fields.CELL].abs().amax(dim=(1, 2)) > 1e-6,
        left_handed=determinant < 0,
    )


def _take_smallest(values: torch.Tensor, owner: torch.Tensor, owners: int) -> torch.Tensor:
    start = torch.full((owners,), torch.inf, dtype=torch.float64)
    return start.scatter_reduce(0, owner, values, "amin")


def _sum_per_frame(values: torch.Tensor, frame_of: torch.Tensor, count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.float64).index_add(0, frame_of, values)
