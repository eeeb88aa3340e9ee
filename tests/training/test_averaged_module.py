"""Modules with averaged weights: which weights count, which are evaluated, which are exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from nequip_like.errors import ConfigError, ModelFileError
from nequip_like.inference.loading import load_checkpoint
from nequip_like.metrics import EnergyForceLoss
from nequip_like.training import EMALightningModule, NequIPLightningModule, SWALightningModule

METRICS = {"_target_": "nequip_like.metrics.EnergyForceMetrics"}
EXACT = 1e-12
NAME = "val0_epoch/forces_rmse"
RAW_NAME = "val0_raw_epoch/forces_rmse"
Fit = Callable[..., Any]


@pytest.fixture
def make_module(make_potential: Any) -> Any:
    def make(kind: type, **changes: Any) -> Any:
        arguments = {
            "model": make_potential().train(),
            "loss": EnergyForceLoss(),
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
            "val_metrics": METRICS,
            "test_metrics": METRICS,
        }
        return kind(**{**arguments, **changes})

    return make


class Watch(lightning.Callback):
    """Keeps the raw weights after each batch, and raw and averaged ones at each validation."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []
        self.validations: list[tuple[torch.Tensor, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.steps.append(weights(module.model))

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.validations.append((weights(module.model), weights(module.averaged_model)))


def weights(model: torch.nn.Module) -> torch.Tensor:
    return parameters_to_vector(model.parameters()).detach().clone()


@pytest.fixture
def fit(quiet_trainer: Any) -> Fit:
    """Train for four epochs, with validation."""

    def fit(module: Any, data: Any, **changes: Any) -> tuple[Watch, lightning.Trainer]:
        watch = Watch()
        options = {"max_epochs": 4, "limit_val_batches": 1.0, "callbacks": [watch], **changes}
        trainer = quiet_trainer(**options)
        trainer.fit(module, datamodule=data)
        return watch, trainer

    return fit


def assert_same(one: torch.Tensor, two: torch.Tensor) -> None:
    torch.testing.assert_close(one, two, rtol=EXACT, atol=EXACT)


# --- SWA: 14 frames in batches of 5 are 3 steps an epoch


def test_mean_of_the_weights_at_the_ends_of_epochs(make_data: Any, make_module: Any, fit: Fit) -> None:
    """From the end of the second epoch on, seen by the validation in that epoch; before it is the weights."""
    watch, _ = fit(make_module(SWALightningModule, swa_start=2), make_data())
    ends = watch.steps[2::3]
    expected = [ends[0], ends[1], (ends[1] + ends[2]) / 2, (ends[1] + ends[2] + ends[3]) / 3]
    assert len(watch.validations) == 4
    for (raw, averaged), mean, end in zip(watch.validations, expected, ends, strict=True):
        assert_same(averaged, mean)
        assert torch.equal(raw, end)
    assert torch.equal(watch.validations[0][1], ends[0])


def test_every_second_epoch_from_the_beginning(make_data: Any, make_module: Any, fit: Fit) -> None:
    module = make_module(SWALightningModule, swa_start=0, swa_every=2)
    watch, _ = fit(module, make_data())
    assert_same(weights(module.averaged_model), (watch.steps[5] + watch.steps[11]) / 2)
    assert int(module.ema.n_averaged) == 2


def test_mean_by_steps_counts_optimizer_steps(make_data: Any, make_module: Any, fit: Fit) -> None:
    """With an accumulation of 2, the 3 batches of an epoch are 2 steps, so 8 steps; weights of 3, 5 and 7 count."""
    module = make_module(SWALightningModule, swa_start=3, swa_every=2, swa_interval="step")
    watch, trainer = fit(module, make_data(), accumulate_grad_batches=2)
    assert trainer.global_step == 8
    steps = [watch.steps[batch] for epoch in range(4) for batch in (3 * epoch + 1, 3 * epoch + 2)]
    assert_same(weights(module.averaged_model), (steps[2] + steps[4] + steps[6]) / 3)


def test_until_the_start_the_mean_is_the_weights(make_data: Any, make_module: Any, fit: Fit) -> None:
    module = make_module(SWALightningModule, swa_start=9)
    fit(module, make_data(), max_epochs=1)
    assert torch.equal(weights(module.averaged_model), weights(module.model))
    assert int(module.ema.n_averaged) == 0


@pytest.mark.parametrize(
    "wrong", [{"swa_start": -1}, {"swa_start": 1, "swa_every": 0}, {"swa_start": 1, "swa_interval": "batch"}]
)
def test_numbers_of_the_mean_are_checked(wrong: dict[str, Any], make_module: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{list(wrong)[-1]} is "):
        make_module(SWALightningModule, **wrong)


# --- which weights are evaluated


@pytest.mark.parametrize("kind", [EMALightningModule, SWALightningModule])
def test_both_in_one_validation(kind: type, make_data: Any, make_module: Any, fit: Fit) -> None:
    """The values of both are those that each alone would have."""
    options = {"swa_start": 1} if kind is SWALightningModule else {"ema_decay": 0.9}
    found: dict[str, dict[str, float]] = {}
    for evaluate in ("averaged", "raw", "both"):
        lightning.seed_everything(3, verbose=False)
        data, module = make_data(), make_module(kind, evaluate=evaluate, **options)
        _, trainer = fit(module, data)
        names = {name: float(x) for name, x in trainer.callback_metrics.items() if name.startswith("val")}
        assert set(module.validation_names()) == set(names)
        trainer.test(module, datamodule=data, verbose=False)
        found[evaluate] = {**names, "test": float(trainer.callback_metrics["test0_epoch/forces_rmse"])}
    assert found["both"][NAME] == found["averaged"][NAME]
    assert found["both"][RAW_NAME] == found["raw"][NAME]
    assert abs(found["raw"][NAME] - found["averaged"][NAME]) > 1e-8
    assert found["both"]["test"] == found["averaged"]["test"] != found["raw"]["test"]
    assert RAW_NAME not in found["averaged"] | found["raw"]


@pytest.mark.parametrize(
    ("evaluate", "monitor", "exported"),
    [
        ("averaged", NAME, "averaged"),
        ("raw", NAME, "raw"),
        ("both", NAME, "averaged"),
        ("both", RAW_NAME, "raw"),
    ],
)
def test_exported_is_what_is_followed(
    evaluate: str, monitor: str, exported: str, make_data: Any, make_module: Any, fit: Fit, tmp_path: Path
) -> None:
    """In the module, in a checkpoint that is read for inference, and in a module that the checkpoint is loaded into."""
    best = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, "best", monitor=monitor)
    module = make_module(EMALightningModule, evaluate=evaluate)
    fit(module, make_data(), max_epochs=1, callbacks=[best], enable_checkpointing=True)
    expected = module.model if exported == "raw" else module.averaged_model
    assert module.evaluated == exported
    assert module.evaluation_model is expected
    potential, card = load_checkpoint(tmp_path / "best.ckpt")
    assert torch.equal(weights(potential), weights(expected))
    assert card["weights"] == {"raw": "raw", "averaged": "ema"}[exported]
    again = make_module(EMALightningModule, evaluate=evaluate)
    again.on_load_checkpoint(torch.load(tmp_path / "best.ckpt", weights_only=True))
    assert again.evaluated == exported


def test_unknown_weights(make_module: Any) -> None:
    with pytest.raises(ConfigError, match=r"^evaluate is 'ema'"):
        make_module(EMALightningModule, evaluate="ema")


@pytest.mark.parametrize(
    ("written", "read", "told"),
    [
        (SWALightningModule, EMALightningModule, "SWALightningModule"),
        (EMALightningModule, SWALightningModule, "EMALightningModule"),
        (SWALightningModule, NequIPLightningModule, "SWALightningModule"),
    ],
)
def test_another_kind_of_average_is_refused(
    written: type, read: type, told: str, make_data: Any, make_module: Any, fit: Fit, tmp_path: Path
) -> None:
    options = {SWALightningModule: {"swa_start": 1}}
    last = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, "last")
    module = make_module(written, **options.get(written, {}))
    fit(module, make_data(), max_epochs=1, callbacks=[last], enable_checkpointing=True)
    with pytest.raises(ModelFileError, match=f"written by a {told}"):
        make_module(read, **options.get(read, {})).on_load_checkpoint(
            torch.load(tmp_path / "last.ckpt", weights_only=True)
        )
