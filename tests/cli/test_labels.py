"""Names, units and weights of labels as a user types them."""

import shlex

import ase.io
import numpy as np
import pytest
from ase import Atoms

from nequip_like.cli.train import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Water in Angstrom, with energies in Hartree and forces in Hartree/Bohr under names of their own."""
    rng = np.random.default_rng(0)
    rest = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    frames = []
    for _ in range(8):
        atoms = Atoms("OH2", rest + rng.normal(size=(3, 3)) * 0.03)
        forces = rng.normal(size=(3, 3)) * 0.02
        atoms.info["E_cp2k"] = -17.2 + 0.001 * rng.normal()
        atoms.arrays["F_cp2k"] = forces - forces.mean(axis=0)
        frames.append(atoms)
    ase.io.write(tmp_path / "cp2k.xyz", frames)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


def run(monkeypatch, capsys, tiny, *overrides):
    """Exit status, and what was printed."""
    arguments = ["data.train=cp2k.xyz", "data.val=2", "cutoff_radius=3.0", "run=[val]", *overrides]
    monkeypatch.setattr("sys.argv", ["nequip-train", *arguments, *tiny])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0), capsys.readouterr()
    return 0, capsys.readouterr()


LINE = "'data.key_mapping={E_cp2k: total_energy, F_cp2k: forces}'"


def test_the_note_has_the_line_to_type_and_the_table_the_factors(folder, monkeypatch, capsys, tiny):
    status, printed = run(monkeypatch, capsys, tiny)
    assert status == 2
    assert (
        "cp2k.xyz: not read, though they could be labels: 'E_cp2k' (as total_energy), 'F_cp2k' (as forces); if they "
        f"are, write {LINE}"
    ) in printed.out
    units = "data.units={energy: Hartree, forces: Hartree/Bohr}"
    status, printed = run(monkeypatch, capsys, tiny, *shlex.split(LINE), units)
    assert status == 0, printed.err
    assert "total_energy: Hartree, x 27.2114" in printed.out
    assert "forces: Hartree/Bohr, x 51.4221" in printed.out
    assert "E_cp2k, F_cp2k" in printed.out
    assert "could be labels" not in printed.out


def test_what_the_shell_splits(folder, monkeypatch, capsys, tiny):
    status, printed = run(monkeypatch, capsys, tiny, *LINE.strip("'").split(" "))
    assert (status, printed.out) == (2, "")
    assert printed.err == (
        "error: cannot read 'data.key_mapping={E_cp2k:': it ends before its '{' is closed\n"
        "  -> the shell splits at spaces: put quotes around the whole, 'data.key_mapping={E_cp2k: ...}'\n"
    )


def test_a_unit_of_something_else(folder, monkeypatch, capsys, tiny):
    status, printed = run(monkeypatch, capsys, tiny, *shlex.split(LINE), "data.units={forces: GPa}")
    assert status == 2
    assert printed.err == (
        "error: data.units: 'GPa' is a pressure, or an energy by a volume, and no unit of forces\n"
        "  -> write an energy by a length: eV/Angstrom, Hartree/Bohr or kcal/mol/Angstrom\n"
    )


def test_units_that_the_file_states_and_the_line_of_the_advice(folder, monkeypatch, capsys, tiny):
    frames = ase.io.read("cp2k.xyz", ":")
    for atoms in frames:
        atoms.info |= {"energy_unit": "Ha", "force_units": "Ha/a0", "length_unit": "Ang"}
    ase.io.write("cp2k.xyz", frames)
    names = shlex.split(LINE)
    status, printed = run(monkeypatch, capsys, tiny, *names)
    line = "'data.units={energy: Hartree, forces: Hartree/Bohr}'"
    assert status == 2
    assert printed.err == (
        "error: cp2k.xyz: its 'energy_unit' says that 'E_cp2k' is in Ha, but it is read in eV, Angstrom, which is "
        f"0.0367493 times as much\n  -> declare it: {line}; or repair what the file says\n"
    )
    status, printed = run(monkeypatch, capsys, tiny, *names, *shlex.split(line))
    assert status == 0, printed.err
    assert "total_energy: Hartree, x 27.2114" in printed.out


def test_energies_in_hartree_only(folder, monkeypatch, capsys, tiny):
    status, printed = run(monkeypatch, capsys, tiny, *shlex.split(LINE), "data.units={energy: Hartree}")
    assert status == 2
    assert printed.err == (
        "error: cp2k.xyz: energies are in Hartree, but the unit of 'forces' is declared nowhere; it would be read in "
        "Hartree/Angstrom\n"
        "  -> declare it: 'data.units={energy: Hartree, forces: Hartree/Bohr}', or Hartree/Angstrom if it is that\n"
    )


def test_forces_without_energies(folder, monkeypatch, capsys, tiny):
    mapping = "data.key_mapping={F_cp2k: forces}"
    frames = ase.io.read("cp2k.xyz", ":")
    for atoms in frames:
        del atoms.info["E_cp2k"]
    ase.io.write("cp2k.xyz", frames)
    status, printed = run(monkeypatch, capsys, tiny, mapping)
    assert status == 2
    assert printed.err.endswith(
        "  -> choose targets=force, or declare the label's name in the file: data.key_mapping\n"
    )
    status, printed = run(monkeypatch, capsys, tiny, mapping, "targets=force", "run=[train,val]")
    assert status == 0, printed.err
    (metrics,) = folder.rglob("metrics.csv")
    header, *rows = metrics.read_text().splitlines()
    values = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    assert {name for name in values if name.startswith("val0_epoch/")} >= {
        "val0_epoch/forces_rmse", "val0_epoch/forces_mae", "val0_epoch/weighted_sum",
    }  # fmt: skip
    assert not any("energy" in name for name in values)
