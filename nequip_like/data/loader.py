"""Data loaders: one for training that can be stopped at any step and resumed there, one for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from nequip_like.data import fields
from nequip_like.data.batches.batch_size import BatchSize, list_costs
from nequip_like.data.batches.packed_frames import PackedFrames
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate, remove_labels
from nequip_like.data.samplers import FrameBatchSampler
from nequip_like.data.sampling.force_supervision import ForceSupervision
from nequip_like.errors import ConfigError


def make_worker_generator() -> torch.Generator:
    """Make the generator that a loader draws the seeds of its workers from.

    Without one it takes a number of torch's global generator for each pass: then a resumed run, which begins its passes
    at other times, would draw other numbers than the uninterrupted one.
    """
    return torch.Generator().manual_seed(0)


# Packing takes as long as it saves in three epochs: of many frames that is a while, and a run may have one epoch only.
_MANY = 2000  # frames
NO_FRAME = -1  # index of the frame of a batch that has none


def join_frames(dataset: Dataset[Graph], frames: Sequence[Graph]) -> Graph:
    """Join the frames of a batch; of none, make one without labels.

    A process that has no frame in a step takes part in what all do together, and adds exactly nothing to loss,
    gradients and metrics.

    Args:
        dataset: Where the frames are from.
        frames: The frames.
    """
    if frames:
        return collate(frames)
    return collate([remove_labels(dataset[0]) | {fields.FRAME_INDEX: torch.tensor([NO_FRAME])}])


def is_without_frame(graph: Graph) -> bool:
    """Whether a graph is the batch of a process that has no frame in a step.

    Its labels are all missing, and count for nothing even where a missing label is to be a NaN.

    Args:
        graph: A batch, or its labels.
    """
    index = graph.get(fields.FRAME_INDEX)
    return index is not None and index.numel() == 1 and int(index) == NO_FRAME


def build_evaluation_loader(
    dataset: GraphDataset, size: BatchSize, rank: int, world_size: int, *, num_workers: int, pin_memory: bool
) -> DataLoader[Graph]:
    """Build a loader of all frames of a data set, in their order, each in one process.

    Args:
        dataset: The data set.
        size: Size of a batch.
        rank: Index of this process.
        world_size: Number of processes.
        num_workers: Processes that load batches.
        pin_memory: Copy batches to pinned memory.
    """
    costs = list_costs(size, {dataset.name: dataset.table})
    processes: dict[str, Any] = {"rank": rank, "world_size": world_size}
    batches = FrameBatchSampler(len(dataset), size.limit, shuffle=False, seed=0, even=False, **processes, **costs)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        generator=make_worker_generator(),
    )


class _RestOfEpoch:
    """A batch sampler that leaves out the batches which a stopped run had already taken in this epoch."""

    def __init__(self, batches: FrameBatchSampler) -> None:
        self.sampler = batches
        self.resume_epoch = -1
        self.skip = 0

    def start(self) -> int:
        """Number of batches of the current epoch that were taken before."""
        return self.skip if self.sampler.epoch == self.resume_epoch else 0

    def __iter__(self) -> Iterator[list[int]]:
        return islice(self.sampler, self.start(), None)

    def __len__(self) -> int:
        return len(self.sampler)


class ResumableLoader(DataLoader[Graph]):
    """Loads batches in the order of a ``FrameBatchSampler`` and remembers how far the epoch has come.

    Lightning saves :meth:`state_dict` in each checkpoint and gives it back on resuming, so a resumed run sees the
    batches that the stopped one had left, with any number of workers: what workers had prefetched does not count.

    Args:
        dataset: The data set; a :class:`~nequip_like.data.replay.ReplayedDataset` with the sampler that goes with it.
        batches: Order of its frames.
        num_workers: Processes that load batches; none by default, graphs are in memory.
        pin_memory: Copy batches to pinned memory for faster transfer to a GPU.
        force_supervision: Takes the forces out of batches that are not trained on; here, not in the workers, which
            would have to know the epoch.
    """

    def __init__(
        self,
        dataset: Dataset[Graph],
        batches: FrameBatchSampler,
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
        force_supervision: ForceSupervision | None = None,
    ) -> None:
        self.force_supervision = force_supervision
        self._batches = _RestOfEpoch(batches)
        self._num_taken = 0
        self._epoch = 0
        self._looked_at: Any = None  # frames of the data set
        self._packed: PackedFrames | None = None  # the same, where they could be packed
        super().__init__(
            dataset,
            batch_sampler=self._batches,
            collate_fn=partial(join_frames, dataset),
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            generator=make_worker_generator(),
        )

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: there frames are packed again."""
        return {**self.__dict__, "_looked_at": None, "_packed": None}

    @property
    def frame_order(self) -> FrameBatchSampler:
        """The order of the frames."""
        return self._batches.sampler

    def __iter__(self) -> Iterator[Graph]:  # type: ignore[override]
        """Batches of the epoch, or what is left of it. The order is drawn when the first batch is asked for."""
        # A generator, because Lightning makes its iterator before it sets the epoch.
        self._num_taken, self._epoch = self._batches.start(), self._batches.sampler.epoch
        # Without processes and pinned memory torch's iterator does no more than this, in half the time that joining
        # small frames takes.
        alone = self.num_workers == 0 and not self.pin_memory
        for batch in self._join_batches() if alone else super().__iter__():
            self._num_taken += 1
            yield self._mask(batch)

    def get_frame(self, index: int) -> Graph:
        """A frame as it is in the batches of the current epoch."""
        return self._mask(self.dataset[index])

    def _mask(self, batch: Graph) -> Graph:
        supervision = self.force_supervision
        return batch if supervision is None else supervision.mask(batch, self.frame_order.epoch)

    def _join_batches(self) -> Iterator[Graph]:
        packed = self._pack_frames()
        if packed is not None:
            yield from packed.join(self._batches, partial(join_frames, self.dataset))
            return
        for indices in self._batches:
            yield self.collate_fn(self.dataset.__getitems__(indices))  # type: ignore[attr-defined] # ours have it

    def _pack_frames(self) -> PackedFrames | None:
        """The frames in a form of which small batches are joined at once; None where each has to be joined in its turn.

        A class with a method of its own for reading frames may give others each time that it is asked.
        """
        dataset, order = self.dataset, self.frame_order
        if not isinstance(dataset, GraphDataset) or type(dataset).__getitems__ is not GraphDataset.__getitems__:
            return None
        if not isinstance(order, FrameBatchSampler) or (order.epoch == 0 and len(dataset) > _MANY):
            return None
        if dataset.frames is not self._looked_at:
            per_batch = order.num_frames / (len(order) * order.world_size)
            self._looked_at, self._packed = dataset.frames, dataset.pack_frames(per_batch)
        return self._packed

    def state_dict(self) -> dict[str, Any]:
        """Epoch, number of batches taken in it, and what a step has on all processes together."""
        order = self.frame_order
        # The number alone is what checkpoints of earlier versions have, too.
        size = {"step": order.step_size} if order.costs is not None else {"frames": order.frames_per_step}
        return {"epoch": self._epoch, "batches": self._num_taken, **size}

    def take_back(self, num_batches: int) -> None:
        """Count only the first batches of this epoch as taken: a batch that failed is to come again.

        Args:
            num_batches: Number of batches that were used.
        """
        self._num_taken = min(self._num_taken, num_batches)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batches that were taken before.

        Raises:
            ConfigError: If these had another size, and the epoch was not over: its order cannot be gone on with.
        """
        own = self.frame_order.step_size
        other = str(state.get("step", f"{state['frames']} frames" if "frames" in state else own))
        if other != own and 0 < int(state["batches"]) < len(self._batches):
            raise ConfigError(
                f"the checkpoint was written within an epoch of steps of {other}; now a step has {own}",
                "give data.global_batch_size, which goes with any number of processes, or the same data.batch_size and "
                "number of processes, or a checkpoint from the end of an epoch",
            )
        self._batches.resume_epoch = int(state["epoch"])
        self._batches.skip = int(state["batches"])
        self._batches.sampler.set_epoch(int(state["epoch"]))
