"""A neighbour list that is kept while atoms move little: it reaches farther than the cutoff, by the skin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.io.structures import are_same
from nequip_like.data.neighbors import add_neighbors

_STRUCTURE = (fields.POSITIONS, fields.CELL, fields.PBC, fields.ATOMIC_NUMBERS)
_BLOCK = 1 << 14  # edges whose distances are computed at a time: their vectors stay in the cache of a core
_ONES = np.ones(3)


@dataclass(frozen=True)
class _Built:
    """A structure, with its edges up to cutoff + skin."""

    structure: dict[str, np.ndarray]
    inverse_cell: np.ndarray | None
    edges: Tensor
    shifts: Tensor


class SkinNeighborList:
    """Neighbour lists of a structure that changes a little from call to call.

    The list is built up to ``cutoff + skin``. Let ``F`` take the old cell to the new one, and ``u`` be how far the
    atoms are from where ``F`` alone would have moved them. A pair that the list lacks was more than ``cutoff + skin``
    apart, so now it is at least ``s (cutoff + skin) - 2 max|u|`` apart, where ``s`` is the smallest singular value of
    ``F``; the list holds all pairs as long as that is not below the cutoff. With an unchanged cell this is the usual
    rule: no atom has moved more than half the skin.

    Args:
        cutoff: Largest distance of a neighbour, Angstrom.
        skin: How much farther the kept list reaches, Angstrom; 0 builds a list at each call.

    Attributes:
        builds: Number of lists built so far.

    Example:
        With a skin of 1 Angstrom the list serves until an atom has moved half of that:

        >>> from ase import Atoms
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> neighbors = SkinNeighborList(cutoff=2.0, skin=1.0)
        >>> for bond in (0.7, 1.1, 1.3):
        ...     _ = neighbors.add_edges(graph_from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, bond]])))
        ...     print(neighbors.builds)
        1
        1
        2
    """

    def __init__(self, cutoff: float, skin: float) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self.builds = 0
        self._list: _Built | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy, in another process as well, builds its own list."""
        return {**self.__dict__, "_list": None}

    def add_edges(self, graph: Graph, *, with_skin: bool = False) -> Graph:
        """Add the neighbours within the cutoff, in the same order as :func:`~nequip_like.data.neighbors.add_neighbors`.

        Args:
            graph: One structure without edges, on the CPU.
            with_skin: Give all edges of the kept list, those in the skin included, for models that leave out what lies
                beyond the cutoff themselves. The tensors are the same objects until the list is built anew.

        Returns:
            A new graph with ``edge_index`` (2, edges) and ``edge_cell_shift`` (edges, 3). Nobody may write to them.

        Raises:
            DataError: If two atoms are at one place.
        """
        neighbors = self._list
        if neighbors is None or not self._holds(neighbors, graph):
            self._list = None  # its memory is free before the next list takes as much
            neighbors = self._list = _build_list(graph, self.cutoff + self.skin)
            self.builds += 1
        edges, shifts = neighbors.edges, neighbors.shifts
        if not with_skin:
            # Edges in the skin would contribute nothing; it costs less to leave them out than to take them along.
            near = _select_near(graph, edges.numpy(), shifts.numpy(), self.cutoff)
            edges = torch.from_numpy(edges.numpy().compress(near, axis=1))
            shifts = torch.from_numpy(shifts.numpy().compress(near, axis=0))
        return {**graph, fields.EDGE_INDEX: edges, fields.EDGE_CELL_SHIFT: shifts}

    def _holds(self, neighbors: _Built, graph: Graph) -> bool:
        """Whether the kept list has every pair of this structure that is within the cutoff."""
        for key in (fields.ATOMIC_NUMBERS, fields.PBC):
            if not are_same(neighbors.structure[key], graph[key].numpy()):
                return False
        positions, stretch = neighbors.structure[fields.POSITIONS], 1.0
        cell = graph[fields.CELL].numpy()
        if not are_same(neighbors.structure[fields.CELL], cell) and graph[fields.PBC].numpy().any():
            if neighbors.inverse_cell is None:  # periodic in some directions only: the cell does not fix F
                return False
            deformation = neighbors.inverse_cell @ cell[0]
            stretch = float(np.linalg.svd(deformation, compute_uv=False)[-1])
            positions = positions @ deformation
        moves = graph[fields.POSITIONS].numpy() - positions
        largest_move = float(np.einsum("ax,ax->a", moves, moves).max()) ** 0.5
        return stretch * (self.cutoff + self.skin) - 2.0 * largest_move >= self.cutoff


def _build_list(graph: Graph, radius: float) -> _Built:
    """A list for this structure, with pairs up to the radius."""
    edges = add_neighbors(graph, radius)
    structure = {key: graph[key].numpy().copy() for key in _STRUCTURE}  # whoever gave the graph may write to it later
    inverse_cell = np.linalg.inv(graph[fields.CELL].numpy()[0]) if bool(graph[fields.PBC].all()) else None
    return _Built(structure, inverse_cell, edges[fields.EDGE_INDEX], edges[fields.EDGE_CELL_SHIFT])


def _select_near(graph: Graph, edges: np.ndarray, shifts: np.ndarray, cutoff: float) -> np.ndarray:
    """Whether each edge is not longer than the cutoff."""
    positions, cell = graph[fields.POSITIONS].numpy(), graph[fields.CELL].numpy()[0]
    periodic = bool(graph[fields.PBC].numpy().any())
    near = np.empty(edges.shape[1], dtype=bool)
    for start in range(0, edges.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        vectors = positions.take(edges[1, block], axis=0)
        vectors -= positions.take(edges[0, block], axis=0)
        if periodic:
            vectors += shifts[block] @ cell
        vectors *= vectors
        np.less_equal(vectors @ _ONES, cutoff**2, out=near[block])  # rows of three are summed fastest as a product
    return near
