"""Small structures for the physics tests, and graphs of them with neighbour lists of ASE, not of this package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate, to_device
from nequip_like.model.potential import Potential

TYPE_NAMES = ("H", "C", "O")
CUTOFF = 3.5
# Small, so that a wrong interaction energy cannot hide behind them: tolerances are relative.
ISOLATED_ENERGIES = {"H": -0.135, "C": 0.29, "O": -0.4125}


def molecule() -> Atoms:
    """A rattled formic acid, HCOOH: 5 atoms of three species without any symmetry."""
    positions = [
        [-1.04, -0.41, 0.09],
        [0.05, 0.44, -0.12],
        [1.15, 0.02, 0.13],
        [-0.71, -1.30, -0.06],
        [-0.31, 1.45, 0.21],
    ]
    return Atoms("OCOHH", positions=positions)


def crystal() -> Atoms:
    """A rattled triclinic crystal of 4 atoms; along one lattice vector the cell is shorter than the cutoff."""
    cell = [[2.9, 0.2, -0.1], [0.6, 4.3, 0.3], [-0.4, 0.5, 4.6]]
    fractions = [[0.05, 0.02, 0.03], [0.47, 0.31, 0.08], [0.12, 0.58, 0.52], [0.55, 0.86, 0.71]]
    return Atoms("COHC", scaled_positions=fractions, cell=cell, pbc=True)


def pair(species: str, partner: str, distance: float) -> Atoms:
    """Two atoms at a distance, along no axis."""
    direction = np.array([0.36, -0.48, 0.8])
    return Atoms([species, partner], positions=[[0.0, 0.0, 0.0], (distance * direction).tolist()])


def far_apart(part: Atoms, distant_part: Atoms, distance: float) -> Atoms:
    """Two structures without cells as one, ``distance`` apart along the first axis."""
    shifted = distant_part.copy()
    shifted.positions[:, 0] += part.positions[:, 0].max() - distant_part.positions[:, 0].min() + distance
    return part + shifted


def graph_of(atoms: Atoms, potential: Potential) -> Graph:
    """The structure as a graph with all edges within the potential's cutoff, on the CPU."""
    centre, neighbour, shift = neighbor_list("ijS", atoms, potential.cutoff)
    types = [potential.type_names.index(symbol) for symbol in atoms.get_chemical_symbols()]
    return {
        fields.POSITIONS: torch.tensor(atoms.positions, dtype=torch.float64),
        fields.CELL: torch.tensor(atoms.cell.array, dtype=torch.float64).unsqueeze(0),
        fields.PBC: torch.tensor(atoms.pbc).unsqueeze(0),
        fields.ATOM_TYPES: torch.tensor(types, dtype=torch.int64),
        fields.NUM_ATOMS: torch.tensor([len(atoms)]),
        fields.EDGE_INDEX: torch.tensor(np.stack([centre, neighbour]), dtype=torch.int64),
        fields.EDGE_CELL_SHIFT: torch.tensor(shift, dtype=torch.float64).reshape(-1, 3),
    }


def batch_of(structures: Sequence[Atoms], potential: Potential) -> Graph:
    """Several structures as one batch."""
    return collate([graph_of(atoms, potential) for atoms in structures])


def device_of(potential: Potential) -> torch.device:
    """Where the potential's weights are."""
    tensors = [*potential.parameters(), *potential.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def predict(potential: Potential, structure: Atoms | Graph) -> Graph:
    """Predictions for a structure or batch, detached and on the CPU; the graph's own fields are left out."""
    graph = graph_of(structure, potential) if isinstance(structure, Atoms) else structure
    prediction = potential(to_device(graph, device_of(potential)))
    return {key: prediction[key].detach().cpu() for key in potential.predicted_fields}
