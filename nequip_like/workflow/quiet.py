"""Runs tell what they do by tables and lines of their own; what Lightning says of itself is left out meanwhile."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("lightning.pytorch", "lightning.fabric")
_SAID = (
    # The run's own config.yaml stands in the folder before its first metric.
    "Experiment logs directory .* exists and is not empty",
    # Between Lightning 2.6 and torch 2.12; nothing a user could do about it.
    r".*isinstance\(treespec, LeafSpec\)",
    # The device was chosen on purpose, or there is no other.
    "GPU available but not used",
    # Where srun is installed, and not used: a job that has to use it is refused (nequip_like.workflow.slurm.tasks).
    "The `srun` command is available on your system but is not used",
    # A run without a validation set; data sets without frames are refused.
    "Total length of `.*` across ranks is zero",
    # Graphs are in memory: loading them by other processes makes nothing faster.
    "The '.*dataloader' does not have many workers",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out what Lightning says of itself: devices, tips, advertisements, deprecations between it and torch.

    Afterwards levels of loggers and filters of warnings are what they were before. Who asked a logger for more than
    Lightning's own level (``DEBUG``) or for less gets what was asked for.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    raised = [logger for logger in loggers if logger.level in (logging.NOTSET, logging.INFO)]
    levels = [logger.level for logger in raised]
    with warnings.catch_warnings():
        for message in _SAID:
            warnings.filterwarnings("ignore", message=message)
        for logger in raised:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(raised, levels, strict=True):
                logger.setLevel(level)
