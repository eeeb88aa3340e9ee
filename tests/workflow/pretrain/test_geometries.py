"""Structures around the user's own: repeatable, bounded, and of the kind they say."""

from __future__ import annotations

import time

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT

from nequip_like.workflow.pretrain import geometries
from nequip_like.workflow.pretrain.geometries import estimate_temperature, is_too_close, run_dynamics, strain

COPPER = bulk("Cu", a=3.6, cubic=True)
COVALENT = 1.32  # Angstrom, of copper


def test_a_seed_gives_the_same_structures() -> None:
    first, second = (
        [
            strain(COPPER, rng),
            *run_dynamics(COPPER, EMT(), 500.0, 2, rng),
        ]
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


@pytest.mark.parametrize(("distance", "close"), [(0.699, True), (0.701, False)])
def test_how_close_is_too_close(distance: float, close: bool) -> None:
    """0.7 of the sum of covalent radii, through the boundary of a cell, too."""
    pair = Atoms("Cu2", [[0, 0, 0], [0, 0, distance * 2 * COVALENT]])
    assert is_too_close(pair) is close
    through = Atoms("Cu2", [[0, 0, 0.1], [0, 0, 10.1 - distance * 2 * COVALENT]], cell=[10, 10, 10], pbc=True)
    assert is_too_close(through) is close


def test_a_box_around_a_molecule_costs_nothing() -> None:
    """ASE's list of neighbours takes half a second for this box, more than a cheap teacher for the label."""
    boxed = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], cell=[50.0, 50.0, 50.0])
    began = time.process_time()
    assert not any(is_too_close(boxed) for _ in range(20))
    assert time.process_time() - began < 1.0  # 10 s with ASE's


def test_dynamics_have_their_temperature() -> None:
    """108 atoms of copper in their places: half of the kinetic energy becomes potential, and friction brings it back.

    Kinetic energy is not kept in the snapshots, so it is the height above the minimum: 3/2 kT for each atom.
    """
    crystal = COPPER.repeat(3)
    crystal.pbc = (True, True, False)  # not strained
    crystal.cell[2, 2] = 40.0
    calculator = EMT()
    crystal.calc = calculator
    lowest = crystal.get_potential_energy()
    *_, last = run_dynamics(crystal, calculator, 300.0, 6, np.random.default_rng(0))
    last.calc = calculator
    height = (last.get_potential_energy() - lowest) / len(crystal)
    assert 0.3 < height / (1.5 * units.kB * 300.0) < 1.3


def test_dynamics_leave_the_frame_as_it_was() -> None:
    before = COPPER.positions.copy()
    snapshots = list(run_dynamics(COPPER, EMT(), 300.0, 2, np.random.default_rng(0)))
    assert np.array_equal(COPPER.positions, before)
    assert len(snapshots) == 2
    assert not any(atoms.get_momenta().any() for atoms in snapshots)


def test_the_temperature_is_that_of_the_displacements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Einstein's crystal: springs of 5 eV/Angstrom^2, displaced as at 900 K."""

    class Springs(EMT):  # a calculator that knows copper, with other forces
        def calculate(self, atoms, properties, changes):
            shifts = atoms.positions - COPPER.repeat(4).positions
            self.results = {"energy": 2.5 * (shifts**2).sum(), "forces": -5.0 * shifts}

    rng = np.random.default_rng(0)
    monkeypatch.setattr(geometries, "_RELAXATION_STEPS", 300)
    frames = [COPPER.repeat(4) for _ in range(4)]
    for atoms in frames:
        atoms.positions += rng.normal(scale=np.sqrt(units.kB * 900 / 5.0), size=atoms.positions.shape)
    assert estimate_temperature(frames, Springs(), rng) == pytest.approx(900, rel=0.06)
    assert estimate_temperature([COPPER.repeat(4)], Springs(), rng) == 300.0  # not colder
