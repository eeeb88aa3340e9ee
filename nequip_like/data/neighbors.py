"""Neighbour lists: every pair of atoms closer than the cutoff, with periodic images, in one fixed order."""

from __future__ import annotations

import math

import numpy as np
import torch
from vesin import NeighborList

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.io.structures import check_periodic_cell
from nequip_like.errors import ConfigError, DataError

SHORTEST_DISTANCE = 1e-6  # Angstrom; forces between two atoms at one place have no direction

_MOST_CELLS = 50_000  # half of what vesin takes
_SORTED_BITS = 63  # of a signed integer
FEW_ATOMS = 64  # of a molecule in which each pair is looked at


def add_neighbors(graph: Graph, cutoff: float, *, origin: str = "", closest: float = SHORTEST_DISTANCE) -> Graph:
    """Add the full neighbour list of a single structure.

    Each pair stands twice (``i, j`` and ``j, i``). Edges are sorted by centre, then neighbour, then translation, so
    the same structure always gives the same order. Any subset of the three directions may be periodic, atoms may lie
    outside the cell, and the cell may be smaller than the cutoff.

    Args:
        graph: One structure with ``pos`` (atoms, 3), ``cell`` (1, 3, 3) and ``pbc`` (1, 3).
        cutoff: Largest distance of a neighbour, Angstrom.
        origin: File and frame, for messages; the frame index by default.
        closest: Atoms that are closer are refused, Angstrom.

    Returns:
        A new graph (the tensors are shared) with ``edge_index`` (2, edges) and ``edge_cell_shift`` (edges, 3).

    Raises:
        ConfigError: If the cutoff is not a positive number.
        DataError: If two atoms are closer than ``closest``, or a periodic direction has no lattice vector.

    Example:
        An atom of a simple cubic crystal has 6 neighbours at a, and 12 more at 1.414 a, all of them its own images:

        >>> from ase import Atoms
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> crystal = graph_from_atoms(Atoms("Po", cell=[3.0, 3.0, 3.0], pbc=True))
        >>> [add_neighbors(crystal, cutoff)["edge_index"].shape[1] for cutoff in (2.9, 3.1, 4.3)]
        [0, 6, 18]
    """
    if not (math.isfinite(cutoff) and cutoff > 0):
        raise ConfigError(f"cutoff_radius is {cutoff}", "give a positive length in Angstrom, for example 5.0")
    if not origin:
        frame = graph.get(fields.FRAME_INDEX)
        origin = "structure" if frame is None else f"frame {int(frame[0])}"
    if graph[fields.NUM_ATOMS].shape[0] != 1:
        raise DataError("add_neighbors takes one structure, not a batch", "add the neighbours before collating")
    device = graph[fields.POSITIONS].device
    positions = graph[fields.POSITIONS].detach().cpu().numpy().astype(np.float64)
    cell = graph[fields.CELL].detach()[0].cpu().numpy().astype(np.float64)
    pbc = graph[fields.PBC][0].cpu().numpy()
    check_periodic_cell(cell, pbc, origin)
    few = len(positions) <= FEW_ATOMS and not pbc.any()
    pairs, shifts, distances = _compare_all(positions, cutoff) if few else _search(positions, cell, pbc, cutoff)
    if len(distances) and distances.min() < closest:
        pair = int(distances.argmin())
        raise _explain_collision(int(pairs[pair, 0]), int(pairs[pair, 1]), float(distances[pair]), origin)
    del distances
    edges, translations = (np.ascontiguousarray(pairs.T), shifts) if few else _sort_pairs(pairs, shifts)
    return {
        **graph,
        fields.EDGE_INDEX: torch.from_numpy(edges).to(device),
        fields.EDGE_CELL_SHIFT: torch.from_numpy(translations).to(device),
    }


