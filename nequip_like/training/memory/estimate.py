"""What the largest batch of a run needs of memory, before its first step.

Compiled code has arrays whose sizes are known: they are added up. Torch's kernels make what they need as they go: one
step of one frame and one of two such frames tell what a frame adds, and the largest batch has that in proportion to its
edges. Beside it stand the batch itself (twice: the next one is made while the last is there), gradients, and what an
optimizer keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import lightning
import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate, to_device
from nequip_like.data.tables.frame_table import FrameTable
from nequip_like.model.potential import Potential
from nequip_like.process_settings import available_memory
from nequip_like.training.memory.live_bytes import LiveBytes

_OF_PARAMETERS = 4  # gradients, two moments, and an average of the weights
# The heap of a process, and torch's on a GPU, get gaps; up to six tenths more than what is alive were measured.
_WITH_GAPS = 1.25
_NEARLY_ALL = 0.9  # of the free memory: an estimate is no exact number, and others take some, too


@dataclass(frozen=True)
class BatchContent:
    """Sizes of a batch.

    Attributes:
        frames: Number of frames.
        atoms: Number of atoms.
        edges: Number of edges.
    """

    frames: int
    atoms: int
    edges: int

    def __str__(self) -> str:
        """Such as "5 frames, 105 atoms, 2,000 edges"."""
        return f"{self.frames} frame{'s' * (self.frames > 1)}, {self.atoms:,} atoms, {self.edges:,} edges"


def find_largest(batches: Iterable[Sequence[int]], table: FrameTable) -> BatchContent:
    """The batch with the most edges, or without any with the most atoms.

    Args:
        batches: Numbers of the frames of each batch.
        table: The table of the frames.
    """
    cut = list(batches)
    sizes = np.array([len(frames) for frames in cut])
    order = np.fromiter(chain.from_iterable(cut), dtype=np.int64, count=int(sizes.sum()))
    starts = np.cumsum(sizes) - sizes
    atoms, edges = (np.add.reduceat(column[order], starts, dtype=np.int64) for column in (table.atoms, table.edges))
    largest = int(np.lexsort((-atoms, -edges))[0])
    return BatchContent(int(sizes[largest]), int(atoms[largest]), int(edges[largest]))


@dataclass(frozen=True)
class StepMemory:
    """What a step needs, and what there is.

    Attributes:
        task: What the step is of: ``training`` or ``validation``.
        content: The largest batch.
        needed: Bytes.
        free: Bytes of the device; None if nobody knows.
        device: The device.
        setting: The batch size as it is set.
    """

    task: str
    content: BatchContent
    needed: float
    free: float | None
    device: str
    setting: str

    def describe(self) -> str:
        """One line."""
        free = "" if self.free is None else f" of {format_bytes(self.free)} free"
        return f"some {format_bytes(self.needed)}{free} for the largest batch: {self.content}"

    @property
    def warning(self) -> str | None:
        """What to say where it is likely not to fit; None if it fits."""
        if self.free is None or self.needed < _NEARLY_ALL * self.free:
            return None
        return (
            f"the largest batch of {self.task} ({self.content}) needs some {format_bytes(self.needed)}, and "
            f"{format_bytes(self.free)} are free ({self.device}): give a smaller {self.setting} or a smaller model"
        )


def estimate_run(data: DataModule, model: Potential, trainer: lightning.Trainer) -> list[StepMemory]:
    """Estimate what the largest batches of training and validation need.

    Args:
        data: The data, prepared.
        model: The model that is trained.
        trainer: The trainer, whose device it is.
    """
    device = trainer.strategy.root_device
    # Processes on one machine share its memory; each has a GPU of its own.
    sharing = trainer.num_devices if device.type == "cpu" else 1
    free = find_free_memory(device)
    batches = data.list_training_batches()
    setting = data.batch_size.describe_setting(data.global_batch_size)
    sets = {"training": (data.train_set, batches, data.trained_on.table, setting)}
    if data.val_sets:
        # The set with the largest frame; all are cut alike.
        largest = max(data.val_sets.values(), key=lambda dataset: int(dataset.table.edges.max()))
        batches = data.val_batch_size.cut(largest)  # type: ignore[arg-type] # a Dataset has len and []
        sets["validation"] = (largest, batches, largest.table, f"data.val_batch_size ({data.val_batch_size})")
    result = []
    for task, (dataset, batches, table, setting) in sets.items():
        content = find_largest(batches, table)
        needed = sharing * estimate_step(model, dataset, content, device, task == "training")
        result.append(StepMemory(task, content, needed, free, str(device), setting))
    return result


def estimate_step(
    model: Potential, dataset: GraphDataset, content: BatchContent, device: torch.device, train: bool
) -> float:
    """Estimate what a step with a batch needs, bytes.

    Args:
        model: The model.
        dataset: The data set that the batch is of.
        content: The batch.
        device: Where it is computed.
        train: With gradients and an optimizer; else a prediction.
    """
    was_training = model.training
    model.train(train)
    try:
        frame, ratio = _choose_frame(dataset, content)
        estimate = getattr(model.energy_model, "estimate_bytes", None) if model.do_derivatives else None
        network = None if estimate is None else estimate(content.atoms, content.edges, device)
        if network is None:
            single, double = (_measure_step(model, [frame] * count, device) for count in (1, 2))
            network = _WITH_GAPS * (single + (double - single) * (ratio - 1.0))
    finally:
        model.train(was_training)
    batch = ratio * sum(tensor.nbytes for tensor in frame.values())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return float(network + 2 * batch + _OF_PARAMETERS * trained * train)


def _choose_frame(dataset: GraphDataset, content: BatchContent) -> tuple[Graph, float]:
    """A frame of middle size, and how many of them have as many edges as the batch."""
    costs, total = (dataset.table.edges, content.edges) if content.edges else (dataset.table.atoms, content.atoms)
    number = int(np.argsort(costs, kind="stable")[len(costs) // 2])
    if costs[number] == 0:
        number = int(np.argmax(costs))
    return dataset[number], total / float(costs[number])


def _measure_step(model: Potential, frames: Sequence[Graph], device: torch.device) -> int:
    """What torch holds at the peak of a step, bytes; nothing of the model is changed."""
    batch = to_device(collate(frames), device)
    place = next(model.parameters()).device
    model.to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        with LiveBytes([*batch.values(), *model.parameters(), *model.buffers()]) as live:
            prediction = model(batch)
            if model.training and trained:
                names = (fields.TOTAL_ENERGY, *((fields.FORCES,) if model.do_derivatives else ()))
                loss: Any = sum(prediction[name].square().sum() for name in names)
                torch.autograd.grad(loss, trained, allow_unused=True)
    finally:
        model.to(place)
    return live.peak


def find_free_memory(device: torch.device) -> float | None:
    """Bytes that are free on a device; None if nobody knows."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return available_memory() if device.type == "cpu" else None


def format_bytes(count: float) -> str:
    """Such as "1.2 GB".

    Example:
        >>> format_bytes(1.234e9), format_bytes(5.6e6), format_bytes(123.4e9)
        ('1.2 GB', '6 MB', '123 GB')
    """
    if count < 1e9:
        return f"{max(1.0, count / 1e6):.0f} MB"
    return f"{count / 1e9:.{1 if count < 1e10 else 0}f} GB"
