"""Configs of NequIP's own kind, run: the names that they log are NequIP's, and a migrated config gives the same run."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from nequip_like.compat.nequip_config import as_own_config
from nequip_like.compat.nequip_migrate import migrated
from nequip_like.compat.nequip_weights import load_nequip_weights
from nequip_like.errors import ConfigError
from nequip_like.inference import model_file
from nequip_like.workflow import setup
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.train import train
from tests.processes import environment, run_python

HERE = Path(__file__).parent
NAMES = json.loads((HERE / "reference" / "logged_names.json").read_text())["names"]

_spec = importlib.util.spec_from_file_location("nequip_names", HERE.parents[1] / "benchmarks" / "nequip_names.py")
peer = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(peer)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a config of this folder with the prefix replaced, and the data that it names, and goes there."""
    monkeypatch.chdir(tmp_path)

    def write(name, logger=None, **trainer):
        peer.write_data(name, tmp_path)
        path = tmp_path / "config.yaml"
        path.write_text((HERE / f"{name}.yaml").read_text().replace("nequip.", "nequip_like."))
        if logger or trainer:
            config = yaml.safe_load(path.read_text())
            config["trainer"] |= trainer | ({"logger": logger} if logger else {})
            path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path

    return write


def composed(path) -> DictConfig:
    """As the command composes it, but with the folder of the run known."""
    with initialize_config_dir(str(path.parent), version_base="1.3"):
        config = compose(path.name)
    text = OmegaConf.to_yaml(config).replace("${hydra:runtime.output_dir}", str(path.parent / "run"))
    return OmegaConf.create(text)


def own(path):
    """The config that runs."""
    translated = as_own_config(composed(path)).config
    OmegaConf.update(translated, "output_dir", str(path.parent / "run"))
    return translated


def logged_names_of_nequip(file):
    """Names that are logged, without the shares of the loss, which are ours."""
    return [name for name in peer.logged_names(file) if not name.startswith("train_loss_share/")]


@pytest.mark.parametrize("name", NAMES)
def test_logged_names_are_exactly_nequips(name, write):
    """And the shares of the loss, which NequIP does not have."""
    path = write(name, logger=peer.CSV)
    train(own(path))
    assert logged_names_of_nequip(path.parent / "logged" / "metrics.csv") == NAMES[name]


def test_the_same_weights_give_the_same_numbers(write):
    """From the files to the logged values, with the weights that NequIP trained."""
    config = own(write(peer.NUMBERS_OF))
    with np.load(peer.TRAINED, allow_pickle=False) as stored:
        values = json.loads(str(stored["values"]))
        weights = {key: torch.from_numpy(stored[key]) for key in stored.files if key != "values"}
    data = setup.build_data(config)
    module = setup.build_module(config, data, {})
    load_nequip_weights(module.model, weights)
    trainer = setup.build_trainer(config)
    trainer.validate(module, datamodule=data, verbose=False)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    trainer.test(module, datamodule=data, verbose=False)
    found |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert found == pytest.approx(values, rel=1e-9)
    assert len(found) == 44


@pytest.mark.parametrize("name", NAMES)
def test_config_is_sound(name, write):
    config = own(write(name, logger=peer.CSV))
    assert check_config(config).tasks == list(config.run)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_migrated_config_gives_the_same_run(name, write, tmp_path):
    path = write(name, logger=peer.CSV, max_epochs=1)
    text = migrated(path)
    assert len(text.splitlines()) < len(path.read_text().splitlines())
    results = []
    for folder, written in (("flat", path.read_text()), ("short", text)):
        (tmp_path / folder).mkdir()
        peer.write_data(name, tmp_path / folder)
        (tmp_path / folder / "own.yaml").write_text(written)
        os.chdir(tmp_path / folder)
        results.append(train(own(with_defaults(tmp_path / folder / "own.yaml"))))
    first, second = results
    assert first.metrics == second.metrics
    assert len(first.metrics) > 5
    states = [model_file.read_model(result.model_file).state_dict() for result in results]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    logged = [(tmp_path / folder / "logged" / "metrics.csv").read_text() for folder in ("flat", "short")]
    assert logged[0] == logged[1]


