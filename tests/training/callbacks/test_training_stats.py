"""Norms in closed form, what counts as time, and when something is logged.

14 frames in batches of 5 are 3 steps an epoch. With SGD an update is the learning rate times the clipped gradient.
"""

from __future__ import annotations

import csv
import importlib
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import lightning
import pytest
import torch

from nequip_like.data import fields
from nequip_like.errors import ConfigError
from nequip_like.training.callbacks import TrainingStats
from nequip_like.training.callbacks.training_stats import StepWork
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.train import train
from tests.processes import run_python

STATS = ("callbacks=[default,training_stats]", "callbacks.training_stats.every_n_steps=1")
SGD = ("training_module.optimizer._target_=torch.optim.SGD", "training_module.lr_scheduler=null")
NORMS = ("gradient_norm", "clipped_gradient_norm", "weight_norm", "update_norm", "update_ratio")
OF_STEPS = {
    *NORMS, "learning_rate", "data_time", "step_time",
    "frames_per_second", "atoms_per_second", "edges_per_second", "resident_memory",
}  # fmt: skip
OF_EPOCHS = {
    "epoch_time", "epoch_data_time", "resident_memory",
    "epoch_frames_per_second", "epoch_atoms_per_second", "epoch_edges_per_second",
}  # fmt: skip


