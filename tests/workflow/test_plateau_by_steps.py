"""A plateau by steps counts each validation once: learning rates of whole runs, step by step.

14 frames in batches of 5 are 3 steps an epoch. With a rate of 1e-30 nothing changes, so no value but the first is an
improvement; with a patience of 1 the second one after it halves the rate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from nequip_like.training.csv_logger import read_rows
from nequip_like.workflow.train import train
from tests.workflow.test_resume import content, differences, last, often

TORCH = (
    *("training_module.lr_scheduler.scheduler.factor=0.5", "training_module.lr_scheduler.scheduler.patience=1"),
    *("training_module.lr_scheduler.scheduler.min_lr=0", "+training_module.lr_scheduler.scheduler.eps=0"),
    "training_module.lr_scheduler.interval=step",
)
OURS = (
    *("lr_scheduler=warmup_plateau", "training_module.lr_scheduler.patience=1"),
    *("training_module.lr_scheduler.min_lr=0", "+training_module.lr_scheduler.monitor_interval=step"),
)
ALWAYS = (
    *("run=[train]", "trainer.max_epochs=4", "training_module.optimizer.lr=1.0e-30"),
    "callbacks.learning_rate.logging_interval=step",
)
SLOW = pytest.mark.slow


def rates(folder: Path) -> list[float]:
    """The learning rate of each step, in units of 1e-30."""
    rows = read_rows(folder / "metrics.csv")
    return [float(row["learning_rate"]) * 1e30 for row in rows if row["learning_rate"]]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        # One validation an epoch, after steps 3, 6, 9 and 12: the third value comes after step 9.
        (TORCH, [1.0] * 9 + [0.5] * 3),
        pytest.param((*TORCH, "training_module.lr_scheduler.frequency=2"), [1.0] * 10 + [0.5] * 2, marks=SLOW),
        # A validation after each step: values 3, 5, 7, ... reduce.
        (
            (*TORCH, "trainer.val_check_interval=1"),
            [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 0.03125],
        ),
        pytest.param((*TORCH, "validate_every_n_updates=2"), [1.0] * 6 + [0.5] * 4 + [0.25] * 2, marks=SLOW),
        pytest.param((*TORCH, "trainer.check_val_every_n_epoch=2"), [1.0] * 12, marks=SLOW),
        # Two steps an epoch, with what is left: validations after 2, 4, 6 and 8.
        pytest.param((*TORCH, "trainer.accumulate_grad_batches=2"), [1.0] * 6 + [0.5] * 2, marks=SLOW),
        # A value of whole epochs, which was looked for before there was one.
        (
            (*TORCH, "training_module.lr_scheduler.monitor=train_loss_epoch/weighted_sum"),
            [1.0] * 9 + [0.5] * 3,
        ),
        # The warm-up is 1/4, 2/4, 3/4, 1.
        (
            (*OURS, "training_module.lr_scheduler.warmup_length={steps:4}"),
            [0.25, 0.5, 0.75, *[1.0] * 6, *[0.5] * 3],
        ),
    ],
    ids=["torch", "frequency", "each step", "by updates", "each second epoch", "accumulation", "train", "warm-up"],
)
def test_each_value_counts_once(overrides: tuple[str, ...], expected: list[float], compose: Any) -> None:
    assert rates(train(compose(*ALWAYS, *overrides)).folder) == pytest.approx(expected, rel=1e-6)


def test_improvements_keep_the_rate(compose: Any) -> None:
    """Seven steps from one validation to the next, all of which improve, and a patience of three."""
    improving = (
        "data.batch_size=2",
        "training_module.ema_decay=0.0",
        "training_module.optimizer.lr=1.0e-4",
        "trainer.max_epochs=5",
    )
    plateau = (*TORCH[2:], "training_module.lr_scheduler.scheduler.patience=3")
    folder = train(compose(*ALWAYS, *improving, *plateau, "training_module.lr_scheduler.scheduler.threshold=0")).folder
    values = [float(x) for row in read_rows(folder / "metrics.csv") if (x := row["val0_epoch/weighted_sum"])]
    assert values == sorted(values, reverse=True)
    assert rates(folder) == pytest.approx([1e26] * 35)


@pytest.mark.filterwarnings("ignore:.*was written over later")
@pytest.mark.parametrize("step", [7, pytest.param(9, marks=SLOW), pytest.param(10, marks=SLOW)])
def test_resumed_is_uninterrupted(step: int, compose: Any, tmp_path: Path) -> None:
    """From within an epoch, from its last step, and from one after the rate fell."""
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    for folder, start in ((whole, "null"), (rest, f"'{whole}/often/step-{step}.ckpt'")):
        config = compose(*ALWAYS, *TORCH, f"output_dir={folder}", f"ckpt_path={start}")
        OmegaConf.set_struct(config, False)
        config.callbacks.often = often(folder)["often"]
        train(config)
    assert differences(last(whole), last(rest)) == []
    assert rates(rest)[-3:] == pytest.approx([0.5] * 3)


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path.")
def test_older_checkpoints_do_not_tell_whether_a_value_waits(compose: Any, tmp_path: Path) -> None:
    """From the end of an epoch its value is counted, from within one the value is counted once more, as it was."""
    found = {}
    for step in (3, 7):
        folder = tmp_path / str(step)
        config = compose(*ALWAYS, *TORCH, f"output_dir={folder}", "trainer.max_steps=7")
        OmegaConf.set_struct(config, False)
        config.callbacks.often = often(folder)["often"]
        train(config)
        old = content(folder / "often" / f"step-{step}.ckpt")
        del old["nequip_like"]["plateau_waiting"]
        path = tmp_path / f"old-{step}.ckpt"
        torch.save(old, path)
        train(compose(*ALWAYS, *TORCH, f"output_dir={folder}-on", f"ckpt_path={path}"))
        found[step] = rates(tmp_path / f"{step}-on")
    assert found[3] == pytest.approx([1.0] * 6 + [0.5] * 3)
    assert found[7] == pytest.approx([0.5] * 5)
