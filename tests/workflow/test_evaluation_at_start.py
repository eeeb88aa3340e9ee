"""mlip's run_eval_at_start and eval_num_graphs, as this project has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import lightning
import pytest
import torch

from nequip_like.workflow.train import train


class Frames(lightning.Callback):
    """Notes the number of updates and of frames of each validation."""

    seen: ClassVar[list[list[int]]] = []

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self.seen.append([trainer.global_step, 0])

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.seen[-1][1] += len(batch["num_atoms"])


@pytest.fixture
def validations(compose: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def validations(*overrides: str) -> list[list[int]]:
        monkeypatch.setattr(Frames, "seen", [])
        note = f"+callbacks.frames={{_target_:{__name__}.Frames}}"
        train(compose("trusted_packages=[tests]", "data.val_batch_size=2", note, *overrides))
        return Frames.seen

    return validations


def test_initial_weights_are_evaluated_and_never_the_best(validations: Any, tmp_path: Path) -> None:
    """A learning rate that ruins the weights: still the best is one of the two epochs."""
    found = validations("run=[val,train]", "training_module.optimizer.lr=1.0", "training_module.ema_decay=0.0")
    assert found == [[0, 5], [3, 5], [6, 5]]
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] in (3, 6)


def test_evaluation_of_some_of_the_frames(validations: Any) -> None:
    """Two batches of two of the five frames."""
    assert validations("run=[train]", "+trainer.limit_val_batches=2") == [[3, 4], [6, 4]]
