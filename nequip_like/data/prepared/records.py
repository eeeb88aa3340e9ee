"""One frame with its neighbour list as bytes: nothing but numbers, and a sum that tells when one was changed.

A record is a header, all floating-point numbers in float64 as they were read (positions, the cell, labels and weights),
and integers as narrow as they can be: the number of neighbours of each atom, the neighbours, the translations of their
cells, the atomic numbers. Edges are sorted by their centre, so the centres follow from the numbers of neighbours.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.tables.frame_table import OPTIONAL_FIELDS, FrameTable
from nequip_like.errors import DataError

# Sum of what follows, atoms, edges, bits of the optional fields, periodic directions, whether there is a cell, bytes of
# a neighbour's index, and of a component of a translation, 0 where all are zero.
_HEADER = struct.Struct("<IIIIBBBBxxxx")
_AFTER_SUM = 4
_PERIODIC = np.array([[bool(bits >> axis & 1) for axis in range(3)] for bits in range(8)])
_UNSIGNED, _SIGNED = ({size: np.dtype(f"<{kind}{size}") for size in (1, 2, 4)} for kind in "ui")


def pack_frame(frame: Graph) -> bytes:
    """A frame with its neighbour list as a record; its index and atom types, which depend on the model, are left out.

    Args:
        frame: One structure with ``edge_index`` (2, edges), sorted by centre, and ``edge_cell_shift`` (edges, 3).
    """
    numbers, edges = frame[fields.ATOMIC_NUMBERS].numpy(), frame[fields.EDGE_INDEX].numpy()
    shifts = frame[fields.EDGE_CELL_SHIFT].numpy()
    values = {name: frame[name].numpy() for name in OPTIONAL_FIELDS if name in frame}
    present = [name for name, value in values.items() if not np.isnan(value).all()]
    bits = sum(1 << OPTIONAL_FIELDS.index(name) for name in present)
    pbc = frame[fields.PBC].numpy()[0]
    cell = frame[fields.CELL].numpy()
    has_cell = bool(cell.any())
    index_type = _find_narrowest(len(numbers), "u")
    shift_type = _find_narrowest(int(np.abs(shifts).max(initial=0.0)), "i") if shifts.any() else None
    floats = [frame[fields.POSITIONS].numpy(), *([cell] if has_cell else []), *(values[name] for name in present)]
    degrees = np.bincount(edges[0], minlength=len(numbers)).astype("<u4")
    parts = [
        *(part.astype("<f8", copy=False) for part in floats),
        degrees,
        edges[1].astype(index_type),
        shifts.astype(shift_type) if shift_type is not None else np.zeros(0, "<u1"),
        numbers.astype("<u1"),
    ]
    header = _HEADER.pack(
        0,
        len(numbers),
        edges.shape[1],
        bits,
        sum(1 << axis for axis, periodic in enumerate(pbc) if periodic),
        has_cell,
        index_type.itemsize,
        0 if shift_type is None else shift_type.itemsize,
    )
    content = header[_AFTER_SUM:] + b"".join(part.tobytes() for part in parts)
    return struct.pack("<I", zlib.crc32(content)) + content


def is_intact(record: bytes) -> bool:
    """Whether a record is as it was made."""
    if len(record) < _HEADER.size:
        return False
    return zlib.crc32(memoryview(record)[_AFTER_SUM:]) == int.from_bytes(record[:_AFTER_SUM], "little")


def unpack_frames(records: Sequence[bytes], names: tuple[str, ...]) -> Graph:
    """The frames of records as one batch, as :func:`nequip_like.data.graph.collate` would join them.

    Args:
        records: Each as :func:`pack_frame` made it.
        names: Labels and weights that the batch shall have; a label that a frame lacks is NaN, a weight 1.

    Returns:
        A batch with edges, without ``atom_types`` and ``frame_index``; its tensors are its own.

    Example:
        >>> from ase.build import molecule
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> from nequip_like.data.neighbors import add_neighbors
        >>> water = {**add_neighbors(graph_from_atoms(molecule("H2O")), 3.0), "total_energy": torch.tensor([[-14.5]])}
        >>> back = unpack_frames([pack_frame(water)], ("total_energy",))
        >>> all(torch.equal(back[key], water[key]) for key in water if key in back), back["total_energy"].item()
        (True, -14.5)
    """
    views = [_view_record(record) for record in records]
    atoms, edges = np.array([view.atoms for view in views]), np.array([view.edges for view in views])
    ends = np.cumsum(atoms)
    degrees = np.concatenate([view.degrees for view in views])
    edge_index = np.empty((2, int(edges.sum())), dtype=np.int64)
    edge_index[0] = np.repeat(np.arange(len(degrees)), degrees)
    np.concatenate([view.neighbors for view in views], out=edge_index[1], casting="unsafe")
    edge_index[1] += np.repeat(ends - atoms, edges)
    arrays = {
        fields.POSITIONS: np.concatenate([view.positions for view in views]).reshape(-1, 3),
        fields.CELL: np.concatenate([view.cell for view in views]).reshape(-1, 3, 3),
        fields.PBC: _PERIODIC[[view.periodic for view in views]],
        fields.ATOMIC_NUMBERS: np.concatenate([view.numbers for view in views]).astype(np.int64),
        fields.NUM_ATOMS: atoms,
        fields.EDGE_INDEX: edge_index,
        fields.EDGE_CELL_SHIFT: np.concatenate([view.shifts for view in views], dtype=np.float64).reshape(-1, 3),
        fields.BATCH: np.repeat(np.arange(len(views)), atoms),
    }
    for name in names:
        row = fields.FIELDS[name]
        size, missing = math.prod(row.shape), 1.0 if name in fields.WEIGHTS else np.nan
        values = [
            view.found[name]
            if name in view.found
            else _fill(size * (view.atoms if row.owner == "node" else 1), missing)
            for view in views
        ]
        arrays[name] = np.concatenate(values).reshape(-1, *row.shape)
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


@dataclass(frozen=True, slots=True)
class _View:
    """What stands in a record, without copies of it."""

    atoms: int
    edges: int
    periodic: int
    positions: np.ndarray
    cell: np.ndarray
    found: dict[str, np.ndarray]
    degrees: np.ndarray
    neighbors: np.ndarray
    shifts: np.ndarray
    numbers: np.ndarray


def _view_record(record: bytes) -> _View:
    _, atoms, edges, bits, periodic, has_cell, index_bytes, shift_bytes = _HEADER.unpack_from(record)
    stored = [(name, per_atom * atoms + per_frame) for name, per_atom, per_frame in _list_stored(bits)]
    num_floats = 3 * atoms + 9 * has_cell + sum(size for _, size in stored)
    position = _HEADER.size
    floats = np.frombuffer(record, "<f8", num_floats, position)
    position += 8 * num_floats
    degrees = np.frombuffer(record, "<u4", atoms, position)
    position += 4 * atoms
    neighbors = np.frombuffer(record, _UNSIGNED[index_bytes], edges, position)
    position += index_bytes * edges
    shifts = np.frombuffer(record, _SIGNED[shift_bytes], 3 * edges, position) if shift_bytes else _fill(3 * edges, 0.0)
    position += 3 * shift_bytes * edges
    start = 3 * atoms + 9 * has_cell
    found: dict[str, np.ndarray] = {}
    for name, size in stored:
        found[name] = floats[start : start + size]
        start += size
    return _View(
        atoms=atoms,
        edges=edges,
        periodic=periodic,
        positions=floats[: 3 * atoms],
        cell=floats[3 * atoms : 3 * atoms + 9] if has_cell else _fill(9, 0.0),
        found=found,
        degrees=degrees,
        neighbors=neighbors,
        shifts=shifts,
        numbers=np.frombuffer(record, "<u1", atoms, position),
    )


def _fill(size: int, value: float) -> np.ndarray:
    return np.full(size, value)


@cache
def _list_stored(bits: int) -> list[tuple[str, int, int]]:
    """Name, numbers for each atom, and numbers for the frame of each optional field that a record has."""
    stored = []
    for position, name in enumerate(OPTIONAL_FIELDS):
        if bits >> position & 1:
            row = fields.field(name)
            size = math.prod(row.shape)
            stored.append((name, size, 0) if row.owner == "node" else (name, 0, size))
    return stored


def estimate_bytes(table: FrameTable) -> float:
    """Memory that frames take as graphs.

    16 bytes of indices and 24 of translations for each edge, some 80 for each atom, and 14 tensors of some 250 bytes.
    """
    return float(40.0 * table.neighbors.sum() + 80.0 * table.atoms.sum() + 3500.0 * len(table))


def _find_narrowest(largest: int, kind: str) -> np.dtype:
    """The narrowest little-endian integer type, ``u`` or ``i``, that holds all numbers up to the largest."""
    for size in (1, 2, 4):
        number_type = np.dtype(f"<{kind}{size}")
        if largest <= np.iinfo(number_type).max:
            return number_type
    raise DataError(f"the number {largest} is too large for a prepared set", "wrap the atoms into their cell")
