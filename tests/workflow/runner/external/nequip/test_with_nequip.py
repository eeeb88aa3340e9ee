"""With NequIP itself: it trains, goes on, fine-tunes, evaluates, predicts, packages and compiles.

``NEQUIP_PYTHON=/path/to/python pytest tests/workflow/runner/external/nequip`` with NequIP 0.19.1.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
import yaml

from nequip_like.cli.run import command
from nequip_like.compat.nequip_models import import_nequip_model
from nequip_like.inference.evaluation import evaluate

PYTHON = os.environ.get("NEQUIP_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="NEQUIP_PYTHON does not name a python with nequip"),
]
MODEL = {"r_max": 3.5, "num_layers": 2, "num_features": 4, "radial_mlp_depth": 1, "radial_mlp_width": 4}
COMMON = {
    "backend": "nequip_external",
    "backend_python": PYTHON,
    "backend_env": {"OMP_NUM_THREADS": 1},
    "device": "cpu",
}
TRAIN = {"input_json": "model.json", "epochs": 2, "batch_size": 4, "lr": 0.01, "seed": 1, "log_every": 1}


def write_runs(folder, *runs):
    content = {"runs": [{**COMMON, **run} for run in runs]}
    (folder / "run.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "run.yaml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, molecule_file):
    """A folder with a training of two epochs, without a test set."""
    folder = tmp_path_factory.mktemp("nequip")
    frames = ase.io.read(molecule_file, ":")
    ase.io.write(folder / "train.xyz", frames[:16])
    ase.io.write(folder / "test.xyz", frames[16:])
    (folder / "model.json").write_text(json.dumps(MODEL))
    run = {
        "name": "train",
        "task": "train",
        "run_dir": "train",
        "train": TRAIN,
        "data": {"train": "train.xyz", "val": 4},
    }
    assert command.main([write_runs(folder, run)]) == 0
    return folder


def test_a_training(trained):
    home = trained / "train"
    names = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "artifacts/model.nequip.zip", "config.yaml")
    assert all((home / name).is_file() for name in names)
    messages = [json.loads(line) for line in (home / "logs" / "messages.jsonl").read_text().splitlines()]
    assert messages[0] == {"run": "train", "message": "start", "protocol": 1, "trainer": "NequIP", "version": "0.19.1"}
    assert messages[-1] == {"run": "train", "message": "end", "status": "done"}
    reported = [m["values"] for m in messages if m["message"] == "metrics" and "val0_epoch/forces_rmse" in m["values"]]
    with (home / "logs" / "nequip" / "metrics.csv").open() as file:
        written = [row["val0_epoch/forces_rmse"] for row in csv.DictReader(file) if row["val0_epoch/forces_rmse"]]
    assert [values["val0_epoch/forces_rmse"] for values in reported] == pytest.approx([float(x) for x in written])
    assert len(written) == 2
    potential, _ = import_nequip_model(home / "artifacts" / "model.nequip.zip")
    assert potential.cutoff == 3.5
    assert potential.type_names == ["H", "C", "O"]


def test_errors_and_predictions_are_those_of_the_same_model_here(trained):
    home = trained / "train"
    runs = (
        {"name": "e", "task": "evaluate", "run_dir": "train", "data": {"path": "test.xyz", "batch_size": 3}},
        {"name": "i", "task": "infer", "run_dir": "train", "data": {"path": "test.xyz"}},
    )
    assert command.main([write_runs(trained, *runs)]) == 0
    potential, _ = import_nequip_model(home / "artifacts" / "model.nequip.zip")
    ours = evaluate(potential, trained / "test.xyz")
    theirs = json.loads((home / "evaluate" / "metrics.json").read_text())
    assert theirs["frames"] == 8
    for name in ("per_atom_energy_mae", "per_atom_energy_rmse", "forces_mae", "forces_rmse"):
        assert theirs["metrics"][name] == pytest.approx(ours.metrics[name], rel=2e-5)
    assert theirs["force_rmse"] == pytest.approx(ours.metrics["forces_rmse"], rel=2e-5)
    frames = ase.io.read(home / "infer" / "predictions.extxyz", ":")
    for atoms, prediction in zip(frames, ours.predictions, strict=True):
        np.testing.assert_allclose(atoms.arrays["predicted_forces"], prediction["forces"].numpy(), atol=1e-5)


@pytest.mark.timeout(1800)
def test_resume_finetune_and_export(trained):
    resumed = {key: value for key, value in TRAIN.items() if key != "input_json"} | {"epochs": 4}
    data = {"data": {"train": "train.xyz", "val": 4}, "export": {"standard_artifacts": False}}
    tuned = {"epochs": 1, "lr": 0.001, "loss_force": "mae", "scheduler": None, "energy_weight": 0.5}
    runs = (
        {"name": "resume", "task": "resume", "run_dir": "resume", "model_in": "train", "train": resumed, **data},
        {"name": "tune", "task": "finetune", "run_dir": "tune", "model_in": "train", "train": tuned, **data},
        {"name": "other", "task": "resume", "run_dir": "other", "model_in": "train", "train": {"lr": 0.5}, **data},
        {"name": "package", "task": "export", "run_dir": "package", "model_in": "tune/checkpoints/best.ckpt"},
        {
            "name": "compile",
            "task": "export",
            "run_dir": "compile",
            "model_in": "train",
            "backend_args": ["--mode", "aotinductor", "--target", "ase"],
        },
    )
    assert command.main([write_runs(trained, *runs)]) == 3  # of the run 'other'
    journal = (trained / "run.journal.jsonl").read_text()
    assert "other things of the optimizer than the checkpoint" in journal
    done = {json.loads(line)["name"] for line in journal.splitlines() if '"done"' in line}
    assert done >= {"resume", "tune", "package", "compile"}
    with (trained / "resume" / "logs" / "nequip" / "metrics.csv").open() as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file) if row.get("val0_epoch/forces_rmse")]
    assert epochs == [2, 3]
    assert (trained / "package" / "artifacts" / "model.nequip.zip").is_file()
    assert (trained / "compile" / "artifacts" / "model.nequip.pt2").is_file()


@pytest.mark.timeout(1800)
def test_ctrl_c_and_on(trained, tmp_path):
    for name in ("train.xyz", "model.json"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    train = {**TRAIN, "epochs": 400}
    run = {"name": "long", "task": "train", "run_dir": "long", "train": train, "data": {"train": "train.xyz", "val": 4}}
    file = write_runs(tmp_path, {**run, "export": {"standard_artifacts": False}})
    process = subprocess.Popen([sys.executable, "-m", "nequip_like.cli.run.command", file], stdout=subprocess.DEVNULL)
    checkpoint, limit = tmp_path / "long" / "checkpoints" / "last.ckpt", time.monotonic() + 900
    messages = tmp_path / "long" / "logs" / "messages.jsonl"
    try:
        while not (checkpoint.exists() and '"checkpoint"' in messages.read_text()):
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(200) == 128 + signal.SIGINT
    finally:
        process.terminate()
        process.wait()
    done = max(json.loads(line)["done"] for line in messages.read_text().splitlines() if '"progress"' in line)
    assert 0 < done < 400
    write_runs(tmp_path, {**run, "train": {**train, "epochs": done + 2}, "export": {"standard_artifacts": False}})
    assert command.main([file]) == 0
    told = [json.loads(line) for line in messages.read_text().splitlines()]
    numbers = [message["done"] for message in told if message["message"] == "progress"]
    assert numbers[-1] == done + 2
    assert numbers.count(0) == 1  # it did not begin anew
