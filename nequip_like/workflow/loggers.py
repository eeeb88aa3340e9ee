"""Give the config of a run to its loggers, and let a run that goes on be one run to them."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from nequip_like.workflow.resume import Resumption

_WANDB = ".WandbLogger"
RUNS_KEY = "logger_runs"  # of checkpoints: what choose_runs gave


def choose_runs(
    nodes: Mapping[str, Any] | None, resumption: Resumption | None, folder: Path
) -> dict[str, dict[str, str]]:
    """Choose the runs that loggers write to which keep runs of many folders: wandb's.

    Args:
        nodes: The section ``logger`` of the config.
        resumption: What the run goes on from. In another folder than before it goes its own way, and is a new run.
        folder: The output folder.

    Returns:
        Further arguments of loggers, by the names of their nodes.

    Example:
        >>> nodes = {"csv": None, "wandb": {"_target_": "lightning.pytorch.loggers.WandbLogger"}}
        >>> first, second = (choose_runs(nodes, None, Path("runs/a")) for _ in range(2))
        >>> list(first), first == second
        (['wandb'], False)
    """
    earlier: Mapping[str, Any] = {}
    if resumption is not None and resumption.folder == folder:
        earlier = resumption.checkpoint_entry.get(RUNS_KEY) or {}
    runs = {}
    for name, node in (nodes or {}).items():
        of_wandb = isinstance(node, Mapping) and str(node.get("_target_")).endswith(_WANDB)
        if of_wandb and not (node.get("id") or node.get("version")):
            runs[name] = dict(earlier.get(name) or {"id": secrets.token_hex(4)})
    return runs


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
