"""A data loader for training that can be stopped at any step and resumed there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.data.samplers import FrameBatchSampler


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
        return iter(list(self.sampler)[self.start() :])

    def __len__(self) -> int:
        return len(self.sampler)


class ResumableLoader(DataLoader[Graph]):
    """Loads batches in the order of a :class:`FrameBatchSampler` and remembers how far the epoch has come.

    Lightning saves :meth:`state_dict` in each checkpoint and gives it back on resuming, so a resumed run sees the
    batches that the stopped one had left, with any number of workers: what workers had prefetched does not count.

    Args:
        dataset: The data set.
        batches: Order of its frames.
        num_workers: Processes that load batches; none by default, graphs are in memory.
        pin_memory: Copy batches to pinned memory for faster transfer to a GPU.
    """

    def __init__(
        self, dataset: GraphDataset, batches: FrameBatchSampler, *, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        self._rest = _RestOfEpoch(batches)
        self._taken = 0
        self._taken_in = 0
        super().__init__(
            dataset,
            batch_sampler=self._rest,
            collate_fn=collate,
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
        )

    def __iter__(self) -> Iterator[Graph]:  # type: ignore[override]
        """Batches of the epoch, or what is left of it. The order is drawn when the first batch is asked for."""
        # A generator, because Lightning makes its iterator before it sets the epoch.
        self._taken, self._taken_in = self._rest.start(), self._rest.sampler.epoch
        for batch in super().__iter__():
            self._taken += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Epoch and number of batches taken in it."""
        return {"epoch": self._taken_in, "batches": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batches that were taken before."""
        self._rest.resume_epoch = int(state["epoch"])
        self._rest.skip = int(state["batches"])
        self._rest.sampler.set_epoch(int(state["epoch"]))
