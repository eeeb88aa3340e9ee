"""Learning rates of whole runs: their length, accumulation, a plateau that ends the training, mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from nequip_like.errors import ConfigError
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.printing import plan
from nequip_like.workflow.train import train
from tests.processes import run_python
from tests.workflow.test_resume import differences, often

OURS = "nequip_like.optim.LearningRate"
_SLOW = pytest.mark.slow


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def schedule(folder: Path) -> dict[str, Any]:
    return last(folder)["lr_schedulers"][0]


@pytest.mark.parametrize(
    ("accumulate", "steps"), [pytest.param(1, 3, marks=_SLOW), (2, 2), pytest.param(3, 1, marks=_SLOW)]
)
def test_epochs_become_optimizer_steps(accumulate, steps, compose):
    """14 frames in batches of 5 are 3 batches; put together they are fewer steps, the last one of what is left."""
    overrides = ("run=[train]", "lr_scheduler=warmup_cosine", f"trainer.accumulate_grad_batches={accumulate}")
    folder = train(compose(*overrides, "trainer.max_epochs=3", "training_module.lr_scheduler.warmup_length=2")).folder
    assert schedule(folder)["lengths"] == {"T_max": 3 * steps, "warmup_length": 2 * steps}
    assert schedule(folder)["steps"] == last(folder)["global_step"] == 3 * steps


def test_length_of_the_run_is_that_of_either_limit(compose):
    overrides = ("run=[train]", "lr_scheduler=linear", "training_module.lr_scheduler.T_max=null", "trainer.max_steps=5")
    folder = train(compose(*overrides, "trainer.max_epochs=10", "training_module.lr_scheduler.warmup_length=1")).folder
    assert schedule(folder)["lengths"]["T_max"] == 5
    assert last(folder)["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-6)


@pytest.mark.filterwarnings("ignore:When using .*accumulate_grad_batches")
def test_accumulation_that_changes(compose):
    config = compose("run=[train]", "lr_scheduler=warmup_cosine")
    OmegaConf.set_struct(config, False)
    callback = "lightning.pytorch.callbacks.GradientAccumulationScheduler"
    config.callbacks.more = {"_target_": callback, "scheduling": {0: 1, 1: 2}}
    message = r"^training_module\.lr_scheduler: warmup_length is given in epochs, but .*\n.*\{steps: 1000\}"
    with pytest.raises(ConfigError, match=message):
        train(config)


# --- a plateau that ends the training

# No value is ever an improvement by 99 %, so the second validation halves the rate, and the third: 0.00125.
ENDING = (
    *("lr_scheduler=warmup_plateau", "training_module.lr_scheduler.patience=0", "trainer.max_epochs=20"),
    *("training_module.lr_scheduler.threshold=0.99", "training_module.lr_scheduler.min_lr=0.002"),
    "training_module.lr_scheduler.warmup_length={steps:4}",
)


@pytest.mark.parametrize(
    "limits",
    [(), pytest.param(("trainer.accumulate_grad_batches=2",), marks=_SLOW)],
    ids=["each batch", "accumulation"],
)
def test_plateau_ends_the_training(limits, compose, capsys):
    """After three epochs, with everything that a run leaves; resumed, it is over at once."""
    result = train(compose("run=[train,test]", *ENDING, *limits))
    assert last(result.folder)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 3
    assert schedule(result.folder)["plateau"]["reductions"] == 2
    said = capsys.readouterr().out
    assert said.count("training ended: the learning rate 1.250e-03 is below min_lr 2.000e-03") == 1
    assert result.model_file is not None
    assert result.stopped_by is None
    assert any(name.startswith("test0_epoch/") for name in result.metrics)
    before = last(result.folder)
    again = train(compose("run=[train,test]", "resume=auto", *ENDING, *limits))
    assert last(again.folder)["global_step"] == before["global_step"]
    assert again.metrics == {name: value for name, value in result.metrics.items() if name.startswith("test")}


@pytest.mark.filterwarnings("ignore:.*was written over later")
@pytest.mark.parametrize("step", [4, pytest.param(7, marks=_SLOW)])
def test_plateau_ends_a_resumed_training_at_the_same_step(step, compose, tmp_path):
    """From within an epoch, and from the last one: weights, moments and learning rates are equal bit for bit."""
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    folders = []
    for folder, start in ((whole, "null"), (rest, f"'{whole}/often/step-{step}.ckpt'")):
        config = compose("run=[train]", *ENDING, f"output_dir={folder}", f"ckpt_path={start}")
        OmegaConf.set_struct(config, False)
        config.callbacks.often = often(folder)["often"]
        folders.append(train(config).folder)
    assert last(whole)["global_step"] == 9
    assert differences(*map(last, folders)) == []


def test_plateau_by_steps_ends_within_the_epoch(compose):
    """Validated after each step: the end comes at the batch after the third value."""
    by_steps = ("+training_module.lr_scheduler.monitor_interval=step", "trainer.val_check_interval=1")
    folder = train(compose("run=[train]", *ENDING, *by_steps, "data.batch_size=2")).folder
    assert schedule(folder)["plateau"]["reductions"] == 2
    assert last(folder)["global_step"] == 4
    assert last(folder)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 0


@_SLOW
@pytest.mark.parametrize("by", ["epoch", "step"])
def test_two_processes_end_together(by, tiny, molecule_file, tmp_path):
    """By steps the end is decided within an epoch."""
    data = (f"data.train={molecule_file}", "data.val=5", "data.test=5", "data.batch_size=1", "cutoff_radius=4.0")
    processes = ("trainer.devices=2", "trainer.strategy=ddp", f"output_dir={tmp_path / 'two'}", "run=[train]")
    changes = [*tiny, *ENDING, f"+training_module.lr_scheduler.monitor_interval={by}", "trainer.val_check_interval=1"]
    done = run_python("-m", "nequip_like.cli.train", "-cn", "train", *data, *processes, *changes, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("training ended: the learning rate 1.250e-03 is below min_lr 2.000e-03") == 1
    assert last(tmp_path / "two")["global_step"] == {"epoch": 21, "step": 4}[by]


# --- the check of the config


def checked(compose: Any, node: dict[str, Any] | None = None, *overrides: str) -> None:
    config = compose(*overrides)
    OmegaConf.set_struct(config, False)
    if node is not None:
        config.training_module.lr_scheduler = node
    check_config(config)


@pytest.mark.parametrize(
    "name", ["warmup_cosine", "cosine_restarts", "warmup_plateau", "exponential", "step", "linear", "peak"]
)
def test_groups_are_sound(name, compose):
    checked(compose, None, f"lr_scheduler={name}")


def test_plan(compose):
    overrides = ("lr_scheduler=warmup_cosine", "training_module.lr_scheduler.warmup_length={steps:790}")
    said = plan(check_config(compose(*overrides)))["learning rate"]
    assert said == "LearningRate (schedule cosine, warmup linear, warmup_length steps: 790, T_max 2, min_lr 1e-06)"


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"schedule": "cosin"}, r"lr_scheduler: schedule is 'cosin'\n.*did you mean 'cosine'\?"),
        ({"shedule": "cosine"}, r"lr_scheduler\.shedule: LearningRate takes no 'shedule'\n.*did you mean 'schedule'\?"),
        ({"schedule": "cosine", "T_max": [3]}, r"lr_scheduler\.T_max is \[3\]"),
        ({"schedule": "cosine", "T_max": -3}, r"lr_scheduler: T_max is -3\n.*number of epochs"),
        ({"schedule": "cosine", "T_max": {"epoch": 3}}, r"lr_scheduler: T_max is \{'epoch': 3\}"),
        ({"schedule": "cosine_restarts"}, "lr_scheduler: T_0 is not given"),
        ({"schedule": "step", "gamma": 0, "step_size": 3}, r"lr_scheduler\.gamma is 0\n.*above 0 and at most 1"),
        ({"schedule": "cosine", "min_lr": 0.1}, r"lr_scheduler: min_lr is 0\.1, above .* 0\.005"),
        ({"schedule": "plateau", "monitor": "val0_epoch/nothing"}, r"lr_scheduler\.monitor is 'val0_epoch/nothing'"),
        ({"schedule": "plateau", "monitor": "x", "patience": 1.5}, r"lr_scheduler\.patience is 1\.5"),
    ],
)
def test_mistakes_are_found_before_anything_starts(node, message, compose):
    with pytest.raises(ConfigError, match=message):
        checked(compose, {"_target_": OURS, **node})


def test_a_run_without_an_end_is_found(compose):
    overrides = ("lr_scheduler=warmup_cosine", "training_module.lr_scheduler.T_max=null", "trainer.max_epochs=-1")
    with pytest.raises(ConfigError, match="lr_scheduler: the schedule 'cosine' takes its length from the run"):
        checked(compose, None, *overrides)


@pytest.mark.parametrize("kind", ["untuned_linear", "radam"])
def test_an_optimizer_without_betas(kind, compose):
    node = {"_target_": OURS, "schedule": "constant", "warmup": kind}
    with pytest.raises(ConfigError, match=r"lr_scheduler: warmup is .* the optimizer has no betas"):
        checked(compose, node, "training_module.optimizer._target_=torch.optim.SGD")


@pytest.mark.parametrize("beside", [{"interval": "epoch"}, {"monitor": "val0_epoch/weighted_sum"}, {"frequency": 2}])
def test_keys_of_lightning_beside_ours(beside, compose):
    with pytest.raises(ConfigError, match=r"lr_scheduler has '\w+' beside a LearningRate.*\n.*directly under"):
        checked(compose, {"scheduler": {"_target_": OURS}, **beside})


def test_within_a_scheduler_of_torch(compose):
    chained = {"_target_": "torch.optim.lr_scheduler.ChainedScheduler", "schedulers": [{"_target_": OURS}]}
    with pytest.raises(ConfigError, match="schedulers has a LearningRate, which is a whole schedule"):
        checked(compose, chained)
