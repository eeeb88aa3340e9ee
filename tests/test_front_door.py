"""``import nequip_like as nl``: what it offers, and that each thing is the one that the rooms behind it have."""

from __future__ import annotations

import ast
import importlib
import signal
from pathlib import Path

import pytest

import nequip_like as nl
from nequip_like.training.module import NequIPLightningModule

OFFERED = nl._OFFERED


@pytest.mark.parametrize("name", sorted(OFFERED))
def test_each_name_is_the_thing_in_its_room(name):
    module, attribute = OFFERED[name]
    assert getattr(nl, name) is getattr(importlib.import_module(f"nequip_like.{module}"), attribute)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(nl.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname: (node.module.removeprefix("nequip_like."), alias.name)
        for node in block.body
        for alias in node.names
    }
    assert seen == OFFERED


@pytest.mark.parametrize("name", sorted(OFFERED))
def test_each_name_is_on_the_page(name):
    page = Path(nl.__file__).parents[1] / "docs" / "reference" / "python.md"
    assert f"`nl.{name}" in page.read_text()


def test_names_are_listed_and_others_refused():
    assert nl.__all__ == sorted(OFFERED)
    assert set(OFFERED) <= set(dir(nl))
    with pytest.raises(AttributeError, match="module 'nequip_like' has no attribute 'tarin'"):
        nl.tarin  # noqa: B018


def test_a_config_may_not_run_what_the_front_door_offers():
    from nequip_like.workflow.config.trust import look_up

    for name in ("train", "test", "compose"):
        with pytest.raises(nl.ConfigError, match="which is no part of a run"):
            look_up("callbacks.mine", f"nequip_like.{name}")


@pytest.fixture
def config(molecule_file, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    no_report = ["report.format=[]", "report.html=false"]
    data = [f"data.train={molecule_file}", "data.val=5", "cutoff_radius=4.0"]
    return nl.compose("train", [*data, "run=[train]", *no_report, *tiny])


def test_each_training_has_a_folder_of_its_own(config):
    first, second = nl.train(config), nl.train(config)

    assert first.folder.parents[1] == Path.cwd() / "outputs"
    assert first.folder != second.folder
    assert nl.load(first.folder).type_names == nl.load(second.model_file).type_names


def test_interrupting_a_training_leaves_its_model(config, monkeypatch):
    config.trainer.max_epochs = 2
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(NequIPLightningModule, "on_train_batch_start", interrupt, raising=False)
        result = nl.train(config)
    assert result.stopped_by is signal.SIGINT
    assert nl.load(result.model_file).type_names == nl.load(result.folder / "checkpoints" / "last.ckpt").type_names
    assert signal.getsignal(signal.SIGINT) is handler
    config.output_dir, config.resume = str(result.folder), "auto"
    resumed = nl.train(config)
    assert (resumed.folder, resumed.stopped_by) == (result.folder, None)


def test_interrupting_anything_else_leaves_the_process(config, monkeypatch):
    """Lightning ends the process there, and lets it ignore further interrupts."""
    before = signal.getsignal(signal.SIGINT)
    handler = signal.default_int_handler
    signal.signal(signal.SIGINT, handler)  # a shell that starts the tests in the background lets them ignore it
    with monkeypatch.context() as patch:
        patch.setattr(NequIPLightningModule, "on_fit_start", interrupt, raising=False)
        with pytest.raises(KeyboardInterrupt):
            nl.train(config)
    assert signal.getsignal(signal.SIGINT) is handler
    assert nl.train(config).stopped_by is None
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("config", ["c.yaml", {"data": {"train": "a.xyz"}}, None])
def test_train_takes_composed_configs_only(config):
    with pytest.raises(nl.ConfigError, match=r"(?s)which is no composed config.*compose it: train\(compose\("):
        nl.train(config)


def test_load_takes_paths_only():
    with pytest.raises(nl.ModelFileError, match="a NoneType is no path of a model"):
        nl.load(None)


def test_a_finished_run_says_so(config, capsys):
    result = nl.train(config)
    config.output_dir, config.resume = str(result.folder), "auto"
    nl.train(config)
    expected = f"note: all {config.trainer.max_epochs} epochs are done; to train further, raise trainer.max_epochs\n"
    assert capsys.readouterr().out.count(expected) == 1


def interrupt(*_):
    signal.raise_signal(signal.SIGINT)
