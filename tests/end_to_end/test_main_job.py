"""The main job on a small crystal: train, export, test on every form of the model, and check the numbers by hand."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml

from nequip_like.integrations.ase import NequIPCalculator
from tests.processes import run_python

CONFIG = """\
defaults:
  - train
  - override targets: energy_force_stress
  - _self_
data: {train: train.xyz, val: 4, test: test.xyz, batch_size: 2}
cutoff_radius: 4.0
model: {num_layers: 2, num_features: 8, l_max: 1, radial_mlp_depth: 1, radial_mlp_width: 8, model_dtype: float64}
training_module:
  ema_decay: 0.9
  optimizer: {lr: 0.02}
  loss: {coeffs: {stress: 100.0}}
trainer: {max_epochs: 15, accelerator: cpu, log_every_n_steps: 1}
"""


def type_in(folder: Path, command: str, *arguments: str) -> str:
    done = run_python("-m", f"nequip_like.cli.{command}", *arguments, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory, crystal_file) -> Path:
    """A folder with data, a config, and the run of ``nequip-train config.yaml``."""
    folder = tmp_path_factory.mktemp("job")
    frames = ase.io.read(crystal_file, ":")
    ase.io.write(folder / "train.xyz", frames[:18])
    ase.io.write(folder / "test.xyz", frames[18:])
    (folder / "config.yaml").write_text(CONFIG)
    type_in(folder, "train", "config.yaml", "hydra.run.dir=run")
    return folder


def metrics_of(folder: Path) -> dict[str, float]:
    """Errors; not how good uncertainties are, which checkpoints have none of."""
    metrics = json.loads((folder / "metrics.json").read_text())["test"]
    return {name: value for name, value in metrics.items() if name != "uncertainty"}


def by_hand(file: Path) -> dict[str, float]:
    """Metrics of labels and predictions in a file, with numpy alone."""
    energy, per_atom, forces, stress = [], [], [], []
    for atoms in ase.io.read(file, ":"):
        error = atoms.info["predicted_energy"] - atoms.get_potential_energy()
        energy.append(error)
        per_atom.append(error / len(atoms))
        forces.append(atoms.arrays["predicted_forces"] - atoms.get_forces())
        predicted = np.asarray(atoms.info["predicted_stress"], dtype=float).reshape(3, 3)
        stress.append(predicted - atoms.get_stress(voigt=False))
    found = {}
    errors = {"total_energy": energy, "per_atom_energy": per_atom, "forces": forces, "stress": stress}
    for name, values in errors.items():
        flat = np.concatenate([np.ravel(value) for value in values])
        found[f"{name}_mae"] = np.mean(np.abs(flat))
        found[f"{name}_rmse"] = np.sqrt(np.mean(flat**2))
        found[f"{name}_maxabserr"] = np.max(np.abs(flat))
    return found


def test_training_went_down(folder):
    """To a fifth of the first epoch's loss, which has learnt much already.

    The error of the forces falls to a third of the forces themselves.
    """
    import csv

    with (folder / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    loss = [float(row["train_loss_epoch/weighted_sum"]) for row in rows if row["train_loss_epoch/weighted_sum"]]
    assert len(loss) == 15
    assert loss[-1] < loss[0] / 5, loss
    forces = np.concatenate([atoms.get_forces() for atoms in ase.io.read(folder / "test.xyz", ":")])
    assert metrics_of(folder / "run")["forces_rmse"] < np.sqrt(np.mean(forces**2)) / 3


def test_metrics_by_hand(folder):
    reported, found = metrics_of(folder / "run"), by_hand(folder / "run" / "predictions.extxyz")
    for name, value in found.items():
        assert reported[name] == pytest.approx(value, rel=1e-6), name
    assert "forces_rmse_Cu" in reported


def test_every_form_of_the_model_gives_the_same_numbers(folder, capsys):
    from nequip_like.cli.test import main

    expected = metrics_of(folder / "run")
    for name in ("run", "run/model.safetensors", "run/checkpoints/best.ckpt"):
        output = folder / "tested" / name.replace("/", "_")
        arguments = [str(folder / name), str(folder / "test.xyz"), "--output", str(output), "--device", "cpu"]
        assert main(arguments) == 0
        found = metrics_of(output)
        assert found.keys() == expected.keys()
        for metric, value in expected.items():
            assert found[metric] == pytest.approx(value, rel=1e-6), (name, metric)
        assert (output / "parity.png").is_file()


def test_logged_numbers_are_those_of_the_test(folder):
    import csv

    with (folder / "run" / "metrics.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    reported = metrics_of(folder / "run")
    for name in ("forces_rmse", "per_atom_energy_mae", "stress_rmse"):
        assert float(row[f"test0_epoch/{name}"]) == pytest.approx(reported[name], rel=1e-10)


def test_calculator_gives_the_predictions(folder):
    atoms = ase.io.read(folder / "run" / "predictions.extxyz", 0)
    predicted = atoms.copy()
    predicted.calc = NequIPCalculator(folder / "run" / "model.safetensors")
    assert predicted.get_potential_energy() == pytest.approx(atoms.info["predicted_energy"], abs=1e-6)
    np.testing.assert_allclose(predicted.get_forces(), atoms.arrays["predicted_forces"], atol=1e-6)


@pytest.mark.slow
def test_command_tests_the_run_folder(folder):
    out = type_in(folder, "test", "run", "test.xyz", "--output", "by_command")
    assert "forces" in out
    assert metrics_of(folder / "by_command") == pytest.approx(metrics_of(folder / "run"), rel=1e-6)


def test_saved_config_runs_again(folder):
    """What a run saved is complete: species and statistics are spelt out."""
    saved = yaml.safe_load((folder / "run" / "config.yaml").read_text())
    assert saved["chemical_species"] == ["Cu"]
    assert saved["model"]["avg_num_neighbors"] > 1
    assert "${" not in (folder / "run" / "config.yaml").read_text()
