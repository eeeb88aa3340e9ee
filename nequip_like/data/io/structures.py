"""Between ASE's ``Atoms`` and graphs: a structure without labels and neighbours, and back what was predicted of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.errors import DataError

LARGEST_LENGTH = 1e5  # Angstrom; 10 micrometres, beyond any simulation, and single precision is 0.01 Angstrom there
_FEW_BYTES = 1 << 14  # beyond this a copy takes longer than numpy's comparison
SMALLEST_HEIGHT = 0.5  # Angstrom; below the shortest bond of all (H2: 0.74), and lattice planes lie wider apart


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

    Example:
        >>> graph = graph_from_atoms(Atoms("OH", [[0, 0, 0], [0, 0, 1.8]]), length=0.5292)  # a file in Bohr
        >>> graph["atomic_numbers"].tolist(), round(graph["pos"][1, 2].item(), 4), graph["pbc"].tolist()
        ([8, 1], 0.9526, [[False, False, False]])
    """
    numbers = np.asarray(atoms.numbers)
    if len(numbers) == 0:
        raise DataError(f"{where} has no atoms", "remove the frame from the file")
    if (numbers < 1).any():
        atom = int(np.argmax(numbers < 1))
        raise DataError(f"{where}: atom {atom} has no chemical element ('X')", "give its chemical symbol")
    if (numbers >= len(chemical_symbols)).any():
        atom = int(np.argmax(numbers >= len(chemical_symbols)))
        raise DataError(f"{where}: atom {atom} has the atomic number {numbers[atom]}", "there is no such element")
    positions = np.asarray(atoms.positions, dtype=np.float64) * length
    cell = np.asarray(atoms.cell[:], dtype=np.float64) * length
    if not np.isfinite(positions).all():
        atom = int(np.argmax(~np.isfinite(positions).all(axis=1)))
        raise DataError(f"{where}: the position of atom {atom} is not a finite number", "remove or repair the frame")
    if not np.isfinite(cell).all():
        raise DataError(f"{where}: the cell is not made of finite numbers", "remove or repair the frame")
    largest = max(float(np.abs(positions).max()), float(np.abs(cell).max()))
    if largest > LARGEST_LENGTH:
        raise DataError(
            f"{where}: a position or cell vector is {largest:.3g} Angstrom long",
            "repair the frame, or declare units.length",
        )
    check_periodic_cell(cell, np.asarray(atoms.pbc), where)
    return {
        fields.POSITIONS: torch.from_numpy(positions.copy()),
        fields.CELL: torch.from_numpy(cell.copy()).unsqueeze(0),
        fields.PBC: torch.from_numpy(np.array(atoms.pbc, dtype=bool)).unsqueeze(0),
        fields.ATOMIC_NUMBERS: torch.from_numpy(numbers.astype(np.int64)),
        fields.NUM_ATOMS: torch.tensor([len(numbers)]),
        fields.FRAME_INDEX: torch.tensor([frame_index]),
    }


