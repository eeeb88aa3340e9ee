"""The one table of graph fields: every key of a graph, with its owner, shape, unit and tensor character.

A structure, and a batch of structures, is a plain ``dict[str, Tensor]``. Collating, validating, metrics, writers and
the documentation all read this table; nothing else repeats what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from nequip_like.errors import DataError

Graph = dict[str, torch.Tensor]

POSITIONS = "pos"
CELL = "cell"
PBC = "pbc"
ATOMIC_NUMBERS = "atomic_numbers"
ATOM_TYPES = "atom_types"
EDGE_INDEX = "edge_index"
EDGE_CELL_SHIFT = "edge_cell_shift"
EDGE_VECTORS = "edge_vectors"
BATCH = "batch"
NUM_ATOMS = "num_atoms"
FRAME_INDEX = "frame_index"
FRAME_WEIGHT = "frame_weight"
ATOM_WEIGHT = "atom_weight"
ENERGY_WEIGHT = "total_energy_weight"
FORCES_WEIGHT = "forces_weight"
STRESS_WEIGHT = "stress_weight"
VIRIAL_WEIGHT = "virial_weight"
TOTAL_ENERGY = "total_energy"
PER_ATOM_ENERGY = "atomic_energy"
FORCES = "forces"
STRESS = "stress"
VIRIAL = "virial"
ENERGY_UNCERTAINTY = "energy_uncertainty"
FORCES_UNCERTAINTY = "forces_uncertainty"


@dataclass(frozen=True)
class Field:
    """One row of the table.

    Attributes:
        name: Key in the graph dictionary.
        owner: What the field belongs to. Rows are concatenated along the owner's dimension when graphs are batched.
        shape: Shape of one row (one graph, one atom, one edge). ``()`` means a flat vector over the owner.
        unit: Unit in which the package holds the field; empty for counts and indices.
        dtype: Element type in which the package holds the field.
        character: How the field turns under rotation: a scalar, a polar vector, or a symmetric tensor of rank 2.
        description: One line for the documentation.
        label: True for what quantum chemistry computes and a model predicts.
    """

    name: str
    owner: Literal["graph", "node", "edge"]
    shape: tuple[int, ...]
    unit: str
    dtype: torch.dtype
    character: Literal["scalar", "vector", "tensor"]
    description: str
    label: bool = False


_ROWS = (
    Field(POSITIONS, "node", (3,), "Angstrom", torch.float64, "vector", "atomic positions"),
    Field(CELL, "graph", (3, 3), "Angstrom", torch.float64, "vector", "lattice vectors as rows; zeros if no cell"),
    Field(PBC, "graph", (3,), "", torch.bool, "scalar", "periodic along each lattice vector"),
    Field(ATOMIC_NUMBERS, "node", (), "", torch.int64, "scalar", "atomic numbers"),
    Field(ATOM_TYPES, "node", (), "", torch.int64, "scalar", "index into the model's type names"),
    Field(EDGE_INDEX, "edge", (2,), "", torch.int64, "scalar", "row 0: centre, row 1: neighbour; shape (2, edges)"),
    Field(EDGE_CELL_SHIFT, "edge", (3,), "", torch.float64, "scalar", "lattice translations S_ij of the neighbour"),
    Field(EDGE_VECTORS, "edge", (3,), "Angstrom", torch.float64, "vector", "pos_j - pos_i + S_ij @ cell"),
    Field(BATCH, "node", (), "", torch.int64, "scalar", "index of the graph that an atom belongs to"),
    Field(NUM_ATOMS, "graph", (), "", torch.int64, "scalar", "atoms per graph"),
    Field(FRAME_INDEX, "graph", (), "", torch.int64, "scalar", "position of the frame in its data set"),
    Field(FRAME_WEIGHT, "graph", (1,), "", torch.float64, "scalar", "weight of a frame in loss and metrics"),
    Field(ATOM_WEIGHT, "node", (1,), "", torch.float64, "scalar", "weight of an atom in loss and metrics of atoms"),
    Field(ENERGY_WEIGHT, "graph", (1,), "", torch.float64, "scalar", "weight of a frame where its energy is compared"),
    Field(FORCES_WEIGHT, "graph", (1,), "", torch.float64, "scalar", "weight of a frame where its forces are compared"),
    Field(STRESS_WEIGHT, "graph", (1,), "", torch.float64, "scalar", "weight of a frame where its stress is compared"),
    Field(VIRIAL_WEIGHT, "graph", (1,), "", torch.float64, "scalar", "weight of a virial, read as one of its stress"),
    Field(TOTAL_ENERGY, "graph", (1,), "eV", torch.float64, "scalar", "energy of the structure", label=True),
    Field(PER_ATOM_ENERGY, "node", (1,), "eV", torch.float64, "scalar", "energy of each atom", label=True),
    Field(FORCES, "node", (3,), "eV/Angstrom", torch.float64, "vector", "-dE/dpos", label=True),
    Field(
        STRESS, "graph", (3, 3), "eV/Angstrom^3", torch.float64, "tensor", "dE/dstrain / volume, tension positive",
        label=True,
    ),
    Field(VIRIAL, "graph", (3, 3), "eV", torch.float64, "tensor", "-volume * stress", label=True),
    Field(ENERGY_UNCERTAINTY, "graph", (1,), "eV", torch.float64, "scalar", "expected error of the energy"),
    Field(
        FORCES_UNCERTAINTY, "node", (3,), "eV/Angstrom", torch.float64, "scalar",
        "expected error of each component of the forces, along the axes as they are",
    ),
)  # fmt: skip

FIELDS: dict[str, Field] = {row.name: row for row in _ROWS}
LABELS: tuple[str, ...] = tuple(row.name for row in _ROWS if row.label)
LABEL_WEIGHTS: dict[str, str] = {
    TOTAL_ENERGY: ENERGY_WEIGHT,
    FORCES: FORCES_WEIGHT,
    STRESS: STRESS_WEIGHT,
    VIRIAL: VIRIAL_WEIGHT,
}
UNCERTAINTIES: dict[str, str] = {TOTAL_ENERGY: ENERGY_UNCERTAINTY, FORCES: FORCES_UNCERTAINTY}
WEIGHTS: tuple[str, ...] = (FRAME_WEIGHT, ATOM_WEIGHT, *LABEL_WEIGHTS.values())


def field(name: str) -> Field:
    """Look up one row.

    Raises:
        DataError: If no field has this name; the message lists the names there are.

    Example:
        >>> field("forces").unit, field("forces").owner, field("forces").shape
        ('eV/Angstrom', 'node', (3,))
        >>> field("stress").description
        'dE/dstrain / volume, tension positive'
    """
    try:
        return FIELDS[name]
    except KeyError:
        raise DataError(f"unknown field '{name}'", f"the fields are: {', '.join(sorted(FIELDS))}") from None
