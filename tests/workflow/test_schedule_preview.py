"""The learning rates and loss weights that are drawn are those that a run then has."""

from __future__ import annotations

from typing import Any

import lightning
import pytest
from omegaconf import OmegaConf

from nequip_like.errors import ConfigError
from nequip_like.metrics.manager import MetricsManager
from nequip_like.workflow.schedule_preview import draw_schedule, preview
from nequip_like.workflow.train import train

SHORT = ("training_module.lr_scheduler.warmup_length={steps:4}", "trainer.max_epochs=4")


class Record(lightning.Callback):
    """Learning rates and loss weights of each step."""

    rates: list[list[float]]
    weights: list[dict[str, float | None]]

    def on_train_start(self, *_: Any) -> None:
        Record.rates, Record.weights = [], []

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        Record.rates.append([group["lr"] for group in optimizer.param_groups])
        Record.weights.append(module.loss.coeffs)


class Flip(lightning.Callback):
    """Forces alone from epoch 2 on."""

    def coefficients_at(self, epoch: int, step: int, loss: MetricsManager) -> dict[str, float] | None:
        return {"forces_mse": 1.0, "per_atom_energy_mse": 0.0} if epoch >= 2 else {"forces_mse": 0.5}

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch >= 2:
            module.loss.set_coeffs({"forces_mse": 1.0})


class Adaptive(lightning.Callback):
    """Depends on the training."""

    def coefficients_at(self, epoch: int, step: int, loss: MetricsManager) -> None:
        return None


def with_callback(config: Any, name: str) -> Any:
    OmegaConf.set_struct(config, False)
    config.callbacks[name.lower()] = {"_target_": f"{__name__}.{name}"}
    config.trusted_packages = ["tests"]
    return config


STEPS = "torch.optim.lr_scheduler"
WAYS = {
    "warmup_cosine": ("lr_scheduler=warmup_cosine", *SHORT),
    "restarts, accumulation": (
        *("lr_scheduler=cosine_restarts", *SHORT, "training_module.lr_scheduler.T_0=1"),
        *("training_module.lr_scheduler.T_mult=1", "trainer.accumulate_grad_batches=2"),
    ),
    "fewer batches": ("lr_scheduler=linear", *SHORT, "+trainer.limit_train_batches=2"),
    "a share of the batches": ("lr_scheduler=linear", *SHORT, "+trainer.limit_train_batches=0.7"),
    "max_steps": ("lr_scheduler=linear", *SHORT, "training_module.lr_scheduler.T_max=null", "trainer.max_steps=7"),
    "torch by epochs": ("lr_scheduler=cosine", "trainer.max_epochs=4"),
    "torch by steps": (
        *("lr_scheduler=cosine", "training_module.lr_scheduler.interval=step", "trainer.max_epochs=4"),
        *("training_module.lr_scheduler.frequency=2", "trainer.accumulate_grad_batches=2"),
    ),
    "none": ("training_module.lr_scheduler=null",),
}


QUICK = ("restarts, accumulation", "torch by steps")


@pytest.mark.parametrize("way", [pytest.param(way, marks=() if way in QUICK else pytest.mark.slow) for way in WAYS])
def test_drawn_is_run(way, compose, tmp_path):
    config = with_callback(compose("run=[train]", *WAYS[way]), "Record")
    shown = preview(config)
    assert not (tmp_path / "run").exists()
    train(config)
    assert list(shown.steps) == list(range(len(Record.rates)))
    assert shown.rates == {"": [rate for (rate,) in Record.rates]}
    assert shown.notes == []
    for name, curve in shown.weights.items():
        assert curve == [coeffs[name] for coeffs in Record.weights]


