"""Vibrations of two atoms on a spring, whose frequency is known by hand."""

import math

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from nequip_like.errors import ModelError
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.integrations.vibrations import compute_vibrations
from tests.model.test_potential import K, springs


def dimer(distance=1.0):
    atoms = Atoms("H2", positions=[[0, 0, 0], [distance, 0, 0]])
    atoms.calc = NequIPCalculator(springs())
    return atoms


def test_dimer_by_hand():
    """E = k (r - 1)^2 with the reduced mass m / 2: omega = sqrt(2 k / (m / 2))."""
    atoms = dimer()
    omega = math.sqrt(4 * K / atoms.get_masses()[0]) * units._hbar * 1e10 / math.sqrt(units._e * units._amu)  # eV
    frequencies = compute_vibrations(atoms).get_frequencies()
    assert frequencies[-1].real == pytest.approx(omega / units.invcm, rel=1e-9)
    assert np.abs(frequencies[:-1]).max() < 1e-3


def test_fixed_atom_does_not_move():
    atoms = dimer()
    atoms.set_constraint(FixAtoms([0]))
    one = compute_vibrations(atoms).get_frequencies()
    assert len(one) == 3
    assert one[-1].real == pytest.approx(
        compute_vibrations(dimer()).get_frequencies()[-1].real / math.sqrt(2), rel=1e-9
    )


def test_hessian_of_last_structure():
    atoms = dimer(1.2)
    calculator = atoms.calc
    with pytest.raises(ModelError, match="no structure"):
        calculator.get_hessian()
    atoms.get_forces()
    np.testing.assert_array_equal(calculator.get_hessian(), calculator.get_hessian(atoms))
    assert calculator.get_hessian()[0, 0] == pytest.approx(2 * K, rel=1e-12)


def test_other_calculator():
    with pytest.raises(ModelError, match="not EMT"):
        compute_vibrations(Atoms("H2", positions=[[0, 0, 0], [1, 0, 0]], calculator=EMT()))
