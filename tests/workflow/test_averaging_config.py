"""What the check of a config, and a whole run, say of averaged weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.inference import load, read_card
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.train import train

BOTH = ("training_module.evaluate=both", "monitored_metric=val0_raw_epoch/weighted_sum")


@pytest.mark.parametrize(
    "overrides",
    [
        ("training_module=swa", "training_module.swa_start=1"),
        ("training_module=swa", "training_module.swa_start=900", "training_module.swa_interval=step"),
        BOTH,
        ("training_module=swa", "training_module.swa_start=1", *BOTH),
        ("training_module.ema_warmup=false", "training_module.ema_bias_correction=true"),
    ],
)
def test_what_fits(overrides: tuple[str, ...], compose: Any) -> None:
    check_config(compose(*overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("training_module=swa",), r"training_module\.swa_start is not given"),
        (
            ("training_module=swa", "training_module.swa_start=3"),
            r"training_module\.swa_start is 3 epochs, but trainer\.max_epochs is 2: no weights would count",
        ),
        (("training_module=swa", "training_module.swa_start=-1"), r"training_module\.swa_start is -1"),
        (("training_module=swa", "training_module.swa_start=1", "training_module.swa_every=0"), r"swa_every is 0"),
        (("training_module.ema_bias_correction=true",), "ema_warmup and ema_bias_correction are both true"),
        (("training_module.ema_start_step=-1",), r"training_module\.ema_start_step is -1"),
        (("training_module.ema_warmup=1",), r"training_module\.ema_warmup is 1"),
        (("training_module.evaluate=all",), r"training_module\.evaluate is 'all'"),
        (BOTH[1:], "monitored_metric is 'val0_raw_epoch/weighted_sum', which is not logged"),
        (
            (BOTH[0], "monitored_metric=val0_raw_epoch/weighted_sums"),
            "monitored_metric is 'val0_raw_epoch/weighted_sums', which is not logged",
        ),
    ],
)
def test_what_does_not_fit(overrides: tuple[str, ...], message: str, compose: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(compose(*overrides))


def test_a_mean_that_never_began_is_told(compose: Any, capsys: pytest.CaptureFixture) -> None:
    """Weights count from step 900; the run has six."""
    train(
        compose(
            "run=[train]", "training_module=swa", "training_module.swa_start=900", "training_module.swa_interval=step"
        )
    )
    assert "exported: the raw weights, for none counted in the mean yet" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("monitored", "kind", "prefix"), [("val0_raw", "raw", "model."), ("val0", "ema", "ema.module.")]
)
def test_the_run_tells_what_it_exports(
    monitored: str, kind: str, prefix: str, compose: Any, capsys: pytest.CaptureFixture
) -> None:
    """In its output, in the card of the model file, and in the weights of the file."""
    result = train(
        compose("run=[train,test]", "training_module.evaluate=both", f"monitored_metric={monitored}_epoch/weighted_sum")
    )
    word = {"raw": "raw", "ema": "averaged"}[kind]
    assert f"exported: the {word} weights" in capsys.readouterr().out.splitlines()
    assert result.model_file is not None
    assert result.best_checkpoint is not None
    assert read_card(result.model_file)["provenance"]["weights"] == kind
    saved = torch.load(result.best_checkpoint, weights_only=True)["state_dict"]
    exported = load(str(result.model_file)).state_dict()
    assert all(torch.equal(weight, saved[prefix + name]) for name, weight in exported.items())
    assert {"test0_epoch/forces_rmse", "test0_raw_epoch/forces_rmse"} <= set(result.metrics)
