"""Labels that become differences to a base: of the files, of a calculator, kept and not computed again."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.data.labels.base_targets import BaseTargets
from nequip_like.errors import ConfigError, DataError

NAMES = {"base_energy": "total_energy", "base_forces": "forces"}


@pytest.fixture
def base_file(tmp_path, molecules):
    """Eight waters of energy -i, with a base of energy -i / 4 and forces of 0.5 along x on each atom."""
    frames = molecules(8)
    for i, atoms in enumerate(frames):
        atoms.info["base_energy"] = -i / 4
        atoms.arrays["base_forces"] = np.tile([0.5, 0.0, 0.0], (3, 1))
    ase.io.write(tmp_path / "both.xyz", frames)
    return str(tmp_path / "both.xyz")


class CountingLJ(LennardJones):
    """Counts how often it computes."""

    calls = 0

    def calculate(self, *args, **kwargs):
        type(self).calls += 1
        super().calculate(*args, **kwargs)


def test_base_of_the_files(base_file):
    """Energies of -i + i / 4, forces less 0.5; statistics are of these; no note says that the names are not read."""
    data = DataModule(base_file, val=2, cutoff_radius=2.0, split_seed=1, base_targets=NAMES).prepare()
    plain = DataModule(base_file, val=2, cutoff_radius=2.0, split_seed=1).prepare()
    for kind in ("train_set", "val"):
        pairs = [(d.train_set if kind == "train_set" else d.val_sets["val"]).frames for d in (data, plain)]
        for one, two in zip(*pairs, strict=True):
            assert float(one["total_energy"]) == pytest.approx(0.75 * float(two["total_energy"]), abs=1e-12)
            shift = torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64)
            torch.testing.assert_close(one["forces"], two["forces"] - shift)
            assert torch.equal(one["pos"], two["pos"])
    assert data.statistics["per_atom_energy_std"] == pytest.approx(0.75 * plain.statistics["per_atom_energy_std"])
    assert data.train_set.read_from["total_energy"] == "energy - base (base_energy, base_forces)"
    assert not any("base_energy" in note for note in data.train_set.notes)


def test_labels_without_a_base_are_left_out(base_file):
    data = DataModule(base_file, cutoff_radius=2.0, base_targets={"base_energy": "total_energy"}).prepare()
    assert list(data.train_set.labels) == ["total_energy"]
    assert "forces of 8 frames left out: the base (base_energy) has none" in data.train_set.notes


def test_frames_without_a_base_lack_the_label(tmp_path, molecules):
    frames = molecules(4)
    for atoms in frames[:3]:
        atoms.info["base_energy"] = 1.0
    ase.io.write(tmp_path / "some.xyz", frames)
    names = {"base_energy": "total_energy"}
    data = DataModule(str(tmp_path / "some.xyz"), cutoff_radius=2.0, base_targets=names).prepare()
    energies = [float(frame["total_energy"]) for frame in data.train_set.frames]
    assert energies[:3] == pytest.approx([-1.0, -2.0, -3.0])
    assert np.isnan(energies[3])


def test_base_of_a_calculator_is_computed_once(tmp_path, write, molecules):
    file = str(write("m.xyz", molecules(6)))
    cache = tmp_path / "base.npz"
    CountingLJ.calls = 0

    def differences(title):
        base = BaseTargets(calculator=CountingLJ(sigma=1.0, rc=3.0), title=title, cache=cache)
        return DataModule(file, val=2, cutoff_radius=2.0, base_targets=base).prepare().train_set.frames

    first = differences("lj")
    assert CountingLJ.calls == 6
    again = differences("lj")
    assert CountingLJ.calls == 6
    differences("another")
    assert CountingLJ.calls == 12
    plain = DataModule(file, val=2, cutoff_radius=2.0).prepare().train_set.frames
    for one, two, three in zip(first, again, plain, strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)
        atoms = Atoms(three["atomic_numbers"].numpy(), three["pos"].numpy(), calculator=LennardJones(sigma=1.0, rc=3.0))
        difference = float(three["total_energy"] - one["total_energy"])
        assert difference == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
        torch.testing.assert_close(three["forces"] - one["forces"], torch.from_numpy(atoms.get_forces()))


def test_stress_of_a_crystal(crystal_file):
    """Labels of EMT with EMT as the base: nothing is left of energies, forces and stress."""
    data = DataModule(str(crystal_file), cutoff_radius=3.0, base_targets=EMT(), reference_energies=None).prepare()
    frame = data.train_set.frames[3]
    assert set(data.train_set.labels) == {"total_energy", "forces", "stress"}
    for label in ("total_energy", "forces", "stress"):
        assert frame[label].shape[1:] == fields.field(label).shape
        assert float(frame[label].abs().max()) < 1e-6


def test_a_base_that_fails_names_the_frame(write, molecules):
    file = str(write("m.xyz", molecules(3)))
    with pytest.raises(DataError, match=r"m.xyz frame 0: the base TinyCalculator cannot be computed: no luck"):
        DataModule(file, cutoff_radius=2.0, base_targets=TinyCalculator()).prepare()


class TinyCalculator(LennardJones):
    def calculate(self, *args, **kwargs):
        raise RuntimeError("no luck")


def test_mistakes(base_file, tmp_path):
    from nequip_like.data.prepared.preparing import PreparationRequest, prepare_set

    for entry, message in (
        ("base.xyz", r"base_targets is 'base.xyz'\n.*\{model: FILE\}"),
        ({}, r"base_targets is \{\}"),
        ({"base_forces": "forces"}, r"base_targets maps to forces\n.*total_energy among them"),
        ({"a": "total_energy", "b": "frame_weight"}, r"base_targets maps to total_energy, frame_weight"),
        ({"a": "energy"}, r"'a' is mapped to 'energy', which is no label"),
        ({"model": "a.safetensors", "b": "forces"}, r"base_targets has 'model' beside other keys"),
        ({"model": "a.safetensors"}, r"base_targets.model is for configs\n.*base_targets=calculator"),
    ):
        with pytest.raises(ConfigError, match=message):
            BaseTargets.read(entry)
    with pytest.raises(ConfigError, match="those of the file reference_energies are none"):
        DataModule(base_file, cutoff_radius=2.0, base_targets=NAMES, reference_energies=base_file)
    with pytest.raises(DataError, match="base_enrgy"):
        DataModule(base_file, cutoff_radius=2.0, base_targets={"base_enrgy": "total_energy"}).prepare()
    prepare_set(PreparationRequest([base_file], 2.0), tmp_path / "set.frames")
    with pytest.raises(ConfigError, match=r"data.base_targets needs the files themselves, and .*set.frames is"):
        DataModule(str(tmp_path / "set.frames"), cutoff_radius=2.0, base_targets=NAMES).prepare()
