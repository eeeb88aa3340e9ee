"""``nequip-run`` as a user types it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from nequip_like.inference import load, save
from tests.processes import run_python

SMALL = "[model.l_max=1, model.num_layers=2, model.num_features=4, model.radial_mlp_depth=1, model.radial_mlp_width=8, \
model.kernel=batched, report.html=false, cutoff_radius=3.0, model.model_dtype=float64]"


@pytest.fixture
def folder(tmp_path, make_potential, write_labelled):
    save(make_potential(kernel="batched"), tmp_path / "model.safetensors")
    write_labelled(tmp_path / "one.xyz", frames=6)
    (tmp_path / "run.yaml").write_text(
        "runs:\n"
        "- {name: errors, backend: nequip, task: evaluate, run_dir: e, device: cpu, model_in: model.safetensors,\n"
        "   data: {path: one.xyz}}\n"
        "- {name: broken, backend: nequip, task: export, run_dir: b, model_in: run.yaml}\n"
        "- {name: frames, backend: nequip, task: infer, run_dir: i, device: cpu, model_in: model.safetensors,\n"
        "   data: {path: one.xyz}}\n"
    )
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


def typed(folder, *arguments):
    return run_python("-W", "error", "-m", "nequip_like.cli.run.command", *arguments, cwd=folder / "elsewhere")


@pytest.mark.slow
def test_command(folder):
    run = typed(folder, "../run.yaml", "--run", "errors", "--run", "broken")
    assert run.returncode == 3
    assert run.stderr.splitlines()[0].startswith("error: run 'broken' failed: ")
    assert len(run.stderr.splitlines()) == 2
    assert "2 runs of run.yaml: 1 done, 1 failed" in run.stdout
    assert json.loads((folder / "e/evaluate/metrics.json").read_text())["frames"] == 6
    (folder / "run.yaml").write_text((folder / "run.yaml").read_text().replace("model_in: run.yaml", "model_in: e"))
    run = typed(folder, "../run.yaml")
    assert run.returncode == 2  # a folder without a model is found when all are planned, and nothing begins
    assert run.stderr.splitlines()[0] == f"error: run.yaml, run 'broken': the folder {folder / 'e'} has no model"
    assert not (folder / "i").exists()


def test_dry_run_and_mistakes(folder):
    run = typed(folder, "../run.yaml", "--dry-run", "--run", "frames")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines()[0] == "1. frames: to be done"
    assert not (folder / "i").exists()
    run = typed(folder, "../run.yaml", "--run", "frame")
    assert run.returncode == 2
    assert run.stderr.splitlines()[1] == "  -> did you mean 'frames'? there are broken, errors, frames"


def test_help_is_quick():
    code = (
        "import sys; from nequip_like.cli.run.command import main\n"
        "try: main(['--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stdout.splitlines()[-1] == "False"
    assert "--dry-run" in run.stdout


@pytest.mark.slow
def test_killed_in_the_middle(tmp_path, write_labelled):
    """SIGKILL in the second training, then the same command: all models are those of a queue that nobody stopped."""
    write_labelled(tmp_path / "data.xyz", frames=30)
    runs = "".join(
        f"- {{name: {name}, backend: nequip, task: train, run_dir: FOLDER/{name}, device: cpu,\n"
        f"   data: {{train: data.xyz, val: 6}}, train: {{epochs: {epochs}, scheduler: plateau}},\n"
        f"   backend_args: {SMALL}}}\n"
        for name, epochs in (("a", 2), ("b", 20))
    )
    runs += "- {name: t, backend: nequip, task: evaluate, run_dir: FOLDER/b, device: cpu, data: {path: data.xyz}}\n"
    for name in ("whole", "killed"):
        (tmp_path / f"{name}.yaml").write_text("runs:\n" + runs.replace("FOLDER", name))
    (tmp_path / "elsewhere").mkdir()
    assert typed(tmp_path, "../whole.yaml").returncode == 0
    command = [sys.executable, "-m", "nequip_like.cli.run.command", "killed.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, env=os.environ)
    history = tmp_path / "killed/b/metrics.csv"
    while not (history.exists() and len(history.read_text().splitlines()) > 20):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = typed(tmp_path, "../killed.yaml")
    assert run.returncode == 0
    assert "run 1 of 3, 'a': done before" in run.stdout
    assert "goes on: it was begun" in run.stdout
    assert "going on from" in run.stdout
    for name in ("a", "b"):
        whole, killed = (load(tmp_path / kind / name).state_dict() for kind in ("whole", "killed"))
        assert all(torch.equal(whole[key], killed[key]) for key in whole)
    told = [json.loads((tmp_path / kind / "b/evaluate/metrics.json").read_text()) for kind in ("whole", "killed")]
    assert told[0]["force_rmse"] == told[1]["force_rmse"]
