"""Give the config of a run to its loggers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


def log_config(trainer: lightning.Trainer, config: Mapping[str, Any]) -> None:
    """Give the resolved config to each logger: wandb shows it, TensorBoard writes it to ``hparams.yaml``.

    Args:
        trainer: The trainer with its loggers.
        config: The config as plain values.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            _remove(Path(logger.log_dir) / logger.NAME_HPARAMS_FILE)
        logger.log_hyperparams(copy.deepcopy(dict(config)))


@rank_zero_only
def _remove(hparams: Path) -> None:
    """Remove the config of the resumed run, which Lightning would not write over."""
    hparams.unlink(missing_ok=True)
