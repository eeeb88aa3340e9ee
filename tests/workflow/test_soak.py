"""Killed at any moment, during a save as well, a run that resumes by itself ends as if nothing had happened."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from nequip_like.workflow.train import train
from tests.workflow.test_resume import RESTLESS, differences, history, last

SOAK = Path(__file__).with_name("soak.py")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.filterwarnings("ignore")
def test_fifty_kills(compose: Any, tmp_path: Path) -> None:
    """50 times ``kill -9`` in one training with a checkpoint after each step."""

    def config(name: str) -> Any:
        config = compose(
            "run=[train]",
            "resume=auto",
            "trainer.max_epochs=-1",
            "callbacks.early_stopping=null",
            "trainer.val_check_interval=2",
            "callbacks.epoch_printer=null",
            f"output_dir={tmp_path / name}",
            *RESTLESS,
        )
        OmegaConf.set_struct(config, False)
        config.callbacks.often = {
            "_target_": "nequip_like.training.checkpointing.callback.ResumableCheckpoint",
            "dirpath": str(tmp_path / name / "checkpoints"),
            "filename": "often",
            "every_n_train_steps": 1,
            "enable_version_counter": False,
        }
        return config

    file = tmp_path / "config.yaml"
    OmegaConf.save(config("killed"), file, resolve=False)
    command = [sys.executable, str(SOAK), str(file), "50", "0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    print(result.stdout)
    found = re.fullmatch(r"kills 50 during a save (\d+) steps (\d+)", result.stdout.strip())
    assert found is not None, result.stdout
    assert int(found[1]) >= 5, result.stdout
    straight = config("whole")
    straight.trainer.max_steps = int(found[2])
    whole = train(straight).folder
    killed = tmp_path / "killed"
    assert differences(last(whole), last(killed)) == []
    # A row that is logged right after a checkpoint is lost with the process that was killed between the two.
    rows = history(whole)
    assert [row for row in history(killed) if row not in rows] == []
    assert [row for row in rows if "val0_epoch/weighted_sum" in row and row not in history(killed)] == []
