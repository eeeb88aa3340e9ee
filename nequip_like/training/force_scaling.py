"""Errors of forces in the loss where only a part of the forces is trained on."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.loader import ResumableLoader
from nequip_like.distributed import gather, is_distributed
from nequip_like.errors import ConfigError


def scale_force_errors(trainer: lightning.Trainer | None, prediction: Graph, batch: Graph) -> tuple[Graph, Graph]:
    """Multiply errors of forces by ``sqrt(1 / f)``, if ``data.sampling.force_scale_unbiased`` asks for it.

    ``f`` is the number of atoms whose forces are trained on divided by that of those that have forces, in the batches
    of all processes that make a step. So a root mean square error is ``sqrt(1 / f)`` times as large, as in
    aenet-PyTorch, and a mean square error ``1 / f`` times.

    Args:
        trainer: The trainer, with its loader; None outside of a training.
        prediction: What is predicted.
        batch: The labels.

    Returns:
        Prediction and labels with forces that differ by as much more; the same objects where nothing is to be scaled.

    Raises:
        ConfigError: If several batches make a step.
    """
    loader: Any = None if trainer is None else trainer.train_dataloader
    supervision = loader.force_supervision if isinstance(loader, ResumableLoader) else None
    if trainer is None or supervision is None or not supervision.scales or fields.FORCES not in batch:
        return prediction, batch
    if trainer.accumulate_grad_batches > 1:
        raise ConfigError(
            "data.sampling.force_scale_unbiased is true, but trainer.accumulate_grad_batches is above 1: the scale is "
            "one of each batch",
            "give a larger data.batch_size in place of trainer.accumulate_grad_batches",
        )
    counts = supervision.count_atoms(batch[fields.FRAME_INDEX].cpu().numpy(), loader.frame_order.epoch)
    supervised, labelled = counts
    if is_distributed():
        both = torch.tensor(counts, dtype=torch.float64, device=batch[fields.FORCES].device)
        supervised, labelled = gather(both).sum(0).tolist()
    if supervised in (0, labelled):
        return prediction, batch
    scale = math.sqrt(labelled / supervised)
    scaled = ({**graph, fields.FORCES: graph[fields.FORCES] * scale} for graph in (prediction, batch))
    return next(scaled), next(scaled)
