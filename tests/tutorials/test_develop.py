"""The pages of ``docs/develop``: each block of code runs as it stands there, with a small data set as ``train.xyz``.

Blocks of a page are taken in order, in a folder of its own: one that begins with ``# file: name`` is written to that
file, Python is executed, and commands are called in this process (by bash, as they are typed, in the slow test).
"""

import inspect
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest

from nequip_like.cli import test as cli_test
from nequip_like.cli import train as cli_train
from nequip_like.data.io.file_formats import FORMATS
from nequip_like.inference import load
from nequip_like.training.checkpointing.callback import ResumableCheckpoint
from nequip_like.training.checkpointing.io import WholeFileCheckpointIO
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.resume import Resumption, check_early, find_resumption
from tests.tutorials.pages import blocks, run_python, run_script

ROOT = Path(__file__).parents[2]
DEVELOP, PACKAGE = ROOT / "docs" / "develop", ROOT / "nequip_like"
CONFIG = "workflow/config/"  # begin of the files that check a config
PAGES = {page.stem: page for page in DEVELOP.glob("*.md") if page.stem != "README"}
CONTENT_KEYS = {"state_dict", "format_version"}  # of a checkpoint, and of the entry of this package in it
# The only files of the package that are entered by `module.loss.step(prediction, batch)`.
STEP_OF_THE_LOSS = {
    "distributed.py",
    *(f"metrics/{name}.py" for name in ("manager", "closed_form", "compiled/errors", "accumulator")),
}
FAMILY = {block.file: block.text for block in blocks(PAGES["add-a-model-family"]) if block.file}


@pytest.fixture
def folder(tmp_path, monkeypatch, molecule_file):
    """A user's folder, in which Python finds modules; those that were imported are forgotten again."""
    shutil.copy(molecule_file, tmp_path / "train.xyz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with mock.patch.dict(FORMATS):
        yield tmp_path
    forget_modules()


def forget_modules():
    for page in PAGES.values():
        for block in blocks(page):
            sys.modules.pop((block.file or "").removesuffix(".py"), None)


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
def test_page_runs(name, folder, capsys, compose):
    names = run_page(name, folder, call_each)
    said = capsys.readouterr().out
    if name == "add-a-callback":
        assert said.count("val0_epoch/forces_rmse is below 50.0\n") == said.count("epoch    0") == 1
        assert "epoch    1" not in said
    elif name == "add-a-metric":
        assert "train_loss_epoch/F_logcosh" in (folder / "run" / "metrics.csv").read_text()
    elif name == "add-a-model-family":
        check_forces(names["atoms"])
    elif name == "run":
        assert load("model.safetensors").type_names == ["H", "C", "O"]
        check_paths(names, compose)
        check_life_of_checkpoint(names, compose("resume=auto", f"output_dir={folder}"), folder)


def check_forces(atoms):
    """F = -dE/dx by differences; energies of a pair are float32, so steps of 1e-3 tell three digits."""
    forces, step = atoms.get_forces(), 1e-3
    assert np.abs(forces).max() > 0.5
    for atom, axis in np.ndindex(forces.shape):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[atom, axis] += sign * step
            energies.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=2e-3)


# Beside the usual: what makes more of the check's judges speak.
ALL_JUDGES = (
    "finetune.source=model.safetensors",
    "finetune.shifts=refit",
    "model.per_type_energy_shifts={H: -1.0, C: -2.0, O: -3.0}",
    "model.num_features=8",
    "model.radial_mlp_depth=1",
    "model.radial_mlp_width=128",
    "model.model_dtype=float32",
    "chemical_species=[H,C,O]",
    "trainer.accumulate_grad_batches=2",
    "+callbacks.weights._target_=nequip_like.training.callbacks.SoftAdapt",
    "+callbacks.criteria._target_=nequip_like.training.callbacks.CriteriaStopping",
    "+callbacks.criteria.criteria.forces.threshold=0.1",
)


