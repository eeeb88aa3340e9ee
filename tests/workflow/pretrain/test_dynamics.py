"""Structures at a temperature: repeatable, and as likely as they should be, whatever the step is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from nequip_like.workflow.pretrain.dynamics import (
    Steepness,
    estimate_temperature,
    measure_steepness,
    run_dynamics,
    strain,
)

COPPER = bulk("Cu", a=3.6, cubic=True)


class Springs(Calculator):
    """Einstein's crystal: each atom is bound to the place where it was first, by a spring of its own."""

    implemented_properties = ("energy", "forces")

    def __init__(self, places: np.ndarray, stiffness: np.ndarray) -> None:
        super().__init__()
        self.places, self.stiffness = places, stiffness[:, None]

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = None) -> None:
        shifts = atoms.positions - self.places
        energy = (self.stiffness * shifts**2).sum() / 2
        self.results = {"energy": float(energy), "forces": -self.stiffness * shifts}


def test_a_seed_gives_the_same_structures() -> None:
    first, second = (
        [strain(COPPER, rng), *run_dynamics(COPPER, EMT(), 500.0, 2, rng)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.cell, other.cell)
    assert not np.allclose(first[1].positions, first[2].positions, atol=1e-3)


def test_only_crystals_are_strained() -> None:
    rng = np.random.default_rng(0)
    slab = COPPER.copy()
    slab.pbc = (True, True, False)
    assert np.array_equal(strain(slab, rng).cell, slab.cell)
    strained = strain(COPPER, rng)
    change = np.linalg.solve(COPPER.cell.array, strained.cell.array)
    assert np.allclose(change, change.T)  # no rotation
    assert 0.001 < np.abs(change - np.eye(3)).max() < 0.1
    assert np.allclose(strained.get_scaled_positions(), COPPER.get_scaled_positions())


def test_dynamics_have_their_temperature() -> None:
    """Springs from those of a soft crystal to the stiffest of carbon: each has ``kT/2`` in each direction.

    For the stiffest ``omega * step`` is 0.67: a velocity Verlet's structures would have 13 % too much. The means of
    3000 squares are right to 2.6 %.
    """
    atoms = Atoms("H3000", np.zeros((3000, 3)))
    stiffness = np.repeat([2.0, 20.0, 90.0], 1000)  # eV/Angstrom^2
    calculator = Springs(atoms.positions.copy(), stiffness)
    rng = np.random.default_rng(0)
    atoms.positions += rng.normal(size=(3000, 3)) * np.sqrt(units.kB * 600.0 / stiffness)[:, None]
    *_, last = run_dynamics(atoms, calculator, 600.0, 60, rng)
    heights = (stiffness[:, None] * last.positions**2).reshape(3, -1).mean(axis=1) / (units.kB * 600.0)
    assert heights == pytest.approx([1.0, 1.0, 1.0], abs=0.07)


def test_dynamics_leave_the_frame_as_it_was() -> None:
    before = COPPER.positions.copy()
    snapshots = list(run_dynamics(COPPER, EMT(), 300.0, 2, np.random.default_rng(0)))
    assert np.array_equal(COPPER.positions, before)
    assert len(snapshots) == 2
    assert not any(atoms.get_momenta().any() for atoms in snapshots)


def test_the_temperature_is_that_of_the_displacements() -> None:
    """Springs again, at 900 K: the square of the forces is known exactly, and a diagonal Hessian's trace is, too."""
    atoms = Atoms("H40", np.zeros((40, 3)))
    stiffness = np.linspace(1.0, 60.0, 40)
    calculator = Springs(atoms.positions.copy(), stiffness)
    rng = np.random.default_rng(0)
    measured = []
    for _ in range(20):
        atoms.positions = rng.normal(size=(40, 3)) * np.sqrt(units.kB * 900.0 / stiffness)[:, None]
        measured.append(measure_steepness(atoms, calculator, rng))
        assert measured[-1].square == pytest.approx(float(((stiffness[:, None] * atoms.positions) ** 2).sum()))
        assert measured[-1].curvature == pytest.approx(3 * stiffness.sum())
    assert estimate_temperature(measured) == pytest.approx(900.0, rel=0.06)


def test_the_temperature_has_bounds() -> None:
    assert estimate_temperature([Steepness(0.0, 100.0)]) == 300.0
    assert estimate_temperature([Steepness(100.0, 100.0)]) == 3000.0
    assert estimate_temperature([Steepness(1.0, -100.0)]) == 3000.0  # nowhere near a minimum
