"""Structures and tables of energies in aenet's forms, written and read back."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from nequip_like.compat.aenet import EnergyRow, read_energies, write_energies, write_xsf
from nequip_like.data.io.readers import read_frames
from nequip_like.errors import DataError


def labelled(atoms, energy=-19517.09425849):
    forces = np.arange(3.0 * len(atoms)).reshape(-1, 3) / 7 - 1
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def test_a_crystal_and_a_molecule_are_read_back(tmp_path):
    crystal = labelled(Atoms("TiO2", [[0, 0, 0], [1.2, 1.9, 0.1], [-1.9, 0.3, 2.2]], cell=[4.6, 4.7, 2.9], pbc=True))
    crystal.set_constraint(FixAtoms([0]))
    files = write_xsf([crystal, labelled(molecule("H2O"), energy=-3.5)], tmp_path / "set")
    assert [path.name for path in files] == ["structure-001.xsf", "structure-002.xsf"]
    assert files[0].read_text().startswith("# total energy = -19517.09425849 eV\n\nCRYSTAL\nPRIMVEC\n")
    for path, atoms in zip(files, (crystal, molecule("H2O")), strict=True):
        (frame,) = read_frames(path)
        np.testing.assert_allclose(frame["pos"].numpy(), atoms.positions, atol=5e-9)
        assert frame["pbc"].tolist() == [atoms.pbc.tolist()]
        expected = np.arange(3.0 * len(atoms)).reshape(-1, 3) / 7 - 1
        np.testing.assert_allclose(frame["forces"].numpy(), expected, atol=5e-9)
    assert read_frames(files[0])[0]["total_energy"].item() == -19517.09425849


def test_a_slab_is_refused(tmp_path):
    with pytest.raises(DataError, match="periodic in 2 of 3 directions"):
        write_xsf(Atoms("H", cell=[3, 3, 9], pbc=[True, True, False]), tmp_path / "slab.xsf")
    assert list(tmp_path.iterdir()) == []


def test_energies_are_read_back(tmp_path):
    rows = [
        EnergyRow(-12.5, -12.25, ["O", "Ti", "O"], "set/structure 001.xsf"),
        EnergyRow(-8.0, -8.5, ["Ti", "Ti"], ""),
    ]
    write_energies(rows, tmp_path / "energies.test.0", ["Ti", "O"], energy_scaling=1.5)
    lines = (tmp_path / "energies.test.0").read_text().splitlines()
    assert lines[0] == (
        "#Ref(eV) ANN(eV) #atoms Ref(eV/atom) ANN(eV/atom) Ref-ANN(eV/atom) Cost-Func #Ti #O Path-of-input-file"
    )
    assert lines[1].split()[:9] == [
        "-1.250000E+01", "-1.225000E+01", "3", "-4.166667E+00", "-4.083333E+00", "-8.333333E-02", "-1.250000E-01",
        "1", "2",
    ]  # fmt: skip
    assert lines[2].split()[-3:] == ["2", "0", "structure_000001"]
    again = read_energies(tmp_path / "energies.test.0")
    assert [(row.reference, row.predicted, sorted(row.species)) for row in again] == [
        (-12.5, -12.25, ["O", "O", "Ti"]), (-8.0, -8.5, ["Ti", "Ti"])
    ]  # fmt: skip
    assert [row.path for row in again] == ["set/structure 001.xsf", "structure_000001"]


def test_broken_tables(tmp_path):
    path = tmp_path / "energies.train.0"
    path.write_text("#Ref(eV) ANN(eV) #atoms a b c d #Ti Path\n 1.0 x 3\n")
    with pytest.raises(DataError, match="line 2"):
        read_energies(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_energies(tmp_path / "absent")