def with_defaults(path):
    """Our own defaults beside a config, where Hydra finds them without the command's search path."""
    text = path.read_text()
    if "defaults:" in text:
        path.write_text(f"hydra: {{searchpath: ['pkg://nequip_like.conf']}}\n{text}")
    return path


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"_target_": "nequip.model.PresetNequIPGNNModel", "preset": "M"}, ["override model: nequip_M"]),
        (
            {
                "_target_": "nequip.model.FullNequIPGNNModel",
                "feature_irreps_hidden": ["4x0e+4x1o", "4x0e"],
                "irreps_edge_sh": 1,
                "radial_mlp_depth": [1, 1],
                "radial_mlp_width": [8, 8],
                "type_embed_num_features": 4,
            },
            ["override model: null", "feature_irreps_hidden: [4x0e+4x1o, 4x0e]"],
        ),
    ],
)
def test_migrated_models(changes, lines, write):
    path = write("nequip_names")
    config = yaml.safe_load(path.read_text())
    common = {key: config["training_module"]["model"][key] for key in ("type_names", "r_max", "avg_num_neighbors")}
    config["training_module"]["model"] = {**common, **changes}
    path.write_text(yaml.safe_dump(config))
    text = migrated(path)
    for line in lines:
        assert line in text
    short = path.with_name("short.yaml")
    short.write_text(text)
    check_config(own(with_defaults(short)))


def test_what_a_migrated_config_keeps_and_tells(write):
    path = write("nequip_names")
    path.write_text(path.read_text() + "hydra: {run: {dir: here}}\n")
    text = migrated(path)
    assert text.startswith("# Made from config.yaml, a config of NequIP's, by nequip-train --migrate.\n")
    assert "# Keys that other values referred to; their values stand there now: species, radius\n" in text
    content = yaml.safe_load(text)
    assert content["hydra"] == {"run": {"dir": "here"}}
    assert next(iter(content)) == "defaults"
    assert content["cutoff_radius"] == 3.5
    assert content["chemical_species"] == ["O", "Mg"]
    assert "r_max" not in content["model"]
    assert "type_names" not in content["model"]


def test_only_configs_of_nequip_are_migrated(tmp_path):
    file = tmp_path / "own.yaml"
    for content, part in (
        ("defaults: [train, _self_]\ndata: {train: a.xyz}\n", "no config of NequIP's"),
        ("data: [1\n", "no YAML"),
        ("defaults: [other]\ndata: {_target_: nequip.data.datamodule.ASEDataModule}\n", "several files"),
    ):
        file.write_text(content)
        with pytest.raises(ConfigError, match=part):
            migrated(file)
    with pytest.raises(ConfigError, match="cannot read"):
        migrated(tmp_path / "nowhere.yaml")


def test_a_validation_before_training_tells_a_schedule_nothing(write):
    """The schedule follows a value that is first logged in the second epoch."""
    path = write("nequip_names", logger=peer.CSV, check_val_every_n_epoch=2)
    config = yaml.safe_load(path.read_text())
    scheduler = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "patience": 0}
    config["training_module"]["lr_scheduler"] = {"scheduler": scheduler, "monitor": "val0_epoch/weighted_sum"}
    path.write_text(yaml.safe_dump(config | {"run": ["val", "train"]}))
    assert "val0_epoch/weighted_sum" in train(own(path)).metrics


# --- as a user types it


def type_in(*arguments, cwd):
    return run_python("-m", "nequip_like.cli.train", *arguments, cwd=cwd, env=environment(WANDB_MODE="offline"))


@pytest.mark.slow
def test_the_tutorial_runs_unchanged_but_for_the_prefix(write, tmp_path):
    """NequIP's own command line. Without wandb, which is optional, its logger is replaced on the command line."""
    path = write("nequip_tutorial")
    no_wandb = ["trainer.logger=true"] if importlib.util.find_spec("wandb") is None else []
    done = type_in("-cp", str(tmp_path), "-cn", path.name, "hydra.run.dir=run", *no_wandb, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "epoch    1 |" in done.stdout
    assert done.stdout.count("note: global_options has no effect") == 1
    assert {file.name for file in (tmp_path / "run").iterdir()} >= {
        *("best.ckpt", "last.ckpt", "model.safetensors", "metrics.json", "config.yaml"),
    }
    if no_wandb:
        assert logged_names_of_nequip(tmp_path / "run" / "metrics.csv") == NAMES["nequip_tutorial"]
    # It goes on from there, as NequIP's users write it.
    done = type_in(
        "-cp", str(tmp_path), "-cn", path.name, "hydra.run.dir=more", "++ckpt_path=run/last.ckpt",
        "trainer.max_epochs=3", *no_wandb, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "epoch    2 |" in done.stdout
    assert "epoch    1 |" not in done.stdout


@pytest.mark.slow
def test_check_and_migrate_and_mistakes_on_the_command_line(write, tmp_path):
    path = write("nequip_names")
    done = type_in(path.name, "--check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "NequIPGNNModel" in done.stdout
    done = type_in("--migrate", path.name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == migrated(path)
    (tmp_path / "short.yaml").write_text(done.stdout)
    done = type_in("short.yaml", "--check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for arguments, part in (
        ([path.name, "data._target_=nequip_like.data.datamodule.TM23DataModule"], "there is no TM23DataModule here"),
        (["--migrate"], "--migrate got 0 arguments"),
    ):
        done = type_in(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert part in done.stderr
        assert "Traceback" not in done.stderr
        assert "\n  -> " in done.stderr
