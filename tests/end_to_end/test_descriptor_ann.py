"""A descriptor network from the command line to aenet's files, as a user types it."""

import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import nequip_like as nl
from nequip_like.compat.aenet import read_aenet_potential, write_aenet_potential


def run(*arguments, folder):
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_train_test_and_export(tmp_path):
    frames = []
    for seed in range(40):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.08, seed=seed)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    ase.io.write(tmp_path / "train.xyz", frames[:32])
    ase.io.write(tmp_path / "test.xyz", frames[32:])
    common = ("model=descriptor_ann", "data.train=train.xyz", "data.val=6", "cutoff_radius=4.0", "data.batch_size=8")
    model = ("model.networks=[[8,tanh],[8,tanh]]", "model.model_dtype=float64", "model.radial_order=8")
    shown = run("nequip_like.cli.train", *common, *model, "trainer.max_epochs=40", "hydra.run.dir=run", folder=tmp_path)
    assert "descriptors" in shown
    run("nequip_like.cli.test", "run/model.safetensors", "test.xyz", folder=tmp_path)
    predicted = ase.io.read(tmp_path / "test-results" / "predictions.extxyz", ":")
    forces = np.concatenate([atoms.get_forces() for atoms in predicted])
    errors = np.concatenate([atoms.arrays["predicted_forces"] for atoms in predicted]) - forces
    # Much better than zero: the potential has learnt.
    assert np.sqrt((errors**2).mean()) < 0.4 * np.sqrt((forces**2).mean())
    potential = nl.load(tmp_path / "run")
    write_aenet_potential(potential, tmp_path / "aenet")
    again = read_aenet_potential(tmp_path / "aenet")
    for atoms in predicted:
        energy = float(nl.Predictor(again).predict(atoms)["total_energy"])
        assert energy == pytest.approx(atoms.info["predicted_energy"], abs=1e-6)
