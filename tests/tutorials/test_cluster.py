"""The tutorial for clusters: its commands run as they stand there, with short trainings, where they need no SLURM."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tutorials.pages import blocks, run_script

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "tutorials" / "cluster.md"
FAST = "++model.num_layers=1 ++model.num_features=4 ++trainer.limit_train_batches=3 trainer.accelerator=cpu"


@pytest.fixture
def clone(tmp_path):
    """A folder that looks like the root of a clone to a command that reads the tutorial's data."""
    (tmp_path / "tutorials").symlink_to(ROOT / "tutorials")
    for block in blocks(PAGE):
        if block.config:
            (tmp_path / block.config).write_text(block.text)
    return tmp_path


def make_fast(line: str) -> str:
    return f"{line} {FAST}" if "nequip-train" in line and "--check" not in line else line


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [float(row["train_loss_step/weighted_sum"]) for row in rows if row.get("train_loss_step/weighted_sum")]


@pytest.mark.slow
def test_commands(clone):
    """Laptop, two processes, a run that is stopped and goes on with one process; scripts that bash reads."""
    for block in blocks(PAGE):
        if block.run and block.language == "bash":
            run_script("\n".join(map(make_fast, block.text.splitlines())), clone)
    for run in ("laptop", "two", "stopped"):
        assert (clone / "runs" / run / "model.safetensors").is_file(), run
    assert losses(clone / "runs" / "two") == pytest.approx(losses(clone / "runs" / "laptop"), rel=1e-3)  # float32
    for name in ("ethanol", "four", "cpus", "sweep"):
        subprocess.run(["bash", "-n", f"{name}.sbatch"], cwd=clone, check=True)
    assert "#SBATCH --account=me\n" in (clone / "ethanol.sbatch").read_text()
    assert "#SBATCH --array=0-7\n" in (clone / "sweep.sbatch").read_text()
    with (clone / "runs" / "sweep" / "runs.csv").open() as file:
        assert {(row["run"], row["model.l_max"], row["status"]) for row in csv.DictReader(file)} == {
            ("0", "1", "done"),
            ("1", "2", "done"),
        }
    assert (clone / "sweep.html").is_file()


def list_scripts() -> list[str]:
    """The commands that only write scripts."""
    lines = [line for block in blocks(PAGE) if block.language == "bash" for line in block.text.splitlines()]
    scripts = [line for line in lines if line.startswith("nequip-slurm")]
    assert len(scripts) == 5
    return scripts


@pytest.mark.parametrize("place", [0, pytest.param(-1, marks=pytest.mark.slow)])
def test_what_is_printed(place, clone):
    """Of the first script, and of the sweep, whose eight runs are checked one by one."""
    printed = subprocess.run(
        ["bash", "-c", list_scripts()[place].replace("nequip-slurm", '"$PYTHON" -m nequip_like.cli.slurm')],
        cwd=clone,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == [block.text for block in blocks(PAGE) if block.language == "text"][place]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHON": sys.executable}


def test_what_is_not_run():
    """Only what needs SLURM is left out."""
    left_out = [block.text.split()[0] for block in blocks(PAGE) if not block.run]
    assert left_out == ["sbatch", "scancel"]
