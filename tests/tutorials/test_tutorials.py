"""The commands, configs and snippets of the tutorial and of the README run as they stand there.

Blocks of ``tutorials/README.md`` are taken in order, in one temporary folder in which ``tutorials`` is a link to ours:

- bash blocks are run by bash. Each ``nequip-train`` gets the overrides of :func:`fast` at its end, which make model and
  run small; they win over those in the text.
- python blocks are executed; all of them share their names.
- yaml blocks with a first line ``# file: name.yaml`` are written to that file.

A block after a comment ``not run: reason`` is left out, and so are commands with a logger that is not installed.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest

import nequip_like
from nequip_like.cli.train import main as nequip_train
from tests import processes
from tests.tutorials.pages import blocks, run_python, run_script

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "tutorials" / "README.md"
README = ROOT / "README.md"
ETHANOL = ROOT / "tutorials" / "data" / "ethanol"
DASHBOARDS = ROOT / "tutorials" / "dashboards.md"
OPTIONAL = ("mlflow", "tensorboard", "wandb")


def write_configs(page, folder):
    for block in blocks(page):
        if block.config:
            (folder / block.config).write_text(block.text)


def commands(page, program):
    """Each command of a page as a list of words, from the program on."""
    lines = [line for block in blocks(page) if block.language == "bash" for line in block.text.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[words.index(program) :] for words in split if program in words]


def every_command(program):
    return [
        pytest.param(page, words, id=f"{page.parent.name}/{page.name}: {' '.join(words[1:])}")
        for page in (TUTORIAL, README, DASHBOARDS)
        for words in commands(page, program)
    ]


def fast(line):
    """Overrides for a command that trains: a tiny model, two steps an epoch, one epoch (two after a resume)."""
    return [
        "++model.num_layers=1",
        "++model.num_features=4",
        "++trainer.limit_train_batches=2",
        "trainer.accelerator=cpu",
        f"trainer.max_epochs={2 if 'ckpt_path=' in line else 1}",
        *(["budget=null"] if " budget=" in line else []),
    ]


def fast_line(line):
    return f"{line} {' '.join(fast(line))}" if "nequip-train" in line and "--cfg" not in line else line


def run_bash(text, folder):
    missing = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
    lines = [line for line in text.splitlines() if not any(re.search(rf"logger=\S*{name}", line) for name in missing)]
    run_script("\n".join(fast_line(line) for line in lines), folder)


@pytest.fixture
def fast_compose(monkeypatch):
    """Python blocks get the overrides of :func:`fast`, too."""
    compose = nequip_like.compose

    def compose_fast(config="train", overrides=()):
        return compose(config, [*overrides, *fast("")])

    monkeypatch.setattr(nequip_like, "compose", compose_fast, raising=False)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder that looks like the root of a clone to a command that reads the tutorial's data."""
    (tmp_path / "tutorials").symlink_to(ROOT / "tutorials")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("fast_compose")
def test_tutorial_runs(clone):
    names = {"__name__": "tutorial"}
    for block in blocks(TUTORIAL):
        if not block.run:
            continue
        if block.config:
            (clone / block.config).write_text(block.text)
        # The config of a user's own files stands for itself; the README's test runs it.
        if block.language == "bash":
            run_bash(block.text, clone)
        elif block.language == "python":
            run_python(block, TUTORIAL, names)
    for run in ("ethanol", "mine", "mgo", "mgo_two", "mgo_torchrun", "mgo_more", "python"):
        assert (clone / "runs" / run / "model.safetensors").is_file(), run


@pytest.mark.slow
@pytest.mark.usefixtures("fast_compose")
def test_readme_config_and_snippets_run(clone):
    for name, frames in (("train", ":60"), ("test_300K", ":10"), ("test_600K", ":10")):
        ase.io.write(clone / f"{name}.xyz", ase.io.read(ETHANOL / f"{name}.xyz", frames))
    ase.io.write(clone / "start.xyz", ase.io.read(ETHANOL / "test_300K.xyz", "0"))
    write_configs(README, clone)
    run_bash("nequip-train config.yaml hydra.run.dir=run", clone)
    names = {"__name__": "readme"}
    for block in blocks(README):
        if block.language == "python":
            run_python(block, README, names)
    assert names["result"].model_file.is_file()
    assert names["atoms"].calc.results["forces"].shape == (9, 3)


@pytest.mark.slow
def test_dashboards_run(clone):
    write_configs(DASHBOARDS, clone)
    for block in blocks(DASHBOARDS):
        if block.run and block.language == "bash":
            run_bash(block.text, clone)
    page = (clone / "small-and-large.html").read_text()
    assert "2 runs" in page
    assert "runs/small" in page or ">small<" in page
    assert (clone / "runs" / "small" / "report.html").is_file()


def test_readme_begins_with_python_and_is_short():
    before_reference = README.read_text().split("\n# Reference\n")[0]
    assert before_reference.split("\n").index("```python") < 30
    assert len(before_reference.split()) < 500


@pytest.mark.parametrize(("page", "words"), every_command("nequip-train"))
def test_overrides_compose(page, words, tmp_path):
    write_configs(page, tmp_path)
    # Hydra does not print the config of several runs: that of the first stands for all.
    single = [re.sub(r"=(\w+),\w+$", r"=\1", word) for word in words if word != "--multirun"]
    arguments = [word for word in single[1:] if word not in ("--cfg", "job", "--check")]
    run = processes.call_command(nequip_train, *arguments, "--cfg", "job", cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "training_module:" in run.stdout


@pytest.mark.parametrize(("page", "words"), every_command("nequip-test"))
def test_arguments_of_nequip_test_are_known(page, words):
    from nequip_like.cli.test import main

    arguments = main.build_parser().parse_args(words[1:])
    assert arguments.model
    assert arguments.data


def test_pages_have_blocks_of_each_kind():
    for page in (TUTORIAL, README):
        languages = {block.language for block in blocks(page)}
        assert {"bash", "python", "yaml"} <= languages, page
        assert any(block.config for block in blocks(page)), page
    assert [block.text for block in blocks(TUTORIAL) if not block.run] == [
        "sbatch tutorials/slurm.sbatch\n",
        "tensorboard --logdir runs/tb\n",
    ]


def test_links_lead_to_files():
    for page in (
        README,
        TUTORIAL,
        DASHBOARDS,
        ROOT / "tutorials" / "data" / "README.md",
        *(ROOT / "docs").glob("**/*.md"),
    ):
        for target in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_sbatch_file_is_a_script_whose_command_composes(tmp_path):
    script = ROOT / "tutorials" / "slurm.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert text.count("#SBATCH --ntasks-per-node=4\n") == 1
    command = text[text.index("srun nequip-train") :]
    write_configs(TUTORIAL, tmp_path)
    (tmp_path / "srun").write_text('#!/bin/bash\nshift\nexec "$PYTHON" -m nequip_like.cli.train "$@" --cfg job\n')
    (tmp_path / "srun").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_JOB_ID": "7",
    }
    start = "set -eu; CONFIG=mgo.yaml; RUN=runs/mgo\n"
    run = subprocess.run(["bash", "-c", start + command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "num_nodes: 2" in run.stdout
    assert "devices: 4" in run.stdout
