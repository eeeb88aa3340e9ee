"""Does a crystal resist each small strain, and how stiff is it?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms

from nequip_like.report.units import GPA
from nequip_like.workflow.checks.equation_of_state import MADE_ADVICE, explain_absence, find_settled
from nequip_like.workflow.checks.outcome.verdicts import CheckVerdict, judge_value, skip_check
from nequip_like.workflow.checks.subject import CheckedModel

NAME = "elastic"
_STRAIN = 0.01
_MOST_STEPS = 50  # of each of twelve strained cells, which begin 1 % off their minimum
_SOFT = 0.005  # eV/Angstrom: with smaller forces atoms are where they should be in a strained cell
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_ADVICE = (
    "the crystal yields to a strain, so it is not stable with this model: add strained and sheared frames of it, with"
    " stress in the loss (targets=energy_force_stress)"
)


def ask_elastic(model: CheckedModel) -> Iterator[CheckVerdict]:
    """Compute the elastic constants at the equilibrium, and ask whether the crystal is stable under all strains."""
    reason = explain_absence(model)
    if reason:
        yield skip_check(NAME, reason)
        return
    for sample in model.crystals:
        atoms = find_settled(model, sample)
        if isinstance(atoms, str):
            yield skip_check(NAME, atoms, sample.name)
            continue
        stiffness, unsettled = compute_elastic_constants(model, atoms)
        constants = GPA * stiffness
        lowest = float(np.linalg.eigvalsh(constants)[0]) if np.isfinite(constants).all() else float("nan")
        text = (
            f"lowest eigenvalue {lowest:.1f} GPa; C11 {constants[0, 0]:.1f}, C12 {constants[0, 1]:.1f}, "
            f"C44 {constants[3, 3]:.1f}, C33 {constants[2, 2]:.1f} GPa; Voigt averages: bulk modulus "
            f"{constants[:3, :3].mean():.1f}, shear modulus {_average_shear(constants):.1f} GPa"
        )
        if unsettled:
            text += f"; in {unsettled} of 12 strained cells atoms are not at a minimum after {_MOST_STEPS} steps"
        advice = MADE_ADVICE if sample.is_made else _ADVICE
        # A crystal may be unstable in truth: nothing here tells. A number that is none is an error.
        judged: dict[str, Any] = {"at_least": True, "fails": not (np.isfinite(lowest) or sample.is_made)}
        yield judge_value(NAME, sample.name, lowest, 0.0, "GPa", text, advice, **judged)


def compute_elastic_constants(model: CheckedModel, atoms: Atoms) -> tuple[np.ndarray, int]:
    """Central differences of the stress of a crystal by strains, with atoms moved to their minimum in each of them.

    Args:
        model: The model.
        atoms: The crystal at its equilibrium.

    Returns:
        Shape (6, 6), eV/Angstrom^3, symmetric, in Voigt's order xx, yy, zz, yz, xz, xy; and in how many of the
        strained cells atoms have not come to their minimum.
    """
    strained = [_strain_cell(atoms, sign * row) for row in _STRAIN * np.eye(6) for sign in (1, -1)]
    unsettled = 0
    if len(atoms) > 1 and np.abs(model.forces(strained)).max() > _SOFT:
        relaxed = [model.relax(structure, _SOFT, _MOST_STEPS) for structure in strained]
        strained = [structure for structure, _ in relaxed]
        unsettled = sum(not at_minimum for _, at_minimum in relaxed)
    stress = np.array([[tensor[index] for index in _VOIGT] for tensor in model.stresses(strained)])
    constants: np.ndarray = (stress[::2] - stress[1::2]) / (2 * _STRAIN)
    return (constants + constants.T) / 2, unsettled


def _strain_cell(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """The crystal with a strain in Voigt's order, shears being twice the components of the tensor."""
    deformation = np.eye(3)
    for value, (i, j) in zip(strain, _VOIGT, strict=True):
        deformation[i, j] += value if i == j else value / 2
        deformation[j, i] = deformation[i, j]
    strained = atoms.copy()
    strained.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    return strained


def _average_shear(constants: np.ndarray) -> float:
    """Voigt's average of the shear modulus."""
    normal, mixed = np.trace(constants[:3, :3]), constants[0, 1] + constants[0, 2] + constants[1, 2]
    return float((normal - mixed + 3 * np.trace(constants[3:, 3:])) / 15)
