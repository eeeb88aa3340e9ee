"""Structures of the inference benchmarks."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import write

SIDE = 6.2  # Angstrom, of a box of 8 molecules


@pytest.fixture
def systems(load):
    return load("systems")


@pytest.fixture
def box(tmp_path):
    """Eight molecules on a lattice, some cut by the faces of the box, hydrogens after all oxygens."""
    oxygens = np.array([(x, y, z) for x in (0.1, 3.2) for y in (0.1, 3.2) for z in (0.1, 3.2)])
    first, second = oxygens + np.array([-0.9, 0, 0]), oxygens + np.array([0.3, 0.9, 0])
    atoms = Atoms("O8H16", np.concatenate([oxygens, first, second]), cell=[SIDE] * 3, pbc=True)
    atoms.wrap()
    path = tmp_path / "water.xyz"
    write(path, atoms)
    return str(path)


@pytest.mark.parametrize(("molecules", "times"), [(8, 1.0), (27, 1.5), (64, 2.0)])
def test_water_has_whole_molecules_at_the_density_of_the_box(systems, box, molecules, times):
    system = systems.water(box, molecules)
    assert system["numbers"].tolist() == [8, 1, 1] * molecules
    assert np.diag(system["cell"]) == pytest.approx([SIDE * times] * 3)
    oxygens, bonds = system["positions"][::3], system["positions"].reshape(-1, 3, 3)[:, 1:]
    assert bonds - oxygens[:, None] == pytest.approx(np.tile([[-0.9, 0, 0], [0.3, 0.9, 0]], (molecules, 1, 1)))
    assert len(np.unique(oxygens.round(6), axis=0)) == molecules
    assert oxygens.max() < SIDE * times


def test_water_of_something_else_is_refused(systems, tmp_path):
    path = tmp_path / "other.xyz"
    write(path, Atoms("O2H4", np.arange(18.0).reshape(6, 3) % 7, cell=[9, 9, 9], pbc=True))
    with pytest.raises(ValueError, match="not made of water molecules"):
        systems.water(str(path), 2)


@pytest.mark.parametrize(
    ("wanted", "kind", "atoms", "cells"),
    [
        (10, "NaCl", 8, (1, 1, 1)),
        (100, "NaCl", 96, (2, 2, 3)),
        (1000, "NaCl", 1000, (5, 5, 5)),
        (100, "Ni", 108, (3, 3, 3)),
    ],
)
def test_crystal_of_about_so_many_atoms(systems, wanted, kind, atoms, cells):
    system = systems.crystal(wanted, kind)
    assert len(system["numbers"]) == atoms
    assert np.diag(system["cell"]) == pytest.approx(np.array(cells) * systems.CRYSTALS[kind][1])
    again = systems.crystal(wanted, kind)
    assert all((system[key] == again[key]).all() for key in system)


def test_walk_moves_as_dynamics_does_and_comes_back(systems, tmp_path):
    system = systems.crystal(100)
    systems.save(tmp_path / "system.npz", system)
    walk = systems.Walk(str(tmp_path / "system.npz"))
    assert (walk.atoms.positions == system["positions"]).all()
    assert walk.atoms.pbc.all()
    farthest = 0
    for _ in range(80):
        before = walk.atoms.positions.copy()
        walk.advance()
        moved = np.abs(walk.atoms.positions - before)
        assert moved == pytest.approx(np.abs(0.5 * system["velocities"]), abs=1e-12)
        farthest = max(farthest, np.abs(walk.atoms.positions - system["positions"]).max())
    assert walk.atoms.positions == pytest.approx(system["positions"])
    assert farthest == pytest.approx(20 * np.abs(system["velocities"]).max())


def test_velocities_are_of_300_kelvin(systems):
    system = systems.crystal(1000)
    masses = Atoms(system["numbers"]).get_masses()[:, None]
    energy = (masses * (system["velocities"] / units.fs) ** 2).mean() / units.kB
    assert energy == pytest.approx(300, rel=0.05)  # 3000 velocities: standard error 2.6 %
