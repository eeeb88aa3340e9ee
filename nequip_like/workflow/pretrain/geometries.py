"""Structures of ASE out of the user's frames, and which are no structures at all.

A pretraining has two kinds:

- the user's *training frames* themselves, where the potential will be needed;
- *thermal* structures: steps of molecular dynamics with the teacher's own forces, which begin at training frames
  (:mod:`~nequip_like.workflow.pretrain.dynamics`). All modes move as they would, bonds little and torsions far, so
  these are likely structures and not only near ones.

Structures that are periodic in all directions begin strained, so that pressures are learnt, too. Random displacements
and twice the temperature were tried beside these, and made the potential worse: their large forces are most of the loss
(docs/accuracy.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import Atoms
from ase.data import covalent_radii

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import edge_vectors
from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.neighbors import add_neighbors

CLOSEST = 0.7  # of the sum of covalent radii: no two atoms come closer


def convert_frames(frames: Sequence[Graph]) -> list[Atoms]:
    """Convert graphs of a data set to structures of ASE, without labels."""
    return [
        Atoms(
            numbers=frame[fields.ATOMIC_NUMBERS].numpy(),
            positions=frame[fields.POSITIONS].numpy(),
            cell=frame[fields.CELL][0].numpy(),
            pbc=frame[fields.PBC][0].numpy(),
        )
        for frame in frames
    ]


def is_too_close(atoms: Atoms) -> bool:
    """Whether two atoms are closer than :data:`CLOSEST` of the sum of their covalent radii.

    Example:
        >>> is_too_close(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])), is_too_close(Atoms("H2", [[0, 0, 0], [0, 0, 0.4]]))
        (False, True)
    """
    # Not ASE's list of neighbours: it cuts a box of 50 Angstrom around a molecule into a million cells, 0.6 s a frame.
    radii = torch.tensor(CLOSEST * covalent_radii[atoms.numbers], dtype=torch.float64)
    graph = add_neighbors(graph_from_atoms(atoms), 2 * float(radii.max()), closest=0.0)
    centre, neighbour = graph[fields.EDGE_INDEX]
    distances = edge_vectors(graph).norm(dim=1)
    return bool((distances < radii[centre] + radii[neighbour]).any())
