"""Accumulation of gradients that equals one large batch, whatever labels are missing.

The loss of a batch divides by the number of its labels. Several batches that make one step of the optimizer have to
divide by the labels of all of them, on all processes. Their frames are known beforehand, because the order of frames is
a function of seed and epoch; so are their labels.
"""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.loader import ResumableLoader
from nequip_like.data.samplers import FrameBatchSampler
from nequip_like.errors import ConfigError, TrainingError
from nequip_like.train.comparison import gather, is_distributed
from nequip_like.train.metrics_manager import MetricsManager

_KEY = "trainer.accumulate_grad_batches"


def check_can_accumulate(loss: MetricsManager) -> None:
    """Refuse a loss that is no sum of what its batches add to it.

    Raises:
        ConfigError: Naming the term.
    """
    for term in loss.terms:
        if loss.coeffs[term.name] and not term.is_linear:
            raise ConfigError(
                f"{_KEY} is above 1, but training_module.loss has '{term.name}' ({type(term.metric).__name__}), which "
                "is no mean or sum over labels: several batches do not add up to it",
                f"give {_KEY}=1 and a larger data.batch_size, or another loss, such as a mean squared error",
            )


class ExactAccumulation:
    """Counts the labels of all batches of a step of the optimizer, before they are computed.

    Args:
        trainer: A trainer that trains, with its loader.
    """

    def __init__(self, trainer: lightning.Trainer) -> None:
        self._trainer = trainer
        loader: Any = trainer.train_dataloader
        self._known = isinstance(loader, ResumableLoader) and isinstance(_order(loader), FrameBatchSampler)
        self._warned = False
        self._counting: MetricsManager | None = None
        self._table: Tensor | None = None  # for each frame the counts of its labels
        self._seen = bytearray()  # which frames were looked at
        self._batches: list[list[int]] = []
        self._batches_of = -1  # epoch
        self._window = (-1, -1)  # epoch and first batch
        self._counts = torch.empty(0)

    def counts(self, loss: MetricsManager, batch: Graph, batch_idx: int) -> Tensor | None:
        """Counts of labels of all batches, on all processes, that make a step with this one.

        All processes have to call it with each of their batches.

        Args:
            loss: The loss.
            batch: The batch.
            batch_idx: Its number in the epoch.

        Returns:
            What :meth:`MetricsManager.step` takes as ``counts``; None if a step is of one batch, or if the order of
            frames is not known: then each batch is divided by its own labels, as Lightning does.

        Raises:
            ConfigError: If the loss cannot be accumulated.
            TrainingError: If the loader has other frames than its order tells.
        """
        size = self._trainer.accumulate_grad_batches
        if size == 1:
            return None
        if not self._known:
            self._warn()
            return None
        order = _order(self._trainer.train_dataloader)
        window = (order.epoch, batch_idx - batch_idx % size)
        if window != self._window:
            check_can_accumulate(loss)
            own = self._frames(order, window[1], size, batch, batch_idx)
            counts = self._labels(loss, own).to(batch[fields.POSITIONS].device)
            self._counts = gather(counts).sum(0) if is_distributed() else counts
            self._window = window
        return self._counts

    def _frames(self, order: FrameBatchSampler, first: int, size: int, batch: Graph, batch_idx: int) -> list[int]:
        """Frames of this process, of all batches of the step."""
        if order.epoch != self._batches_of:
            self._batches, self._batches_of = list(order), order.epoch
        if batch[fields.FRAME_INDEX].flatten().tolist() != self._batches[batch_idx]:
            raise TrainingError(
                f"batch {batch_idx} has other frames than the order of the training data tells",
                f"give {_KEY}=1, or leave the loader of the data as it is",
            )
        ready = self._trainer.num_training_batches
        stop = first + size if math.isinf(ready) else min(first + size, int(ready))
        return [frame for frames in self._batches[first:stop] for frame in frames]

    def _labels(self, loss: MetricsManager, frames: list[int]) -> Tensor:
        """Counts of the labels of some frames together; each frame is looked at once in a run."""
        loader: Any = self._trainer.train_dataloader
        dataset = loader.dataset
        if self._counting is None:
            self._counting = copy.deepcopy(loss).cpu()  # frames are not moved to a GPU for this
            self._seen = bytearray(len(dataset))
        for frame in frames:
            if not self._seen[frame]:
                counts = self._counting.label_counts(dataset[frame])
                if self._table is None:
                    self._table = counts.new_zeros(len(dataset), len(counts))
                self._table[frame] = counts
                self._seen[frame] = True
        return cast(Tensor, self._table)[frames].sum(0)

    def _warn(self) -> None:
        if not self._warned:
            rank_zero_warn(
                f"{_KEY} is above 1 and the order of the training frames is not known: each batch of a step counts the "
                "same, whatever the number of its labels"
            )
            self._warned = True


def own_sum(loss: MetricsManager) -> Tensor:
    """Weighted sum of the values of the last batch alone, for logs, shape ()."""
    values = loss.step_values
    if values is None:
        raise ConfigError("there was no batch yet", "call step first")
    coeffs = [loss.coeffs[term.name] or 0.0 for term in loss.terms]
    return torch.stack([coeff * value for coeff, value in zip(coeffs, values, strict=True) if coeff]).sum()


def _order(loader: Any) -> Any:
    return getattr(loader.batch_sampler, "sampler", None)
