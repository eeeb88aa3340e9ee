"""Short runs log their steps, without a warning, and long ones at every 20th."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from nequip_like.training.callbacks import logging_interval
from nequip_like.training.csv_logger import read_rows
from nequip_like.workflow.train import train


def logged_steps(result: Any) -> list[int]:
    rows = read_rows(result.folder / "metrics.csv")
    return [int(row["step"]) for row in rows if row.get("train_loss_step/weighted_sum")]


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        # 14 frames in batches of 5: 3 steps an epoch; Lightning counts from 0.
        (("trainer.log_every_n_steps=null",), [2, 5]),
        # In batches of 1, 14 steps that accumulate to 5.
        (("trainer.log_every_n_steps=null", "trainer.accumulate_grad_batches=3", "data.batch_size=1"), [4, 9]),
        pytest.param(("trainer.log_every_n_steps=2",), [1, 3, 5], marks=pytest.mark.slow),
        # The user's own is kept, though an epoch is shorter.
        (("trainer.log_every_n_steps=5",), [4]),
        (("trainer.log_every_n_steps=0",), []),
    ],
    ids=["epoch", "accumulation", "own", "longer than an epoch", "never"],
)
def test_short_runs(overrides: tuple[str, ...], steps: list[int], compose: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*smaller than the logging interval")
        result = train(compose("run=[train]", "lr_scheduler=cosine", *overrides))
    assert logged_steps(result) == steps


def test_long_epochs(compose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """14 steps an epoch: with 4 for 20, every fourth one over the epochs."""
    monkeypatch.setattr(logging_interval, "EVERY", 4)
    result = train(compose("run=[train]", "trainer.log_every_n_steps=null", "data.batch_size=1"))
    assert logged_steps(result) == [3, 7, 11, 15, 19, 23, 27]


def test_twenty() -> None:
    assert logging_interval.EVERY == 20
