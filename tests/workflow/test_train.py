"""Whole runs by the Python API: order of tasks, what is exported, resuming, what follows what."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import OmegaConf

from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError, DataError, ModelFileError
from nequip_like.inference import model_file
from nequip_like.inference.loading import load_checkpoint
from nequip_like.workflow import setup
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.train import train

EXACT = 1e-12


def columns(folder: Path) -> dict[str, list[float]]:
    """Columns of metrics.csv without their gaps."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


def state_of(path: Path) -> dict:
    return torch.load(path, weights_only=True)


# --- tasks


def test_val_train_test(compose, tmp_path):
    """One run with all there is: what it returns and what it writes."""
    result = train(compose("run=[val,train,test]", "trainer.max_epochs=3", "report.format=png"), typed=["seed=0"])
    folder = tmp_path / "run"
    assert result.folder == folder
    assert {path.name for path in folder.iterdir()} >= {
        *("checkpoints", "config.yaml", "metrics.csv", "metrics.json", "model.safetensors"),
        *("parity.png", "predictions.extxyz", "training.png", "report.html", "run.json"),
    }
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert result.best_checkpoint == folder / "checkpoints" / "best.ckpt"
    assert result.model_file == folder / "model.safetensors"
    history = columns(folder)
    assert len(history["val0_epoch/weighted_sum"]) == 1 + 3  # before training, and each epoch
    assert len(history["train_loss_epoch/weighted_sum"]) == 3
    assert len(history["learning_rate"]) == 3
    assert result.metrics["test0_epoch/forces_rmse"] == history["test0_epoch/forces_rmse"][0]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"]["forces_rmse"] == pytest.approx(result.metrics["test0_epoch/forces_rmse"], rel=EXACT)

    saved = OmegaConf.load(folder / "config.yaml")
    assert saved.model.avg_num_neighbors == 3.0
    assert list(saved.chemical_species) == ["H", "C", "O"]
    head = (folder / "config.yaml").read_text().splitlines()[:2]
    assert "torch" in head[0]
    assert head[1] == "# overrides: seed=0"
    own = state_of(folder / "checkpoints" / "last.ckpt")["nequip_like"]
    assert own["overrides"] == ["seed=0"]
    assert own["config"]["model"]["avg_num_neighbors"] == 3.0
    assert "torch" in own["versions"]