def are_same(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays have the same shape, type and numbers.

    Asked several times in each step of molecular dynamics: of a molecule, ``numpy.array_equal`` takes 15 times as long.
    Small arrays are compared bit for bit: zeros of different signs are not the same there.

    Example:
        >>> are_same(np.zeros(3), np.zeros(3)), are_same(np.zeros(3), np.zeros(4)), are_same(np.zeros(3), np.ones(3))
        (True, False, False)
    """
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if first.nbytes <= _FEW_BYTES:
        return first.tobytes() == second.tobytes()
    return np.array_equal(first, second)


def moved_to(graph: Graph, atoms: Atoms) -> Graph | None:
    """The graph with the positions of an ASE structure, if that differs from it in nothing else.

    Molecular dynamics changes nothing but positions from step to step; then this saves most of what
    :func:`graph_from_atoms` does, and tensors that did not change stay the same objects.

    Args:
        graph: A graph that :func:`graph_from_atoms` made with ``length`` 1, perhaps with more fields; on the CPU.
        atoms: The structure.

    Returns:
        A new graph, or None where species, cell or periodicity differ or a position is not sound:
        :func:`graph_from_atoms` takes or refuses such a structure.
    """
    unchanged = (
        are_same(graph[fields.ATOMIC_NUMBERS].numpy(), atoms.numbers)
        and are_same(graph[fields.CELL].numpy()[0], atoms.cell.array)
        and are_same(graph[fields.PBC].numpy()[0], atoms.pbc)
    )
    # The last comparison is false for NaN, too.
    if not (unchanged and np.abs(atoms.positions).max() <= LARGEST_LENGTH):
        return None
    return {**graph, fields.POSITIONS: torch.from_numpy(np.array(atoms.positions, dtype=np.float64))}


def ase_results(prediction: Graph) -> dict[str, Any]:
    """A prediction of one structure as results of a calculator of ASE.

    Args:
        prediction: What a potential predicts, on the CPU.

    Returns:
        ``energy`` and ``free_energy`` (eV), ``energies`` (atoms,), and where they are predicted ``forces`` (atoms, 3)
        and ``stress`` (6,) in Voigt order, tension positive. A structure without a cell has no stress. What is not
        known to ASE, ``energy_uncertainty`` (eV) and ``forces_uncertainty`` (atoms, 3), is there where it is predicted.

    Example:
        ASE's order of a stress is xx, yy, zz, yz, xz, xy; a positive one is a tension, there as here:

        >>> stress = torch.tensor([[[0.1, 0.6, 0.5], [0.6, 0.2, 0.4], [0.5, 0.4, 0.3]]])
        >>> energy = torch.tensor([[-1.0]])
        >>> results = ase_results({"total_energy": energy, "atomic_energy": energy, "stress": stress})
        >>> [round(float(component), 1) for component in results["stress"]]
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    """
    energy = float(prediction[fields.TOTAL_ENERGY])
    results = {
        "energy": energy,
        "free_energy": energy,
        "energies": prediction[fields.PER_ATOM_ENERGY].flatten().numpy(),
    }
    if fields.FORCES in prediction:
        results["forces"] = prediction[fields.FORCES].numpy()
    if fields.STRESS in prediction:
        stress = prediction[fields.STRESS][0].numpy()
        if not np.isnan(stress).all():
            results["stress"] = full_3x3_to_voigt_6_stress(stress)
    if fields.ENERGY_UNCERTAINTY in prediction:
        results[fields.ENERGY_UNCERTAINTY] = float(prediction[fields.ENERGY_UNCERTAINTY])
    if fields.FORCES_UNCERTAINTY in prediction:
        results[fields.FORCES_UNCERTAINTY] = prediction[fields.FORCES_UNCERTAINTY].numpy()
    return results


def check_extent(graph: Graph, where: str) -> None:
    """Refuse a cell that is nearly flat: atoms would meet their own images, in numbers that no computer holds.

    Args:
        graph: One structure.
        where: File and frame, for messages.

    Raises:
        DataError: Naming the frame.
    """
    cell = graph[fields.CELL][0].numpy()
    periodic = cell[graph[fields.PBC][0].numpy()]
    if len(periodic) == 0:
        return
    # The columns of the pseudo-inverse are the reciprocal vectors; a height of the cell is one over their length.
    heights = 1.0 / np.linalg.norm(np.linalg.pinv(periodic), axis=0)
    if heights.min() < SMALLEST_HEIGHT:
        raise DataError(
            f"{where}: its cell is only {heights.min():.3g} Angstrom high along one direction: {cell.tolist()}",
            "repair the cell, or declare units.length if the file is not in Angstrom",
        )


def check_periodic_cell(cell: np.ndarray, pbc: np.ndarray, where: str) -> None:
    """Refuse a periodic direction without a lattice vector, or periodic lattice vectors that depend on each other.

    Raises:
        DataError: Naming the frame.

    Example:
        >>> check_periodic_cell(np.zeros((3, 3)), np.array([True, True, True]), "md.xyz frame 0")
        Traceback (most recent call last):
        ...
        nequip_like.errors.DataError: md.xyz frame 0 is periodic (pbc TTT) but its cell ... does not span ...
          -> give the cell (Lattice="..."), or set pbc="F F F" for a molecule
    """
    periodic = cell[pbc]
    if len(periodic) == 0:
        return
    norms = np.linalg.norm(periodic, axis=1, keepdims=True)
    if (norms < 1e-6).any() or np.linalg.matrix_rank(periodic / norms, tol=1e-6) < len(periodic):
        raise DataError(
            f"{where} is periodic (pbc {''.join('FT'[int(axis)] for axis in pbc)}) but its cell {cell.tolist()} does "
            "not span the periodic directions",
            'give the cell (Lattice="..."), or set pbc="F F F" for a molecule',
        )