@pytest.mark.parametrize("interval", ["epoch", pytest.param("step", marks=pytest.mark.slow)])
def test_loss_weights_are_those_of_the_run(interval, compose):
    config = with_callback(
        compose("run=[train]", "trainer.max_epochs=4", "training_module.lr_scheduler=null"), "Record"
    )
    config.callbacks.weights = {
        "_target_": "nequip_like.training.callbacks.loss_weights.coefficients.LossWeightSchedule",
        "terms": {"forces": {"kind": "linear", "to": 25.0, "start": 1, "end": 3}},
        "interval": interval,
    }
    shown = preview(config)
    train(config)
    assert shown.weights.keys() == {"per_atom_energy_mse", "forces_mse"}
    for name, curve in shown.weights.items():
        assert curve == [coeffs[name] for coeffs in Record.weights]
        assert curve[0] == 0.5
    assert shown.weights["forces_mse"][-1] == 25 / 26


def test_loss_weights_of_a_callback(compose):
    """A flip at epoch 2; the term that is left out falls to zero."""
    config = with_callback(compose("trainer.max_epochs=4", "training_module.lr_scheduler=null"), "Flip")
    shown = preview(config)
    assert shown.steps_per_epoch == 3
    assert shown.weights == {"forces_mse": [0.5] * 6 + [1.0] * 6}
    shown = preview(with_callback(config, "Adaptive"))
    assert shown.weights == {}
    assert shown.notes == ["loss weights, which Flip and Adaptive change one after the other, are not shown"]


def test_loss_weights_that_nobody_knows(compose):
    shown = preview(with_callback(compose("training_module.lr_scheduler=null"), "Adaptive"))
    assert shown.notes == ["loss weights that Adaptive finds while it trains are not shown"]
    assert shown.weights == {"per_atom_energy_mse": [0.5] * 6, "forces_mse": [0.5] * 6}


@pytest.mark.parametrize(
    ("overrides", "rates"),
    [
        ((), [0.005] * 6),
        (("lr_scheduler=warmup_plateau", *SHORT[:1]), [0.00125, 0.0025, 0.00375, 0.005, 0.005, 0.005]),
    ],
    ids=["torch", "ours"],
)
def test_plateau(overrides, rates, compose, tmp_path):
    shown = draw_schedule(compose(*overrides), tmp_path / "schedule.png")
    assert shown.rates == {"": pytest.approx(rates)}
    assert shown.notes == ["the learning rate is lowered as val0_epoch/weighted_sum tells, which is not shown"]
    assert (tmp_path / "schedule.png").stat().st_size > 10_000


def test_groups_with_learning_rates_of_their_own(compose):
    """Each has its curve, in the ratio of the rates; groups with the same rates share one."""
    config = compose("lr_scheduler=linear", "training_module.lr_scheduler.warmup_length={steps:1}")
    OmegaConf.set_struct(config, False)
    config.training_module.optimizer.param_groups = [
        {"match": "readout", "lr": 0.001},
        {"match": "*.scales", "weight_decay": 0.0, "lr": 0.001},
    ]
    config.model.per_type_energy_scales_trainable = True
    shown = preview(config)
    assert len(shown.rates) == 2
    low, high = sorted(shown.rates.values())
    assert low == pytest.approx([rate / 5 for rate in high])
    assert high[0] == 0.005
    assert any(", " in name for name in shown.rates)


def test_several_processes(compose):
    """14 frames in batches of 5 for each of two processes are 2 steps."""
    shown = preview(compose("trainer.devices=2", "trainer.strategy=ddp", "lr_scheduler=warmup_cosine"))
    assert shown.steps_per_epoch == 2


def test_many_steps_are_sampled(compose):
    shown = preview(compose("lr_scheduler=warmup_cosine", "trainer.max_epochs=100000"))
    assert 2900 < len(shown.steps) <= 3000
    assert (shown.steps[0], shown.steps[-1]) == (0, 299999)


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.max_epochs=-1",),
        ("trainer.max_epochs=0",),
        ("+callbacks.a={_target_:lightning.pytorch.callbacks.GradientAccumulationScheduler,scheduling:{0:1,1:2}}",),
    ],
)
def test_runs_that_cannot_be_drawn(overrides, compose):
    with pytest.raises(ConfigError, match=r"no end to draw to, no step, or epochs of different lengths\n.*max_epochs"):
        preview(compose(*overrides))
