"""The order of frames: which frames make a batch, as a pure function of (seed, epoch), on any number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

from nequip_like.arguments import Count, check
from nequip_like.data.batches.packing import Packing, cut_in_order
from nequip_like.errors import ConfigError, DataError

_STEPS = 0x5DEECE66D  # tells the stream that the order of steps is drawn from from that of the frames


class FrameBatchSampler(Sampler[list[int]]):
    """Batches of frame indices for one process.

    Training (``even=True``): the epoch's order is cut into global batches of ``batch_size * world_size`` frames, and
    each of these into near-equal parts, one per process. In the last, incomplete one some parts may be empty: all
    processes have the same number of batches, and an empty one adds nothing to its step. So steps depend on the number
    of frames in a step alone, not on the number of processes.

    Evaluation (``even=False``): process ``r`` takes frames ``r, r + world_size, ...``. Every frame is taken exactly
    once, so sums over all processes are exact; numbers of batches may differ by one between processes.

    With ``costs`` (the atoms or edges of the frames) a batch has as many frames as cost no more than ``batch_size``
    together; one that costs more is a batch of its own. In training :class:`~nequip_like.data.batches.packing.Packing`
    makes batches that cost about the same, on all processes of a step, and no frame sits out unless there is no other
    for the other processes of its step. In evaluation, process ``r`` takes batches ``r, r + world_size, ...`` of the
    frames in their order.

    Lightning calls ``batch_sampler.sampler.set_epoch``; :attr:`sampler` is this object.

    Args:
        num_frames: Number of frames in the data set.
        batch_size: Frames per batch and process; with ``costs`` the most that these may cost.
        frames_per_step: Frames of a global batch, in place of ``batch_size`` times the number of processes.
        shuffle: Draw a new order for each epoch; otherwise the order of the file.
        seed: Seed of the order.
        rank: Index of this process.
        world_size: Number of processes.
        drop_last: Leave out an incomplete last batch.
        even: See above.
        costs: Cost of each frame (frames,), 1 or more, by the numbers that the order consists of.
        measure: What ``batch_size`` is a number of, for messages.

    Raises:
        ConfigError: If ``batch_size`` or the ranks make no sense.
        DataError: If there are too few frames for one batch per process in training.

    Example:
        In training all processes have the same number of batches, in evaluation each frame is taken exactly once:

        >>> options = {"shuffle": False, "seed": 0, "world_size": 2}
        >>> [list(FrameBatchSampler(5, 2, rank=rank, **options)) for rank in (0, 1)]
        [[[0, 1], []], [[2, 3], [4]]]
        >>> [list(FrameBatchSampler(5, 2, rank=rank, even=False, **options)) for rank in (0, 1)]
        [[[0, 2], [4]], [[1, 3]]]
    """

    def __init__(
        self,
        num_frames: int,
        batch_size: int,
        *,
        frames_per_step: int | None = None,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        even: bool = True,
        costs: np.ndarray | None = None,
        measure: str = "frames",
    ) -> None:
        check("batch_size", batch_size, Count)
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank {rank} of {world_size} processes", "ranks go from 0 to world_size - 1")
        self.num_frames = num_frames
        self.batch_size = batch_size
        self.frames_per_step = batch_size * world_size if frames_per_step is None else frames_per_step
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.even = even
        self.costs = costs
        self.measure = measure
        self.epoch = 0
        self._packing = None if costs is None else Packing(costs, batch_size, world_size)
        self._num_packed = 0 if self._packing is None else self._count_packed(self._packing)
        if even and len(self) == 0:
            shared = 1 if costs is None else world_size
            need = self.frames_per_step if drop_last and costs is None else shared
            raise DataError(
                f"{num_frames} training frames are too few: {need} make one step on {world_size} processes",
                "use fewer processes, a smaller batch_size, or more frames",
            )

    @property
    def sampler(self) -> FrameBatchSampler:
        """This object, where Lightning looks for ``set_epoch``."""
        return self

    @property
    def step_size(self) -> str:
        """What a step holds on all processes together, in words: only with the same an epoch can be gone on with."""
        if self.costs is None:
            return f"{self.frames_per_step} frames"
        return f"{self.batch_size} {self.measure} on each of {self.world_size} processes"

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is drawn next."""
        self.epoch = int(epoch)

    def order(self) -> list[int]:
        """Order of all frames in the current epoch, the same on all processes."""
        if not self.shuffle:
            return list(range(self.num_frames))
        return torch.randperm(self.num_frames, generator=make_epoch_generator(self.seed, self.epoch)).tolist()

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of the current epoch for this process."""
        if self._packing is not None:
            return iter(self._pack_batches(self._packing))
        return iter(self._cut_even_batches() if self.even else self._cut_all_batches())

    def __len__(self) -> int:
        """Number of batches for this process."""
        if self._packing is not None:
            return self._num_packed
        if not self.even:
            mine = len(range(self.rank, self.num_frames, self.world_size))
            return mine // self.batch_size if self.drop_last else -(-mine // self.batch_size)
        full, remainder = divmod(self.num_frames, self.frames_per_step)
        return full + int(remainder > 0 and not self.drop_last)

    def _cut_even_batches(self) -> Iterator[list[int]]:
        order, size = self.order(), self.frames_per_step
        for step in range(len(self)):
            frames = order[step * size : (step + 1) * size]
            start, stop = (len(frames) * part // self.world_size for part in (self.rank, self.rank + 1))
            yield frames[start:stop]

    def _cut_all_batches(self) -> list[list[int]]:
        mine = self.order()[self.rank :: self.world_size]
        return [mine[i * self.batch_size : (i + 1) * self.batch_size] for i in range(len(self))]

    def _pack_batches(self, packing: Packing) -> list[list[int]]:
        order = np.asarray(self.order(), dtype=np.int64)
        if not self.even:
            return cut_in_order(order, packing.costs, packing.limit)[self.rank :: self.world_size]
        if not self.shuffle:
            return [step[self.rank] for step in packing.cut_in_order(order, len(self))]
        generator = make_epoch_generator(self.seed ^ _STEPS, self.epoch)
        return [step[self.rank] for step in packing.cut(order, len(self), generator)]

    def _count_packed(self, packing: Packing) -> int:
        """Number of batches of this process; that of every epoch is that of the first."""
        order = np.asarray(self.order(), dtype=np.int64)
        return packing.count_steps(order, self.shuffle) if self.even else len(self._pack_batches(packing))


def make_epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Generator for one epoch: neighbouring (seed, epoch) pairs give unrelated streams.

    Example:
        >>> def order(seed, epoch):
        ...     return torch.randperm(100, generator=make_epoch_generator(seed, epoch)).tolist()
        >>> order(0, 1) == order(0, 1), order(0, 1) == order(1, 0)
        (True, False)
    """
    mixed = ((seed & 0xFFFFFFFF) * 0x9E3779B97F4A7C15 + (epoch + 1) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed ^= mixed >> 31
    return torch.Generator().manual_seed(mixed & 0x7FFFFFFFFFFFFFFF)