def stats(folder: Path) -> list[dict[str, float]]:
    """Rows of metrics.csv with statistics, without their prefix."""
    with (folder / "metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    found = []
    for row in rows:
        own = {name.removeprefix("training_stats/"): value for name, value in row.items()}
        if own.keys() != row.keys():
            found.append(own)
    return found


class Norms(lightning.Callback):
    """Computes the same norms in another way, of every step."""

    found: ClassVar[list[dict[str, float]]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self.before = torch.cat([p.detach().flatten() for p in module.model.parameters()]).clone()
        self.each_before = {name: p.detach().clone() for name, p in module.model.named_parameters()}

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        gradients = [p.grad.flatten() for p in module.model.parameters() if p.grad is not None]
        self.found.append({"gradient_norm": float(torch.cat(gradients).norm())})
        for name, weight in module.model.named_parameters():
            if weight.grad is not None:
                self.found[-1][f"gradient_norm/{name}"] = float(weight.grad.norm())

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        after = torch.cat([p.detach().flatten() for p in module.model.parameters()])
        self.found[-1] |= {"weight_norm": float(after.norm()), "update_norm": float((after - self.before).norm())}
        for name, weight in module.model.named_parameters():
            self.found[-1][f"weight_norm/{name}"] = float(weight.detach().norm())
            self.found[-1][f"update_norm/{name}"] = float((weight.detach() - self.each_before[name]).norm())


def test_norms_of_each_step(compose):
    norms = importlib.import_module(Norms.__module__).Norms
    norms.found.clear()
    check = f"+callbacks.check={{_target_: {Norms.__module__}.Norms}}"
    clip = "trainer.gradient_clip_val=0.01"
    each = "callbacks.training_stats.by_weight=true"
    result = train(compose("run=[train]", "trusted_packages=[tests]", *STATS, *SGD, clip, check, each))
    rows = [row for row in stats(result.folder) if "step_time" in row]
    assert len(rows) == len(norms.found) == 6
    for row, expected in zip(rows, norms.found, strict=True):
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=1e-9), name
        assert row["gradient_norm"] > 0.01
        assert row["clipped_gradient_norm"] == pytest.approx(0.01, rel=1e-3)
        assert row["update_norm"] == pytest.approx(0.005 * row["clipped_gradient_norm"], rel=1e-6)
        assert row["update_ratio"] == pytest.approx(row["update_norm"] / row["weight_norm"], rel=1e-12)
        assert row["learning_rate"] == 0.005


def test_names_and_intervals(compose):
    """Every second step and every second epoch, of four epochs."""
    intervals = ("callbacks.training_stats.every_n_steps=2", "callbacks.training_stats.every_n_epochs=2")
    result = train(compose("run=[train]", "callbacks=[default,training_stats]", *intervals, "trainer.max_epochs=4"))
    rows = stats(result.folder)
    of_steps = [row for row in rows if "step_time" in row]
    of_epochs = [row for row in rows if "epoch_time" in row]
    assert len(of_steps) + len(of_epochs) == len(rows)
    assert [row["update_step"] for row in of_steps] == [2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in of_steps] == [1, 3, 5, 7, 9, 11]
    assert [row["epoch"] for row in of_steps] == [0, 1, 1, 2, 3, 3]
    assert [(row["epoch"], row["step"]) for row in of_epochs] == [(1, 5), (3, 11)]
    about = {"epoch", "step", "update_step"}
    assert all(set(row) - about == OF_STEPS for row in of_steps)
    assert all(set(row) - about == OF_EPOCHS for row in of_epochs)
    assert all(row["epoch_time"] >= row["epoch_data_time"] >= 0 for row in of_epochs)
    assert all(value >= 0 for row in rows for value in row.values())


def test_accumulation_is_one_gradient(compose, tmp_path):
    """Statistics are of optimizer steps, not of batches; frames of all batches count."""
    result = train(compose("run=[train]", *STATS, *SGD, "trainer.accumulate_grad_batches=2"))
    rows = [row for row in stats(result.folder) if "step_time" in row]
    assert [row["update_step"] for row in rows] == [1, 2, 3, 4]
    assert all(row["update_norm"] == pytest.approx(0.005 * row["gradient_norm"], rel=1e-9) for row in rows)


def test_the_training_is_the_same_with_it(compose, tmp_path):
    plain = train(compose("run=[train]", f"output_dir={tmp_path / 'plain'}"))
    watched = train(compose("run=[train]", *STATS, f"output_dir={tmp_path / 'watched'}"))
    one, two = (
        torch.load(result.folder / "checkpoints" / "last.ckpt", weights_only=True) for result in (plain, watched)
    )
    for name, tensor in one["state_dict"].items():
        assert not isinstance(tensor, torch.Tensor) or torch.equal(tensor, two["state_dict"][name]), name
    assert one["nequip_like"]["logged"] == two["nequip_like"]["logged"]


def test_resumed_norms_are_those_of_the_uninterrupted_run(compose, tmp_path):
    whole = train(compose("run=[train]", *STATS, f"output_dir={tmp_path / 'whole'}"))
    train(compose("run=[train]", *STATS, f"output_dir={tmp_path / 'part'}", "trainer.max_steps=4"))
    part = train(compose("run=[train]", *STATS, f"output_dir={tmp_path / 'part'}", "resume=auto"))
    for one, two in zip(stats(whole.folder), stats(part.folder), strict=True):
        assert one.keys() == two.keys()
        for name in (*NORMS, "step", "epoch", "update_step", "learning_rate"):
            assert one.get(name) == two.get(name), name


def test_a_step_that_is_left_out_has_no_norms(compose):
    spoil = "+callbacks.spoil={_target_: tests.workflow.test_run_callbacks.Spoil, batch: 2}"
    settings = ("run=[train]", "trusted_packages=[tests]", "training_module.on_non_finite=skip", "trainer.max_epochs=1")
    with pytest.warns(UserWarning, match="the step is left out"):
        result = train(compose(*settings, *STATS, spoil))
    rows = [row for row in stats(result.folder) if "step_time" in row]
    assert [("gradient_norm" in row, row["update_step"]) for row in rows] == [(True, 1), (False, 1), (True, 2)]


def test_rates():
    sizes = torch.tensor([2, 3])
    batch = {fields.NUM_ATOMS: sizes, fields.POSITIONS: torch.zeros(5, 3), fields.EDGE_INDEX: torch.zeros(2, 14)}
    work = StepWork()
    work.add(batch, 0.5, 1.5)
    work.add(batch, 0.5, 1.5)
    assert work.compute_rates(torch.device("cpu")) == {
        "frames_per_second": 1.0, "atoms_per_second": 2.5, "edges_per_second": 7.0,
    }  # fmt: skip
    assert (work.waiting, work.computing, work.batches) == (1.0, 3.0, 2)


def test_validations_do_not_count(monkeypatch, trainer):
    """By a clock that the test moves: 1 s of waiting and 2 s of computing for each batch, 100 s for a validation."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    one = {fields.NUM_ATOMS: torch.ones(1), fields.POSITIONS: torch.zeros(1, 3), fields.EDGE_INDEX: torch.zeros(2, 0)}
    callback, module = TrainingStats(every_n_steps=None), trainer.lightning_module
    callback.on_train_start(trainer, module)
    callback.on_train_epoch_start(trainer, module)
    for batch in range(3):
        now[0] += 1
        callback.on_train_batch_start(trainer, module, one, batch)
        now[0] += 2
        callback.on_train_batch_end(trainer, module, None, one, batch)
        now[0] += 100
        callback.on_validation_end(trainer, module)
    work = callback._since_epoch
    assert (work.waiting, work.computing, work.batches, work.frames) == (3.0, 6.0, 3, 3)


def test_wandb_draws_weights_that_are_logged_one_by_one(monkeypatch, trainer):
    calls: list[tuple] = []

    class Logger:
        experiment = SimpleNamespace(unwatch=lambda model: calls.append((model,)))

        def watch(self, model, **arguments):
            calls.append((model, arguments))

    monkeypatch.setattr("nequip_like.training.callbacks.training_stats.WandbLogger", Logger)
    trainer.loggers = [Logger()]
    module = trainer.lightning_module
    for options in ({}, {"by_weight": True, "every_n_steps": None}, {"by_weight": True, "every_n_steps": 10}):
        callback = TrainingStats(**options)
        callback.on_fit_start(trainer, module)
        callback.on_fit_end(trainer, module)
    assert calls == [(module.model, {"log": "all", "log_freq": 10, "log_graph": False}), (module.model,)]


@pytest.mark.parametrize("arguments", [{"every_n_steps": 0}, {"every_n_epochs": -1}, {"every_n_steps": 2.5}])
def test_intervals_are_checked(arguments):
    with pytest.raises(ConfigError, match="every_n"):
        TrainingStats(**arguments)


def test_without_a_logger_there_is_nothing_to_write_to(compose):
    with pytest.raises(ConfigError, match=r"callbacks\.training_stats has no logger to write to"):
        check_config(compose("callbacks=[default,training_stats]", "~callbacks.learning_rate", "~logger.csv"))


@pytest.mark.slow
def test_two_processes_are_one(compose, tiny, molecule_file, tmp_path):
    """The gradient is that of both processes, before it is clipped; so are the other norms."""
    from tests.training.test_strategy import RUN, overrides_of, settings

    changes = (*STATS, "trainer.gradient_clip_val=0.05", "run=[train]")
    single = train(compose(*RUN, "data.batch_size=4", f"output_dir={tmp_path / 'one'}", *changes)).folder
    command = ("-m", "nequip_like.cli.train", *overrides_of(tiny, molecule_file, tmp_path / "two"))
    done = run_python(*command, *changes, cwd=tmp_path, env=settings())
    assert done.returncode == 0, done.stdout + done.stderr
    for one, two in zip(stats(single), stats(tmp_path / "two"), strict=True):
        for name in NORMS:
            assert two.get(name, math.nan) == pytest.approx(one.get(name, math.nan), rel=1e-9, nan_ok=True), name
