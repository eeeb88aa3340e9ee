"""The pages of ``docs/develop``: each block of code runs as it stands there, with a small data set as ``train.xyz``.

Blocks of a page are taken in order, in a folder of its own: one that begins with ``# file: name`` is written to that
file, Python is executed, and commands are called in this process (by bash, as they are typed, in the slow test).
"""

import inspect
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import ase.io
import numpy as np
import pytest

from nequip_like.cli import test as cli_test
from nequip_like.cli import train as cli_train
from nequip_like.data.io.file_formats import FORMATS
from nequip_like.inference import load
from nequip_like.integrations.ase import NequIPCalculator
from tests.tutorials.pages import blocks, run_python, run_script

DEVELOP = Path(__file__).parents[2] / "docs" / "develop"
PAGES = {page.stem: page for page in DEVELOP.glob("*.md") if page.stem != "README"}
FAMILY = {block.file: block.text for block in blocks(PAGES["add-a-model-family"]) if block.file}


@pytest.fixture
def folder(tmp_path, monkeypatch, molecule_file):
    """A user's folder, in which Python finds modules; those that were imported are forgotten again."""
    shutil.copy(molecule_file, tmp_path / "train.xyz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with mock.patch.dict(sys.modules), mock.patch.dict(FORMATS):
        yield tmp_path


def call(line):
    """Run a command of ours in this process; others are left to the slow test."""
    words = [word for word in shlex.split(line) if word != "PYTHONPATH=."]
    if words[0] == "nequip-test":
        assert cli_test.main(words[1:]) == 0
    elif words[0] == "nequip-train":
        with mock.patch.object(sys, "argv", [*words, "trainer.accelerator=cpu"]):
            cli_train.main()


def run_page(name, folder, run_lines):
    page, names = PAGES[name], {"__name__": name}
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text)
        elif block.language == "bash":
            run_lines(block.text.replace("\\\n", " "))
        elif block.language == "python":
            run_python(block, page, names)
    return names


def call_each(text):
    for line in text.splitlines():
        call(line)


@pytest.mark.parametrize("name", PAGES)
def test_page_runs(name, folder, capsys):
    run_page(name, folder, call_each)
    said = capsys.readouterr().out
    if name == "add-a-callback":
        assert said.count("val0_epoch/forces_rmse is below 50.0\n") == said.count("epoch    0") == 1
        assert "epoch    1" not in said
    elif name == "add-a-metric":
        assert "train_loss_epoch/F_logcosh" in (folder / "run" / "metrics.csv").read_text()
    elif name == "run":
        assert load("model.safetensors").type_names == ["H", "C", "O"]


def test_family_in_ase(folder):
    """Trained in float64, energies and forces of the calculator agree: F = -dE/dx by differences of a step of 1e-4."""
    for name, text in FAMILY.items():
        (folder / name).write_text(text)
    call("nequip-train pair.yaml +model.model_dtype=float64 hydra.run.dir=run")
    atoms = ase.io.read("train.xyz")
    atoms.calc = NequIPCalculator(load("run/model.safetensors", families=sys.modules["my_family"].FAMILIES))
    forces, step = atoms.get_forces(), 1e-4
    for axis in range(3):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[2, axis] += sign * step
            energies.append(moved.get_potential_energy())
        assert np.isclose(forces[2, axis], -(energies[0] - energies[1]) / (2 * step), rtol=1e-5, atol=1e-7)
    assert np.abs(forces[2]).max() > 0.01


def test_family_fits_in_sixty_lines():
    lines = FAMILY["my_family.py"].splitlines()
    assert len(lines) <= 60
    assert len(inspect.cleandoc(FAMILY["test_my_family.py"]).splitlines()) <= 10


@pytest.mark.slow
def test_family_as_typed(folder):
    run_page("add-a-model-family", folder, lambda text: run_script(text, folder))


def _written(name):
    """A module of the page, without a file."""
    module = ModuleType(name)
    exec(FAMILY[f"{name}.py"], module.__dict__)
    return module


with mock.patch.dict(sys.modules):
    sys.modules["my_family"] = _written("my_family")
    _contract = _written("test_my_family").TestPair


class TestPair(_contract):
    """The family of the page passes the contract with the class of the page."""
