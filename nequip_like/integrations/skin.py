"""A neighbour list that is kept while atoms move little: it reaches farther than the cutoff, by the skin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import edge_vectors
from nequip_like.data.neighbors import add_neighbors


@dataclass(frozen=True)
class _Built:
    """The structure that the kept list was built for, with its edges up to cutoff + skin."""

    graph: Graph
    inverse_cell: Tensor | None


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
    """

    def __init__(self, cutoff: float, skin: float) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self.builds = 0
        self._kept: _Built | None = None

    def add_edges(self, graph: Graph) -> Graph:
        """Add the neighbours within the cutoff, in the same order as :func:`~nequip_like.data.neighbors.add_neighbors`.

        Args:
            graph: One structure without edges.

        Returns:
            A new graph with ``edge_index`` (2, edges) and ``edge_cell_shift`` (edges, 3).

        Raises:
            DataError: If two atoms are at one place.
        """
        kept = self._kept
        if kept is None or not self._holds(kept, graph):
            built = add_neighbors(graph, self.cutoff + self.skin)
            cell = graph[fields.CELL][0]
            periodic = bool(graph[fields.PBC].all())
            kept = self._kept = _Built(built, torch.linalg.inv(cell) if periodic else None)
            self.builds += 1
        edges, shifts = kept.graph[fields.EDGE_INDEX], kept.graph[fields.EDGE_CELL_SHIFT]
        whole = {**graph, fields.EDGE_INDEX: edges, fields.EDGE_CELL_SHIFT: shifts}
        # Edges in the skin would contribute nothing; leaving them out costs less than taking them through the network.
        near = edge_vectors(whole).square().sum(1) <= self.cutoff**2
        return {**graph, fields.EDGE_INDEX: edges[:, near], fields.EDGE_CELL_SHIFT: shifts[near]}

    def _holds(self, kept: _Built, graph: Graph) -> bool:
        """Whether the kept list has every pair of this structure that is within the cutoff."""
        old = kept.graph
        if not torch.equal(old[fields.ATOMIC_NUMBERS], graph[fields.ATOMIC_NUMBERS]):
            return False
        if not torch.equal(old[fields.PBC], graph[fields.PBC]):
            return False
        positions, stretch = old[fields.POSITIONS], 1.0
        if not torch.equal(old[fields.CELL], graph[fields.CELL]) and bool(graph[fields.PBC].any()):
            if kept.inverse_cell is None:  # periodic in some directions only: the cell does not fix F
                return False
            deformation = kept.inverse_cell @ graph[fields.CELL][0]
            stretch = float(torch.linalg.svdvals(deformation)[-1])
            positions = positions @ deformation
        moved = float((graph[fields.POSITIONS] - positions).square().sum(1).max().sqrt())
        return stretch * (self.cutoff + self.skin) - 2.0 * moved >= self.cutoff