def test_a_second_run_keeps_what_the_first_left(compose, tmp_path, capsys):
    """The files of each earlier run are in a run folder of its own; one can go on from there, in the same folder."""
    folder = tmp_path / "run"
    runs = []
    for _ in range(3):
        capsys.readouterr()
        train(compose("run=[train,test]", "trainer.max_epochs=1", "report.format=png", f"seed={len(runs)}"))
        runs.append({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
        runs[-1] |= {path.name: path.read_bytes() for path in (folder / "checkpoints").iterdir()}
        told = f"note: {folder} had the files of an earlier run; they are in {folder}/earlier-run"
        assert (told in capsys.readouterr().out) == (len(runs) > 1)
    for name, run in zip(("earlier-run", "earlier-run-2", "."), runs, strict=True):
        assert {
            "model.safetensors",
            "metrics.csv",
            "config.yaml",
            "training.png",
            "parity.png",
            "last.ckpt",
            "run.json",
        } <= set(run)
        for file, content in run.items():
            place = folder / name / ("checkpoints" if file.endswith(".ckpt") else ".")
            assert (place / file).read_bytes() == content, (name, file)

    first = folder / "earlier-run"
    with pytest.warns(UserWarning, match="the best is sought from here on"):
        train(compose("run=train", "trainer.max_epochs=2", f"ckpt_path={first}/checkpoints/last.ckpt"))
    assert (folder / "earlier-run-3" / "model.safetensors").read_bytes() == runs[2]["model.safetensors"]
    before, after = columns(first), columns(folder)
    assert after["train_loss_epoch/weighted_sum"][0] == before["train_loss_epoch/weighted_sum"][0]
    assert len(after["train_loss_epoch/weighted_sum"]) == 2


def test_a_test_of_a_checkpoint_leaves_the_metrics_of_its_run(compose, tmp_path):
    """Also those after the checkpoint; in its own folder nothing is moved."""
    folder = tmp_path / "run"
    periodic = ("callbacks=[default,periodic_checkpoint]", "callbacks.periodic_checkpoint.every_n_updates=2")
    train(compose("run=train", "trainer.max_epochs=2", *periodic))
    before = columns(folder)["train_loss_epoch/weighted_sum"]
    assert len(before) == 2
    train(compose("run=test", f"ckpt_path={folder / 'checkpoints' / 'step2.ckpt'}"))
    assert columns(folder)["train_loss_epoch/weighted_sum"] == before
    assert not (folder / "earlier-run").exists()


def test_exported_is_the_best_checkpoint(compose, tmp_path):
    """The learning rate grows until the run gets worse; then best and last differ."""
    config = compose("trainer.max_epochs=5", "training_module.ema_decay=0.0", "~training_module.lr_scheduler")
    OmegaConf.set_struct(config, False)
    config.training_module.lr_scheduler = {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 8.0}
    result = train(config)
    series = columns(result.folder)["val0_epoch/weighted_sum"][:5]
    best = min(series)
    assert series.index(best) < 4, series
    checkpoint = state_of(result.best_checkpoint)
    assert checkpoint["epoch"] == series.index(best)
    assert checkpoint["nequip_like"]["metrics"]["val0_epoch/weighted_sum"] == best

    exported = model_file.read_model(result.model_file)
    from_checkpoint, card = load_checkpoint(result.best_checkpoint)
    assert card["weights"] == "ema"
    for name, tensor in from_checkpoint.state_dict().items():
        assert torch.equal(exported.state_dict()[name], tensor), name
        assert torch.equal(checkpoint["state_dict"][f"ema.module.{name}"], tensor), name

    # The numbers on the card are those of the weights in the file.
    data = setup.build_data(config)
    batch = collate(list(data.val_sets["val"]))
    rmse = (exported(batch)["forces"] - batch["forces"]).square().mean().sqrt().item()
    own_card = model_file.read_card(result.model_file)
    assert own_card["metrics"]["val0_epoch/forces_rmse"] == pytest.approx(rmse, rel=1e-10)
    assert own_card["provenance"]["epoch"] == series.index(best)
    # So are those of the test that follows training.
    test = collate(list(data.test_sets["test"]))
    rmse = (exported(test)["forces"] - test["forces"]).square().mean().sqrt().item()
    assert result.metrics["test0_epoch/forces_rmse"] == pytest.approx(rmse, rel=1e-10)


def test_tasks_without_training_use_the_initial_weights(compose):
    result = train(compose("run=[val,test]"))
    assert result.model_file is None
    assert result.best_checkpoint is None
    config = compose()
    data = setup.build_data(config)
    module = setup.build_module(config, data, {})
    batch = collate(list(data.val_sets["val"]))
    rmse = (module.model(batch)["forces"] - batch["forces"]).square().mean().sqrt().item()
    assert result.metrics["val0_epoch/forces_rmse"] == pytest.approx(rmse, rel=1e-10)
    assert {name.split("/")[0] for name in result.metrics} == {"val0_epoch", "test0_epoch"}


def test_checkpoint_without_training(compose, tmp_path):
    first = train(compose("run=[train,val]"))
    again = train(compose("run=[val]", f"ckpt_path={first.best_checkpoint}", f"output_dir={tmp_path / 'again'}"))
    for name, value in again.metrics.items():
        assert value == pytest.approx(first.metrics[name], rel=EXACT)


def test_tasks_before_training_are_done_when_it_is_resumed(compose, tmp_path):
    """The first validation is of the initial weights; the run that goes on has it in its history."""
    first = train(compose("run=[val,train]"))
    assert len(columns(first.folder)["val0_epoch/forces_rmse"]) == 1 + 2
    last = first.folder / "checkpoints" / "last.ckpt"
    more = compose("run=[val,train]", f"ckpt_path={last}", f"output_dir={tmp_path / 'more'}", "trainer.max_epochs=3")
    series = columns(train(more).folder)["val0_epoch/forces_rmse"]
    assert len(series) == 1 + 3
    assert series[:3] == columns(first.folder)["val0_epoch/forces_rmse"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.test=null"], r"run has 'test', but there is no test data\n.*data\.test.*run=\[train,val\]"),
        (["data.val=null", "run=[val]"], r"run has 'val', but there is no val data"),
        (["training_module.test_metrics=null"], r"run has 'test', but training_module lacks test_metrics"),
        (["training_module.loss=null"], r"run has 'train', but training_module lacks loss"),
        (
            ["monitored_metric=val0_epoch/force_rmse"],
            r"monitored_metric is 'val0_epoch/force_rmse'.*\n.*val0_epoch/forces_rmse",
        ),
        (["monitored_metric=val1_epoch/forces_rmse"], r"monitored_metric is 'val1_epoch/forces_rmse'"),
        (["data.val=null", "run=[train]"], r"which is not logged\n.*data\.val"),
        (["ckpt_path=nowhere.ckpt"], r"there is no checkpoint .*/nowhere\.ckpt"),
    ],
)
def test_runs_that_cannot_begin(overrides, message, compose, tmp_path):
    with pytest.raises((ConfigError, ModelFileError), match=message):
        train(compose("run=[train,val,test]", *overrides))
    assert not (tmp_path / "run" / "metrics.csv").exists()


@pytest.mark.parametrize(
    "asked", ["data.val=null", *(pytest.param(w, marks=pytest.mark.slow) for w in ("data.val=0", "~data.val"))]
)
def test_training_without_validation(asked, compose, tmp_path, capsys):
    """What the error advises is enough: a line an epoch, the best is kept, a loss that does not fall ends the run."""
    with pytest.raises(ConfigError) as caught:
        train(compose("run=auto", "data.test=null", asked))
    advised = re.findall(r"\S+=\S+", caught.value.advice)
    stop = ("callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=1e6", "trainer.max_epochs=9")
    result = train(compose("data.test=null", *({asked} - {"data.val=0"}), *advised, *stop))
    assert result.monitored == "train_loss_epoch/weighted_sum"
    assert result.best_checkpoint == tmp_path / "run" / "checkpoints" / "best.ckpt"
    losses = columns(result.folder)["train_loss_epoch/weighted_sum"]
    assert len(losses) == 2
    assert result.best == min(losses)
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("epoch ")]
    assert [line.split(" | ")[0] for line in lines] == ["epoch    0", "epoch    1"]
    assert "val0" not in "".join(lines)
    assert "train_loss_epoch/weighted_sum has not improved in 1 epochs" in printed


