"""Folders, arrays and archives as a user names them behind ``nequip-train`` and ``nequip-test``."""

import tarfile

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from tests.processes import run_python

CONFIG = """\
defaults: [train, _self_]
data: {train: water, val: 5}
cutoff_radius: 4.0
model: {num_layers: 1, num_features: 4, radial_mlp_depth: 1, radial_mlp_width: 8}
trainer: {max_epochs: 1, accelerator: cpu}
hydra: {run: {dir: out}}
"""


@pytest.fixture
def folder(tmp_path):
    """Water as a system of DeePMD, a .npz file in kcal/mol, and an archive of extended XYZ files."""
    stretch = np.linspace(-0.1, 0.1, 30)
    place = np.tile([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], (30, 1, 1))
    place[:, 1, 0] += stretch
    energy, force = -14.0 + stretch**2, np.zeros((30, 3, 3))
    force[:, 0, 0], force[:, 1, 0] = 2 * stretch, -2 * stretch
    (tmp_path / "water/set.000").mkdir(parents=True)
    (tmp_path / "water/type.raw").write_text("1\n0\n0\n")
    (tmp_path / "water/type_map.raw").write_text("H\nO\n")
    (tmp_path / "water/nopbc").touch()
    for name, array in {"coord": place, "energy": energy, "force": force}.items():
        np.save(tmp_path / f"water/set.000/{name}.npy", array[:10].reshape(10, -1))
    kcal = 0.04336410390059322
    np.savez(
        tmp_path / "b.npz",
        R=place[10:20],
        z=[8, 1, 1],
        E=energy[10:20] / kcal,
        F=force[10:20] / kcal,
        e_unit="kcal/mol",
    )
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        for i in range(20, 30):
            atoms = Atoms("OH2", place[i])
            atoms.calc = SinglePointCalculator(atoms, energy=energy[i], forces=force[i])
            ase.io.write(tmp_path / "one.xyz", atoms)
            archive.add(tmp_path / "one.xyz", f"run/{i}.xyz")
    (tmp_path / "one.xyz").unlink()
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def type_in(folder, command, *arguments):
    """Run a command; its output and error stream."""
    done = run_python("-m", f"nequip_like.cli.{command}", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_trainings_and_tests(folder):
    said = type_in(folder, "train", "config.yaml", "data.train=[water,c.tar.gz]", "run=[train,val]")
    assert "15 frames" in said, said
    overrides = ("data.train=b.npz", "data.units={energy: kcal/mol}", "hydra.run.dir=other", "run=[train]")
    assert "kcal/mol" in type_in(folder, "train", "config.yaml", *overrides)
    said = type_in(folder, "test", "out/model.safetensors", "water", "c.tar.gz", "--device", "cpu")
    assert "water" in said
    assert "c.tar" in said
