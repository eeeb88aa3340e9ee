"""Neighbour lists: every pair of atoms closer than the cutoff, with periodic images, in one fixed order."""

from __future__ import annotations

import math

import numpy as np
import torch
from vesin import NeighborList

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.structures import check_periodic_cell
from nequip_like.errors import ConfigError, DataError

SHORTEST_DISTANCE = 1e-6  # Angstrom; forces between two atoms at one place have no direction

_MOST_CELLS = 50_000  # half of what vesin takes


def add_neighbors(graph: Graph, cutoff: float, *, where: str = "", closest: float = SHORTEST_DISTANCE) -> Graph:
    """Add the full neighbour list of a single structure.

    Each pair stands twice (``i, j`` and ``j, i``). Edges are sorted by centre, then neighbour, then translation, so
    the same structure always gives the same order. Any subset of the three directions may be periodic, atoms may lie
    outside the cell, and the cell may be smaller than the cutoff.

    Args:
        graph: One structure with ``pos`` (atoms, 3), ``cell`` (1, 3, 3) and ``pbc`` (1, 3).
        cutoff: Largest distance of a neighbour, Angstrom.
        where: File and frame, for messages; the frame index by default.
        closest: Atoms that are closer are refused, Angstrom.

    Returns:
        A new graph (the tensors are shared) with ``edge_index`` (2, edges) and ``edge_cell_shift`` (edges, 3).

    Raises:
        ConfigError: If the cutoff is not a positive number.
        DataError: If two atoms are closer than ``closest``, or a periodic direction has no lattice vector.
    """
    if not (math.isfinite(cutoff) and cutoff > 0):
        raise ConfigError(f"cutoff_radius is {cutoff}", "give a positive length in Angstrom, for example 5.0")
    if not where:
        frame = graph.get(fields.FRAME_INDEX)
        where = "structure" if frame is None else f"frame {int(frame[0])}"
    if graph[fields.NUM_ATOMS].shape[0] != 1:
        raise DataError("add_neighbors takes one structure, not a batch", "add the neighbours before collating")
    positions = graph[fields.POSITIONS].detach().cpu().numpy().astype(np.float64)
    cell = graph[fields.CELL].detach()[0].cpu().numpy().astype(np.float64)
    pbc = graph[fields.PBC][0].cpu().numpy()
    check_periodic_cell(cell, pbc, where)
    box = _spanning(cell, pbc, positions, cutoff)
    extent = 1.0 / np.linalg.norm(np.linalg.inv(box), axis=0) if pbc.any() else np.ptp(positions, axis=0)
    radius = _search_radius(extent, cutoff)
    search = NeighborList(cutoff=radius, full_list=True, n_threads=1)
    # Where only some directions are periodic, vesin takes minutes for far apart atoms. The box is long enough along the
    # others that no atom meets an image there.
    centre, neighbor, shift, distance = search.compute(positions, box, bool(pbc.any()), "ijSd")
    if radius > cutoff:
        near = distance < cutoff
        centre, neighbor, shift, distance = centre[near], neighbor[near], shift[near], distance[near]
    if len(distance) and distance.min() < closest:
        pair = int(distance.argmin())
        raise _collision(int(centre[pair]), int(neighbor[pair]), float(distance[pair]), where)
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], neighbor, centre))
    edges = np.stack([centre[order], neighbor[order]]).astype(np.int64)
    device = graph[fields.POSITIONS].device
    return {
        **graph,
        fields.EDGE_INDEX: torch.from_numpy(edges).to(device),
        fields.EDGE_CELL_SHIFT: torch.from_numpy(shift[order].astype(np.float64)).to(device),
    }


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


def _collision(centre: int, neighbor: int, distance: float, where: str) -> DataError:
    who = f"atoms {centre} and {neighbor} are" if centre != neighbor else f"atom {centre} and its own image are"
    place = "at the same place" if distance < SHORTEST_DISTANCE else f"only {distance:.3g} Angstrom apart"
    return DataError(f"{where}: {who} {place}", "remove the frame, or check its cell, pbc and unit of length")


def _spanning(cell: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cutoff: float) -> np.ndarray:
    """The cell with its non-periodic vectors, which carry no meaning, replaced by some that are longer than needed."""
    if pbc.all():
        return cell
    if not pbc.any():
        return np.eye(3)  # not looked at
    full = cell.copy()
    free = np.linalg.svd(cell[pbc])[2][int(pbc.sum()) :]
    full[~pbc] = free * (np.ptp(positions @ free.T, axis=0) + 2.1 * cutoff)[:, None]
    return full
