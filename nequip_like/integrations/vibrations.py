"""Vibrations of a structure from the exact Hessian of a potential, as ASE has them."""

from __future__ import annotations

from ase import Atoms
from ase.vibrations.data import VibrationsData

from nequip_like.errors import ModelError
from nequip_like.integrations.ase import NequIPCalculator


def compute_vibrations(atoms: Atoms, calculator: NequIPCalculator | None = None) -> VibrationsData:
    """Frequencies and modes in the harmonic approximation; the structure should be relaxed before.

    ASE's own ``Vibrations`` displaces each atom six times and keeps files of that; this takes one Hessian. Atoms that
    ``FixAtoms`` holds do not vibrate.

    Args:
        atoms: The structure, with its masses and constraints.
        calculator: That of the structure by default.

    Returns:
        ASE's object: ``get_frequencies()`` gives them in cm^-1 (imaginary ones at a saddle point), ``get_modes()`` the
        displacements, ``get_zero_point_energy()`` eV.

    Raises:
        ModelError: If there is no calculator of this package.

    Example:
        Three atoms have nine modes, six of which move or turn the molecule as a whole where it is relaxed:

        >>> from ase.build import molecule
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"r_max": 3.0, "num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> water = molecule("H2O")
        >>> water.calc = NequIPCalculator(NequIPGNNModel(type_names=["H", "O"], **tiny).eval())
        >>> compute_vibrations(water).get_frequencies().shape
        (9,)
    """
    calculator = calculator or atoms.calc
    if not isinstance(calculator, NequIPCalculator):
        raise ModelError(
            f"vibrations need a NequIPCalculator, not {type(calculator).__name__}",
            "atoms.calc = NequIPCalculator('model.safetensors')",
        )
    free = VibrationsData.indices_from_constraints(atoms)
    rows = [3 * atom + axis for atom in free for axis in range(3)]
    hessian = calculator.get_hessian(atoms)[rows][:, rows]
    return VibrationsData.from_2d(atoms, hessian, indices=free)
