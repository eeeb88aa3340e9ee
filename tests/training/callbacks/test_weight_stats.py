"""Statistics of each weight, under NequIP's names, and wandb's watch."""

from __future__ import annotations

import csv
import math
from types import SimpleNamespace

import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.training import NequIPLightningModule
from nequip_like.training.callbacks.weight_stats import TrainingStatsMonitor, WandbWatch
from nequip_like.workflow.train import train

MODULE = "nequip_like.training.callbacks.weight_stats"


def test_values_of_a_run(compose):
    monitor = f"+callbacks.monitor={{_target_: {MODULE}.TrainingStatsMonitor, log_freq: 3}}"
    folder = train(compose("run=[train]", monitor)).folder
    with (folder / "metrics.csv").open() as file:
        rows = [
            row for row in csv.DictReader(file) if any(name.startswith("training_stats.") and row[name] for name in row)
        ]
    assert [row["step"] for row in rows] == ["0", "3"]
    names = [name for name in rows[1] if name.startswith("training_stats.") and rows[1][name]]
    kinds = {name.removeprefix("training_stats.").partition("/")[0] for name in names}
    assert kinds == {
        *(f"weights.{kind}" for kind in ("min", "max", "mean", "std", "absmin", "absmax")),
        *(f"gradients.{kind}" for kind in ("absmax", "rms")),
        *(f"optimizer.exp_avg.{kind}" for kind in ("absmax", "rms")),
        *(f"optimizer.sqrt_exp_avg_sq.{kind}" for kind in ("min", "max", "mean")),
    }
    assert not any(name.startswith("training_stats.optimizer") and rows[0][name] for name in names)  # no step was taken


@pytest.fixture
def stepped(make_potential):
    """A trainer right before a step, with a logger that keeps what it gets."""
    module = NequIPLightningModule(make_potential(num_layers=1))
    optimizer = torch.optim.Adam(module.model.parameters())
    for weight in module.model.parameters():
        weight.grad = torch.full_like(weight, 2.0)
    logged: list[tuple[dict, int]] = []
    logger = SimpleNamespace(log_metrics=lambda values, step: logged.append((values, step)))
    trainer = SimpleNamespace(
        global_step=0, current_epoch=1, is_global_zero=True, lightning_module=module, optimizers=[optimizer],
        loggers=[logger], fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=7)),
    )  # fmt: skip
    return trainer, module, logged


def test_values_by_hand(stepped):
    trainer, module, logged = stepped
    optimizer = trainer.optimizers[0]
    optimizer.step()
    TrainingStatsMonitor()._observe(trainer)
    ((values, step),) = logged
    assert (step, values["epoch"]) == (7, 1)
    for name, weight in module.named_parameters():
        assert values[f"training_stats.weights.max/{name}"] == float(weight.detach().max())
        assert values[f"training_stats.weights.absmin/{name}"] == float(weight.detach().abs().min())
        std = values[f"training_stats.weights.std/{name}"]
        assert math.isnan(std) if weight.numel() == 1 else std == pytest.approx(float(weight.detach().std()), rel=1e-6)
        assert values[f"training_stats.gradients.rms/{name}"] == pytest.approx(2.0, rel=1e-6)
        assert values[f"training_stats.optimizer.exp_avg.absmax/{name}"] == pytest.approx(0.2, rel=1e-6)
        assert values[f"training_stats.optimizer.sqrt_exp_avg_sq.mean/{name}"] == pytest.approx(
            math.sqrt(0.001 * 4.0), rel=1e-6
        )


def test_frequency_and_choice(stepped):
    trainer, _, logged = stepped
    monitor = TrainingStatsMonitor(log_freq=2, log_weights=False, log_optimizer_states=False)
    for step in range(4):
        trainer.global_step = step
        monitor._observe(trainer)
    assert len(logged) == 2
    names = {name.partition("/")[0] for name in logged[0][0]}
    assert names == {"training_stats.gradients.absmax", "training_stats.gradients.rms", "epoch"}


def test_observers_are_taken_away(stepped):
    trainer, module, _ = stepped
    monitor = TrainingStatsMonitor()
    monitor.on_fit_start(trainer, module)
    assert module.gradient_observers == [monitor._observe]
    monitor.on_fit_end(trainer, module)
    assert module.gradient_observers == []


def test_watch_needs_wandb(stepped):
    trainer, module, _ = stepped
    with pytest.raises(ConfigError, match="WandbWatch needs a wandb logger"):
        WandbWatch(log_freq=10).on_fit_start(trainer, module)


def test_watch(stepped, monkeypatch):
    calls = []

    class Logger:
        experiment = SimpleNamespace(unwatch=lambda model: calls.append(("unwatch", model)))

        def watch(self, model, **arguments):
            calls.append(("watch", model, arguments))

    monkeypatch.setattr(f"{MODULE}.WandbLogger", Logger)
    trainer, module, _ = stepped
    trainer.loggers = [Logger()]
    watch = WandbWatch(log_freq=10, log="all")
    watch.on_fit_start(trainer, module)
    watch.on_fit_end(trainer, module)
    assert calls == [
        ("watch", module.model, {"log": "all", "log_freq": 10, "log_graph": False}),
        ("unwatch", module.model),
    ]


@pytest.mark.parametrize("arguments", [{"log_freq": 0}, {"log_freq": 5, "log": "everything"}])
def test_arguments_are_checked(arguments):
    with pytest.raises(ConfigError):
        WandbWatch(**arguments)
