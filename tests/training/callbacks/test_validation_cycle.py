"""Validation after each n-th optimizer update. 14 frames in batches of 5 are 3 batches an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import lightning
import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.training import EMALightningModule
from nequip_like.training.callbacks.validation_cycle import ValidationCycle
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.train import train


class Note(lightning.Callback):
    """Notes the number of updates at each validation, and of batches."""

    seen: ClassVar[list[tuple[int, int]]] = []

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.seen.append((trainer.global_step, trainer.fit_loop.epoch_loop.batch_progress.total.processed))


class Faulty(EMALightningModule):
    """Has a gradient that is not finite in the fourth step."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.global_step == 3:
            next(self.model.parameters()).grad.fill_(float("nan"))
        super().on_before_optimizer_step(optimizer)


@pytest.fixture
def validations(compose: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def validations(*overrides: str) -> list[tuple[int, int]]:
        monkeypatch.setattr(Note, "seen", [])
        note = f"+callbacks.note={{_target_:{__name__}.Note}}"
        train(compose("run=[train]", "trusted_packages=[tests]", "trainer.max_epochs=4", note, *overrides))
        return list(Note.seen)

    return validations


# Every second update; batches and updates of all epochs.
EVERY_SECOND = {1: [(n, n) for n in (2, 4, 6, 8, 10, 12)], 2: [(2, 3), (4, 6), (6, 9), (8, 12)]}


@pytest.mark.parametrize(
    ("every", "accumulate", "expected"),
    [
        (1, 1, [(n, n) for n in range(1, 13)]),
        *(pytest.param(2, accumulate, EVERY_SECOND[accumulate], marks=pytest.mark.slow) for accumulate in (1, 2)),
        (5, 1, [(5, 5), (10, 10)]),
        pytest.param(3, 1, [(3, 3), (6, 6), (9, 9), (12, 12)], marks=pytest.mark.slow),
        pytest.param(7, 1, [(7, 7)], marks=pytest.mark.slow),
        # Batches 2, 3 | 5, 6 | 8, 9 | 11, 12 of all epochs make the updates 1 to 8.
        (1, 2, [(1, 2), (2, 3), (3, 5), (4, 6), (5, 8), (6, 9), (7, 11), (8, 12)]),
        (3, 2, [(3, 5), (6, 9)]),
    ],
)
def test_exactly_at_these_updates(every: int, accumulate: int, expected: Any, validations: Any) -> None:
    found = validations(f"validate_every_n_updates={every}", f"trainer.accumulate_grad_batches={accumulate}")
    assert found == expected


@pytest.mark.parametrize("steps", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3, 4, 6))])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resumed_at_any_update(steps: int, accumulate: int, validations: Any) -> None:
    """No validation is left out or done twice, wherever the first run stopped."""
    way = ("validate_every_n_updates=2", f"trainer.accumulate_grad_batches={accumulate}")
    whole = EVERY_SECOND[accumulate]
    part = validations(*way, f"trainer.max_steps={steps}")
    rest = validations(*way, "resume=auto")
    assert part + rest == whole
    assert part == [entry for entry in whole if entry[0] <= steps]


@pytest.mark.filterwarnings("ignore:.*the step is left out")
def test_a_step_that_is_left_out_counts(validations: Any) -> None:
    way = (f"training_module._target_={__name__}.Faulty", "training_module.on_non_finite=skip")
    assert validations("validate_every_n_updates=4", *way) == [(4, 4), (8, 8), (12, 12)]


def test_trainer_has_its_own_cycle_otherwise(validations: Any) -> None:
    assert validations() == [(3, 3), (6, 6), (9, 9), (12, 12)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.val_check_interval=2", r"validate_every_n_updates and trainer\.val_check_interval are both given"),
        (
            "trainer.check_val_every_n_epoch=2",
            r"validate_every_n_updates and trainer\.check_val_every_n_epoch are",
        ),
        ("validate_every_n_updates=1.5", r"validate_every_n_updates is 1\.5"),
    ],
)
def test_two_cycles_are_refused(override: str, message: str, compose: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(compose("validate_every_n_updates=4", override))
    check_config(compose("validate_every_n_updates=4", "trainer.check_val_every_n_epoch=null"))


def test_number_is_checked() -> None:
    with pytest.raises(ConfigError, match="validate_every_n_updates is 0"):
        ValidationCycle(0)


def test_best_checkpoint_is_of_a_validation(validations: Any, tmp_path: Path) -> None:
    """The last one is after 10 of 12 updates."""
    validations("validate_every_n_updates=5")
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] in (5, 10)
