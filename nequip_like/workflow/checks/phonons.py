"""Does a crystal vibrate, or does it have modes that it falls along?"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms

from nequip_like.workflow.checks.equation_of_state import MADE_ADVICE, explain_absence, find_settled
from nequip_like.workflow.checks.outcome.verdicts import CheckPlot, CheckVerdict, judge_value, skip_check
from nequip_like.workflow.checks.subject import CheckedModel

NAME = "phonons"
_LIMIT = -0.1  # THz
_NOISE = 5.0
_REACH = 10.0  # of the supercell along each lattice vector, Angstrom
_MOST_ATOMS = (256, 128, 64)  # of the supercell: the first with which there is not too much to predict
_MOST_PREDICTED = 50_000  # atoms of all displaced supercells, of which a crystal without symmetry has six for each atom
_SYMMETRIC = 1e-3  # Angstrom: what is left of a relaxation does not hide a symmetry
# Of the density of states: THz; points along an axis at most; of a larger cell so many as span this length, Angstrom.
_SMOOTHING, _DENSE_MESH, _SPAN = 0.1, 12, 40.0
_ADVICE = (
    "modes with imaginary frequencies: the crystal goes over to another structure with this model. If it is stable in"
    " your calculations, add frames of it with small random displacements, and supercells"
)


def ask_phonons(model: CheckedModel) -> Iterator[CheckVerdict | CheckPlot]:
    """Compute frequencies at the points that fit into a supercell, and the density of states."""
    reason = explain_absence(model)
    if not reason and importlib.util.find_spec("phonopy") is None:
        reason = 'phonopy is not installed: pip install "nequip-like[phonopy]"'
    if reason:
        yield skip_check(NAME, reason)
        return
    curves = {}
    for sample in model.crystals:
        atoms = find_settled(model, sample)
        if isinstance(atoms, str):
            yield skip_check(NAME, atoms, sample.name)
            continue
        noise = model.measure_noise(sample.atoms).force
        displacement = 0.03 if model.element_type == "float32" else 0.01  # Angstrom
        phonon = _prepare_phonons(model, atoms, displacement)
        frequencies = _compute_frequencies(phonon)
        lowest = float(frequencies.min()) if np.isfinite(frequencies).all() else float("nan")
        # A frequency near zero is the root of what rounding makes of a force constant: 15.6 THz for 1 eV/A^2 and 1 u.
        allowed = _LIMIT - 15.633 * np.sqrt(_NOISE * noise / displacement / atoms.get_masses().min())
        text = (
            f"lowest frequency {lowest:.2f} THz of {np.nanmax(frequencies):.2f} THz, at {len(frequencies)} points "
            f"of a supercell of {len(phonon.supercell)} atoms"
        )
        # A crystal may be unstable in truth: nothing here tells. A frequency that is no number is an error.
        judged: dict[str, Any] = {"at_least": True, "fails": not (np.isfinite(lowest) or sample.is_made)}
        advice = MADE_ADVICE if sample.is_made else _ADVICE
        yield judge_value(NAME, sample.name, lowest, float(allowed), "THz", text, advice, **judged)
        curves[sample.name] = _compute_density(phonon)
    if curves:
        yield CheckPlot(NAME, "density of states", "frequency (THz)", "states (1/THz)", curves)


def _prepare_phonons(model: CheckedModel, atoms: Atoms, displacement: float) -> Any:
    """Phonopy's object with the forces of displaced supercells."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(symbols=atoms.get_chemical_symbols(), cell=atoms.cell.array, positions=atoms.positions)
    for most in _MOST_ATOMS:
        repeats = np.diag(_choose_supercell(atoms, most))
        phonon = Phonopy(cell, supercell_matrix=repeats, primitive_matrix="P", symprec=_SYMMETRIC)
        phonon.generate_displacements(distance=displacement)
        cells = [phonon.supercell, *(phonon.supercells_with_displacements or [])]
        if sum(map(len, cells)) <= _MOST_PREDICTED:
            break
    forces = model.forces([Atoms(c.symbols, positions=c.positions, cell=c.cell, pbc=True) for c in cells])
    # What the relaxation left would count as a response to the displacement.
    phonon.forces = forces[1:] - forces[0]
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()
    return phonon


def _choose_supercell(atoms: Atoms, most: int) -> list[int]:
    """How often the cell is repeated along each lattice vector: up to 10 Angstrom, in so many atoms."""
    repeats = np.maximum(1, np.ceil(_REACH / atoms.cell.lengths())).astype(int)
    while repeats.prod() * len(atoms) > most and repeats.max() > 1:
        repeats[np.argmax(repeats * atoms.cell.lengths() * (repeats > 1))] -= 1
    return repeats.tolist()


def _compute_frequencies(phonon: Any) -> np.ndarray:
    """Frequencies at all points that fit into the supercell, where they are exact, shape (points, modes), THz."""
    repeats = np.diag(phonon.supercell_matrix)
    points = np.array(list(np.ndindex(*repeats))) / repeats
    phonon.run_qpoints(points)
    return np.asarray(phonon.qpoints.frequencies)


def _compute_density(phonon: Any) -> list[tuple[float, float]]:
    """The density of states (THz, states per THz and primitive cell)."""
    # A large cell has as many modes at fewer points; without symmetry all of a fixed mesh would take half a minute.
    lengths = np.linalg.norm(phonon.primitive.cell, axis=1)
    phonon.run_mesh(np.minimum(_DENSE_MESH, np.ceil(_SPAN / lengths)).astype(int).tolist(), is_gamma_center=True)
    phonon.run_total_dos(sigma=_SMOOTHING)
    density = phonon.total_dos
    return list(zip(density.frequency_points.tolist(), density.dos.tolist(), strict=True))