def test_callbacks_that_wait_for_a_validation_are_named(compose):
    idle = ["best_checkpoint.save_on_train_epoch_end", "early_stopping.check_on_train_epoch_end"]
    message = (
        "callbacks.best_checkpoint and callbacks.early_stopping would act after validations, but there is no data.val; "
        f"write {' '.join(f'callbacks.{option}=true' for option in idle)}"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        check_config(compose("run=[train]", "data.val=null", "monitored_metric=train_loss_epoch/weighted_sum"))


@pytest.mark.parametrize("run", ["run=[train]", "run=[val]", "run=[test]"])
def test_labels_are_checked_before_the_first_step(run, compose):
    """The molecules have no stress: a run that needs it does not begin."""
    with pytest.raises(DataError, match="has stress, which training_module") as caught:
        train(compose(run, "targets=energy_force_stress"))
    assert "targets=energy" in caught.value.advice


def test_config_is_not_changed(compose):
    config = compose("run=[val]")
    train(config)
    assert config.chemical_species == "auto"


# --- resuming (that a resumed run is the uninterrupted one: test_resume.py)


def test_best_of_before_stays_the_best(compose, tmp_path):
    """Resumed with a rate that spoils the model, the run still exports the best epoch of the first part."""
    first = train(compose("run=[train]"))
    last = first.folder / "checkpoints" / "last.ckpt"
    spoiled = torch.load(last, weights_only=True)
    spoiled["optimizer_states"][0]["param_groups"][0]["lr"] = 10.0
    torch.save(spoiled, last)
    more = ["run=[train,val]", "trainer.max_epochs=4", "training_module.ema_decay=0", f"ckpt_path={last}"]
    rest = train(compose(*more, f"output_dir={tmp_path / 'rest'}"))
    series = columns(rest.folder)["val0_epoch/weighted_sum"]
    best = columns(first.folder)["val0_epoch/weighted_sum"][-1]
    assert min(series[2:4]) > best  # two epochs of before, two spoiled ones, and the validation of the best
    assert series[1] == best
    assert series[-1] == pytest.approx(best, rel=EXACT)
    assert rest.best_checkpoint == rest.folder / "checkpoints" / "best.ckpt"
    assert rest.best_checkpoint.read_bytes() == first.best_checkpoint.read_bytes()
    assert first.best_checkpoint.is_file()


def test_best_of_before_that_is_gone(compose, tmp_path):
    first = train(compose("run=[train]"))
    first.best_checkpoint.unlink()
    last = first.folder / "checkpoints" / "last.ckpt"
    with pytest.warns(UserWarning, match="is gone or was written over later: the best is sought from here on"):
        rest = train(
            compose("run=[train]", "trainer.max_epochs=3", f"ckpt_path={last}", f"output_dir={tmp_path / 'b'}")
        )
    assert state_of(rest.best_checkpoint)["epoch"] == 2


# --- what follows the monitored metric


def test_early_stopping_and_plateau_and_best_follow_one_series(compose):
    """With a rate of 0 nothing changes: the second epoch is no better, the plateau acts, and the run stops."""
    config = compose(
        "run=[train]",
        "trainer.max_epochs=20",
        "training_module.optimizer.lr=1.0e-30",
        "training_module.lr_scheduler.scheduler.min_lr=0",
        "+training_module.lr_scheduler.scheduler.eps=0",
        "training_module.lr_scheduler.scheduler.patience=0",
        "callbacks.early_stopping.patience=3",
        "monitored_metric=val0_epoch/forces_rmse",
    )
    folder = train(config).folder
    history = columns(folder)
    assert len(history["val0_epoch/forces_rmse"]) == 4
    assert history["learning_rate"] == pytest.approx([1e-30, 1e-30, 0.6e-30, 0.36e-30], rel=1e-9)
    assert state_of(folder / "checkpoints" / "best.ckpt")["epoch"] == 0
    callbacks = state_of(folder / "checkpoints" / "best.ckpt")["callbacks"]
    best = next(state for name, state in callbacks.items() if "Checkpoint" in name and "val0_epoch" in name)
    assert best["monitor"] == "val0_epoch/forces_rmse"
    assert EarlyStopping.__name__ in " ".join(callbacks)


@pytest.mark.parametrize(
    ("schedule", "validations"),
    [
        pytest.param("trainer.check_val_every_n_epoch=2", 2, marks=pytest.mark.slow),
        ("trainer.val_check_interval=0.34", 12),
        pytest.param("trainer.val_check_interval=2", 4, marks=pytest.mark.slow),
        ("trainer.max_steps=2", 0),
    ],
)
def test_any_schedule_of_validations(schedule, validations, compose):
    """14 frames in batches of 5: 3 steps an epoch."""
    result = train(compose("run=[train]", "trainer.max_epochs=4", schedule))
    history = columns(result.folder)
    assert len(history.get("val0_epoch/weighted_sum", [])) == validations
    assert result.model_file is not None
    if validations:
        assert result.best_checkpoint is not None
        best = state_of(result.best_checkpoint)["nequip_like"]["metrics"]
        assert best["val0_epoch/weighted_sum"] == min(history["val0_epoch/weighted_sum"])


# --- loggers


def test_tensorboard(compose, tmp_path):
    pytest.importorskip("tensorboard")
    train(compose("run=[train]", "logger=tensorboard", "trainer.max_epochs=1"))
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))
    assert (tmp_path / "run" / "metrics.csv").is_file()


@pytest.mark.parametrize("mode", ["disabled", pytest.param("offline", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")  # wandb's own
def test_wandb(mode, compose, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(compose("run=[train]", "logger=wandb", f"logger.wandb.mode={mode}", "trainer.max_epochs=1"))
    assert bool(list((tmp_path / "run").glob("wandb/offline-run-*"))) == (mode == "offline")
    assert (tmp_path / "run" / "metrics.csv").is_file()
