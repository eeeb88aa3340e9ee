"""What is read of a converted file is what was read before, to the last digit."""

import io

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from rich.console import Console

from nequip_like.data.io.readers import read
from nequip_like.errors import DataError, OutputError
from nequip_like.workflow.labelled_sets.convert import convert_files

KCAL = 0.0433641153


@pytest.fixture
def convert(tmp_path):
    """Convert, and give what was read before, what is read now, and what was printed."""

    def convert(sources, output, **options):
        console = Console(file=io.StringIO(), width=200)
        before = convert_files(sources, tmp_path / output, console=console, **options)
        return before, read(tmp_path / output), console.file.getvalue()

    return convert


def assert_same(before, after):
    assert len(before) == len(after)
    for a, b in zip(before.frames, after.frames, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {"frame_index"}:
            torch.testing.assert_close(a[key], b[key], rtol=0, atol=0, equal_nan=True, msg=key)


@pytest.mark.parametrize("output", ["all.xyz", "all.extxyz", "all.traj", "all.db"])
def test_several_files_become_one(convert, write_labelled, tmp_path, output):
    """Molecules and crystals; every third frame has no forces, molecules have no stress."""
    sources = [write_labelled(tmp_path / f"{seed}.xyz", seed=seed) for seed in (0, 1)]
    before, after, printed = convert(sources, output)
    assert len(before) == 14
    assert_same(before, after)
    assert f"written: {tmp_path / output}, 14 frames, total_energy, forces (10 of 14), stress (6 of 14)" in printed


@pytest.mark.parametrize("output", ["all.xyz", "all.traj", "all.db"])
def test_odd_names_units_and_constraints(convert, tmp_path, output):
    atoms = Atoms("CuO", [[0, 0, 0], [0, 0, 1.7]], cell=[4, 4, 5], pbc=True)
    atoms.info.update(dft_e=-700.0, dft_virial=np.arange(9.0).reshape(3, 3) + np.arange(9.0).reshape(3, 3).T)
    atoms.info.update(energy_of_another=3.0, name="a b", T=300)
    atoms.arrays.update(dft_f=np.array([[0, 0, 1.0], [0, 0, -1.0]]), spin=np.array([1.0, 2.0]))
    atoms.set_constraint(FixAtoms([0]))
    ase.io.write(tmp_path / "odd.xyz", atoms, format="extxyz")
    names = {"dft_e": "total_energy", "dft_f": "forces", "dft_virial": "virial"}
    before, after, printed = convert(
        [tmp_path / "odd.xyz"], output, key_mapping=names, units={"energy": "kcal/mol", "stress_sign": "compression"}
    )
    assert_same(before, after)
    (frame,) = after.frames
    assert frame["total_energy"].item() == pytest.approx(-700 * KCAL)
    assert frame["forces"][0, 2].item() == pytest.approx(KCAL)
    assert set(after.label_names) == {"total_energy", "forces", "stress"}
    if output == "all.xyz":
        assert dict(after.annotations[0].info)["name"] == "a b"
        assert after.annotations[0].arrays["spin"].tolist() == [1.0, 2.0]
        assert "left out" not in printed
    else:
        assert "left out: T, energy_of_another, name, spin\n" in printed


def test_a_second_energy_is_left_out_and_named(convert, tmp_path):
    """It would be a second name for one label, and the file could not be read."""
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    atoms.info.update(dft_energy=-31.0, REF_energy=-32.0)
    ase.io.write(tmp_path / "two.xyz", atoms, format="extxyz")
    _, after, printed = convert([tmp_path / "two.xyz"], "one.xyz", key_mapping={"REF_energy": "total_energy"})
    assert after.frames[0]["total_energy"].item() == -32.0
    assert "left out: dft_energy" in printed


def test_weights(convert, molecules, tmp_path):
    frames = molecules(3)
    for i, atoms in enumerate(frames):
        atoms.info["config_weight"] = 1.0 + i
    ase.io.write(tmp_path / "weighted.xyz", frames, format="extxyz")
    before, after, _ = convert([tmp_path / "weighted.xyz"], "again.xyz")
    assert_same(before, after)
    assert [frame["frame_weight"].item() for frame in after.frames] == [1.0, 2.0, 3.0]
    with pytest.raises(DataError, match="does not keep"):
        convert([tmp_path / "weighted.xyz"], "again.db")
    assert not (tmp_path / "again.db").exists()


@pytest.fixture
def molecules():
    def molecules(number):
        frames = []
        for i in range(number):
            atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * i]])
            atoms.calc = SinglePointCalculator(atoms, energy=-31.0 - i / 3, forces=np.full((2, 3), 1 / 3))
            frames.append(atoms)
        return frames

    return molecules


def test_nothing_is_overwritten(convert, write_labelled, tmp_path):
    source = write_labelled(tmp_path / "a.xyz")
    before = source.read_text()
    with pytest.raises(OutputError, match="is there already"):
        convert([source], "a.xyz")
    assert source.read_text() == before
    with pytest.raises(OutputError, match="follows from its suffix"):
        convert([source], "a.cif")