def check_paths(names, compose):
    """The files that a step of the loss and the check of a config go through are those that the page names."""
    module, batch = names["module"], next(iter(names["data"].train_dataloader()))
    prediction = module.model(batch)
    page = PAGES["run"].read_text()
    step, check = page.split("**A ")[1], page.split("**The check")[1].split("**A checkpoint")[0]
    module.loss.step(prediction, batch)  # the first one compiles
    # Without a compiler NumPy is used, for which a modifier divides energies.
    assert files_called(lambda: module.loss.step(prediction, batch)) - {"metrics/modifiers.py"} == STEP_OF_THE_LOSS
    assert files_named(step.split("**The check")[0]) == STEP_OF_THE_LOSS
    deciding, _, judges = check.partition("**hands")
    usual, full = compose(), compose(*ALL_JUDGES)
    in_config = {name for name in files_called(lambda: check_config(usual)) if name.startswith(CONFIG)}
    assert in_config == files_named(deciding)
    assert len(in_config) == 9
    # What a source contradicts is compared with the packaged configs.
    of_source = f"{CONFIG}packaged.py"
    in_full_config = {name for name in files_called(lambda: check_config(full)) if name.startswith(CONFIG)}
    assert in_full_config == in_config | {of_source}
    assert files_called(lambda: check_config(full), called_from(CONFIG)) - in_config == files_named(judges)


def check_life_of_checkpoint(names, config, folder):
    """From its writing to the run that goes on, the files that have a checkpoint in hand are those of the page."""

    def fit(epochs, path=None):
        saving = ResumableCheckpoint(dirpath=folder / "checkpoints", filename="best", monitor="val0_epoch/weighted_sum")
        names["lightning"].Trainer(
            max_epochs=epochs,
            callbacks=[saving],
            plugins=[WholeFileCheckpointIO()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(names["module"], datamodule=names["data"], ckpt_path=path, weights_only=True)

    def write_and_go_on():
        fit(1)
        resumption = find_resumption(config, folder)
        assert resumption.epochs == 1
        check_early(resumption, folder, {}, ())
        fit(2, resumption.path)
        assert names["module"].global_step > resumption.step > 0

    path, word = (
        PAGES["run"].read_text().split("**A checkpoint's life**")[1].split("Two more")[0].split("Three are asked")
    )
    assert len(files_named(path)) == 5
    assert (
        files_called(write_and_go_on, has_checkpoint)
        == files_named(path) | {"whole_files.py", "model/tensor_pickling.py", "training/checkpointing/upload.py"}
        == files_named(path + word)
    )


def has_checkpoint(frame):
    """Whether a function gets a checkpoint: its path, its content, our entry in it, or what has them."""
    code = frame.f_code
    if code.co_name == "__setattr__":
        return False  # whoever assigns it counts
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)]
    values = [frame.f_locals[name] for name in arguments if name in frame.f_locals]
    values += [value for values_of in values if isinstance(values_of, tuple) for value in values_of]
    return any(
        str(value).endswith(".ckpt")
        if isinstance(value, str | Path)
        else isinstance(value, Resumption) or (isinstance(value, dict) and not value.keys().isdisjoint(CONTENT_KEYS))
        for value in values
    )


def files_named(text):
    return set(re.findall(r"`(\w+(?:/\w+)*\.py)`", text))


def files_called(function, counts=lambda frame: True):
    """Files of the package in which a function is called; of some functions only, if wanted."""
    called = set()

    def note(frame, event, argument):
        # An import runs a file's head, which is no call.
        if event == "call" and frame.f_code.co_name != "<module>" and (file := find_file(frame)) and counts(frame):
            called.add(file)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return called


def called_from(folder):
    """Whether the next function of the package above a frame stands in a folder of it."""

    def judge(frame):
        above = frame.f_back
        while above is not None and find_file(above) is None:
            above = above.f_back
        return above is not None and find_file(above).startswith(folder)

    return judge


def find_file(frame):
    """The file of a frame, as it is named in the package; None for other code."""
    name = frame.f_code.co_filename
    return Path(name).relative_to(PACKAGE).as_posix() if name.startswith(str(PACKAGE)) else None


def test_files_that_pages_name_are_there():
    for page in PAGES.values():
        for name in files_named(page.read_text()):
            assert any((root / name).is_file() for root in (PACKAGE, PACKAGE.parent)), f"{page.name}: {name}"


def test_family_fits_in_sixty_lines():
    assert len(FAMILY["my_family.py"].splitlines()) <= 60


@pytest.mark.slow
def test_family_as_typed(folder):
    run_page("add-a-model-family", folder, lambda text: run_script(text, folder))


def _written(name):
    """A module of the page, without a file."""
    module = ModuleType(name)
    exec(FAMILY[f"{name}.py"], module.__dict__)
    return module


sys.modules["my_family"] = _written("my_family")
_contract = _written("test_my_family").TestPair
forget_modules()


class TestPair(_contract):
    """The family of the page passes the contract with the class of the page."""