def _compare_all(positions: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`_search` for a small molecule, in order: without cells of space this takes a fifth of the time."""
    vectors = positions[:, None] - positions
    squares = (vectors * vectors).sum(axis=2)
    is_near = squares < cutoff * cutoff
    np.fill_diagonal(is_near, False)
    pairs = np.argwhere(is_near)
    return pairs, np.zeros((len(pairs), 3)), np.sqrt(squares[is_near])


def _search(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs within the cutoff, in any order: atoms (pairs, 2), translations (pairs, 3) and distances (pairs,)."""
    periodic = bool(pbc.any())
    box = _complete_cell(cell, pbc, positions, cutoff)
    extent = 1.0 / np.linalg.norm(np.linalg.inv(box), axis=0) if periodic else np.ptp(positions, axis=0)
    radius = _search_radius(extent, cutoff)
    search = NeighborList(cutoff=radius, full_list=True, n_threads=1)
    # Where only some directions are periodic, vesin takes minutes for far apart atoms. The box is long enough along the
    # others that no atom meets an image there. What it returns are copies: its own memory goes with `search`.
    pairs, shifts, distances = search.compute(positions, box, periodic, "PSd")
    pairs = pairs.view(np.int64)  # no atom's index needs the highest bit
    if radius > cutoff:
        near = distances < cutoff
        return pairs[near], shifts[near], distances[near]
    return pairs, shifts, distances


def _sort_pairs(pairs: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs sorted by centre, neighbour and translation: atoms (2, pairs) and translations (pairs, 3).

    All that tells one pair from another is packed into one integer, as a rule. Sorting integers is several times faster
    than sorting rows, and the rows are unpacked from them in order.
    """
    columns = [pairs[:, 0], pairs[:, 1], *shifts.T] if shifts.any() else [pairs[:, 0], pairs[:, 1]]
    lowest = [int(column.min(initial=0)) for column in columns]
    bits = [(int(column.max(initial=0)) - low).bit_length() for column, low in zip(columns, lowest, strict=True)]
    if sum(bits) > _SORTED_BITS:  # atoms that are thousands of cells apart
        order = np.lexsort(columns[::-1])
        return np.ascontiguousarray(pairs[order].T), shifts[order].astype(np.float64)
    packed = np.zeros(len(pairs), dtype=np.int64)
    for column, low, width in zip(columns, lowest, bits, strict=True):
        packed <<= width
        packed |= column - low
    packed.sort(kind="stable")  # the search leaves long runs in order already, which this kind of sort makes use of
    edges, translations = np.empty((2, len(pairs)), dtype=np.int64), np.zeros((len(pairs), 3))
    unpacked = [edges[0], edges[1], *translations.T]
    for i in reversed(range(len(columns))):
        unpacked[i][:] = (packed & ((1 << bits[i]) - 1)) + lowest[i]
        packed >>= bits[i]
    return edges, translations


def _search_radius(extent: np.ndarray, cutoff: float) -> float:
    """The cutoff, or for very long or flat structures a longer radius to search within.

    vesin divides space into cells as wide as the cutoff, at most 100,000. Where that is too many it makes all of them
    wider alike, and ends the whole process with a division by zero if less than one is left along the shortest
    direction: a film of 1 by 1000 by 1000 Angstrom is enough.
    """
    extent = np.sort(extent)
    radius = cutoff
    while True:
        shortest, middle, longest = np.maximum(1.0, np.floor(extent / radius))
        if shortest * middle * longest <= _MOST_CELLS or middle * longest <= _MOST_CELLS * shortest**2:
            return radius
        radius *= 1.1


def _explain_collision(centre: int, neighbor: int, distance: float, origin: str) -> DataError:
    atoms = f"atoms {centre} and {neighbor} are" if centre != neighbor else f"atom {centre} and its own image are"
    place = "at the same place" if distance < SHORTEST_DISTANCE else f"only {distance:.3g} Angstrom apart"
    return DataError(f"{origin}: {atoms} {place}", "remove the frame, or check its cell, pbc and unit of length")


def _complete_cell(cell: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cutoff: float) -> np.ndarray:
    """The cell with its non-periodic vectors, which carry no meaning, replaced by some that are longer than needed."""
    if pbc.all():
        return cell
    if not pbc.any():
        return np.eye(3)  # not looked at
    full = cell.copy()
    free = np.linalg.svd(cell[pbc])[2][int(pbc.sum()) :]
    full[~pbc] = free * (np.ptp(positions @ free.T, axis=0) + 2.1 * cutoff)[:, None]
    return full
