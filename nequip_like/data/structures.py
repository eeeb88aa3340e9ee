"""From ASE's ``Atoms`` to a graph: positions, cell and species, without labels and without neighbours."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.errors import DataError


def graph_from_atoms(atoms: Atoms, *, frame_index: int = 0, where: str = "structure", length: float = 1.0) -> Graph:
    """Turn an ASE structure into a graph without edges and labels.

    Args:
        atoms: The structure.
        frame_index: Position of the frame in its data set.
        where: File and frame, for messages.
        length: Factor from the file's unit of length to Angstrom.

    Returns:
        ``pos`` (atoms, 3), ``cell`` (1, 3, 3), ``pbc`` (1, 3), ``atomic_numbers`` (atoms,), ``num_atoms`` (1,) and
        ``frame_index`` (1,).

    Raises:
        DataError: If the structure has no atoms, an atom without an element, a position or cell that is not finite,
            or is periodic along a direction in which its cell has no extent.
    """
    numbers = np.asarray(atoms.numbers)
    if len(numbers) == 0:
        raise DataError(f"{where} has no atoms", "remove the frame from the file")
    if (numbers < 1).any():
        atom = int(np.argmax(numbers < 1))
        raise DataError(f"{where}: atom {atom} has no chemical element ('X')", "give its chemical symbol")
    positions = np.asarray(atoms.positions, dtype=np.float64) * length
    cell = np.asarray(atoms.cell[:], dtype=np.float64) * length
    if not np.isfinite(positions).all():
        atom = int(np.argmax(~np.isfinite(positions).all(axis=1)))
        raise DataError(f"{where}: the position of atom {atom} is not a finite number", "remove or repair the frame")
    if not np.isfinite(cell).all():
        raise DataError(f"{where}: the cell is not made of finite numbers", "remove or repair the frame")
    check_periodic_cell(cell, np.asarray(atoms.pbc), where)
    return {
        fields.POSITIONS: torch.from_numpy(positions.copy()),
        fields.CELL: torch.from_numpy(cell.copy()).unsqueeze(0),
        fields.PBC: torch.from_numpy(np.array(atoms.pbc, dtype=bool)).unsqueeze(0),
        fields.ATOMIC_NUMBERS: torch.from_numpy(numbers.astype(np.int64)),
        fields.NUM_ATOMS: torch.tensor([len(numbers)]),
        fields.FRAME_INDEX: torch.tensor([frame_index]),
    }


def check_periodic_cell(cell: np.ndarray, pbc: np.ndarray, where: str) -> None:
    """Refuse a periodic direction without a lattice vector, or periodic lattice vectors that depend on each other.

    Raises:
        DataError: Naming the frame.
    """
    periodic = cell[pbc]
    norms = np.linalg.norm(periodic, axis=1, keepdims=True)
    if len(periodic) == 0:
        return
    if (norms < 1e-6).any() or np.linalg.matrix_rank(periodic / norms, tol=1e-6) < len(periodic):
        raise DataError(
            f"{where} is periodic (pbc {''.join('FT'[int(axis)] for axis in pbc)}) but its cell {cell.tolist()} does "
            "not span the periodic directions",
            'give the cell (Lattice="..."), or set pbc="F F F" for a molecule',
        )
