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


def add_neighbors(graph: Graph, cutoff: float, *, where: str = "") -> Graph:
    """Add the full neighbour list of a single structure.

    Each pair stands twice (``i, j`` and ``j, i``). Edges are sorted by centre, then neighbour, then translation, so
    the same structure always gives the same order. Any subset of the three directions may be periodic, atoms may lie
    outside the cell, and the cell may be smaller than the cutoff.

    Args:
        graph: One structure with ``pos`` (atoms, 3), ``cell`` (1, 3, 3) and ``pbc`` (1, 3).
        cutoff: Largest distance of a neighbour, Angstrom.
        where: File and frame, for messages; the frame index by default.

    Returns:
        A new graph (the tensors are shared) with ``edge_index`` (2, edges) and ``edge_cell_shift`` (edges, 3).

    Raises:
        ConfigError: If the cutoff is not a positive number.
        DataError: If two atoms are at one place, or a periodic direction has no lattice vector.
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
    search = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    centre, neighbor, shift, distance = search.compute(positions, _spanning(cell, pbc), pbc, "ijSd")
    if len(distance) and distance.min() < SHORTEST_DISTANCE:
        pair = int(distance.argmin())
        raise DataError(
            f"{where}: atoms {int(centre[pair])} and {int(neighbor[pair])} are at the same place",
            "remove the frame, or check its cell and pbc",
        )
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], neighbor, centre))
    edges = np.stack([centre[order], neighbor[order]]).astype(np.int64)
    device = graph[fields.POSITIONS].device
    return {
        **graph,
        fields.EDGE_INDEX: torch.from_numpy(edges).to(device),
        fields.EDGE_CELL_SHIFT: torch.from_numpy(shift[order].astype(np.float64)).to(device),
    }


def _spanning(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The cell with its non-periodic vectors, which carry no meaning, replaced by a basis of what is left."""
    if pbc.all():
        return cell
    full = cell.copy()
    _, _, rows = np.linalg.svd(cell[pbc]) if pbc.any() else (None, None, np.eye(3))
    full[~pbc] = rows[int(pbc.sum()) :]
    return full
