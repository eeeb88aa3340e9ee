"""How large a batch is: so many frames, or as many frames as have so many atoms or edges together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nequip_like.arguments import Count, check, check_known_keys
from nequip_like.data import fields
from nequip_like.data.batches.packing import cut_in_order
from nequip_like.data.fields import Graph
from nequip_like.data.tables.frame_table import FrameTable
from nequip_like.errors import ConfigError
from nequip_like.process_settings import warn_once

FRAMES, ATOMS, EDGES = MEASURES = ("frames", "atoms", "edges")

#: What a config or a caller may write: a number of frames, or ``{frames: 5}``, ``{atoms: 512}``, ``{edges: 20000}``.
SizeOfBatch = Count | Mapping[str, Any]


@dataclass(frozen=True)
class BatchSize:
    """The most that a batch holds.

    Args:
        limit: So many of them.
        measure: ``frames``, ``atoms`` or ``edges`` (neighbours of all atoms: the length of the neighbour list).

    Example:
        >>> print(BatchSize.read("batch_size", 5), BatchSize.read("batch_size", {"atoms": 512}), sep=", ")
        5 frames, 512 atoms
    """

    limit: int
    measure: str = FRAMES

    @classmethod
    def read(cls, key: str, value: SizeOfBatch | BatchSize) -> BatchSize:
        """The size that a config or a caller asks for.

        Args:
            key: Name of the argument, for messages.
            value: A number of frames, or a mapping of one measure to a number.

        Raises:
            ConfigError: If it is neither.
        """
        if isinstance(value, BatchSize):
            return value
        if not isinstance(value, Mapping):
            check(key, value, SizeOfBatch)
            return cls(int(value))
        check_known_keys(key, value, MEASURES)
        if len(value) != 1:
            measures = " and ".join(map(str, value)) or "no measure"
            raise ConfigError(f"{key} has {measures}", f"give one: {key}={{atoms: 512}}")
        ((measure, limit),) = value.items()
        check(f"{key}.{measure}", limit, Count)
        return cls(int(limit), str(measure))

    @property
    def by_frames(self) -> bool:
        """Whether it is a number of frames, whatever these cost."""
        return self.measure == FRAMES

    def __str__(self) -> str:
        """Such as "512 atoms"."""
        return f"{self.limit} {self.measure if self.limit > 1 else self.measure.removesuffix('s')}"

    def describe_setting(self, global_batch_size: int | None = None) -> str:
        """The key that decides the size of the batches of a training, and its value.

        Args:
            global_batch_size: Frames of a step of all processes together, if that is given.

        Example:
            >>> BatchSize(5, "frames").describe_setting(), BatchSize(5, "frames").describe_setting(16)
            ('data.batch_size (5 frames)', 'data.global_batch_size (16 frames)')
        """
        if global_batch_size is None:
            return f"data.batch_size ({self})"
        return f"data.global_batch_size ({BatchSize(global_batch_size, self.measure)})"

    def check_steps(self, drop_last: bool, global_batch_size: int | None) -> None:
        """Refuse what only batches of a number of frames can have.

        Args:
            drop_last: Leave out an incomplete last batch.
            global_batch_size: Frames of a step of all processes together.

        Raises:
            ConfigError: If batches are filled by atoms or edges.
        """
        if self.by_frames:
            return
        size = f"batch_size is {{{self.measure}: {self.limit}}}"
        if drop_last:
            raise ConfigError(
                f"drop_last is true, but {size}: its batches are filled alike, and none is incomplete",
                "leave drop_last out",
            )
        if global_batch_size is not None:
            raise ConfigError(f"global_batch_size is {global_batch_size}, but {size}", "give one of them")

    def count_step_frames(self, world_size: int, global_batch_size: int | None = None) -> int | None:
        """Frames of a batch of all processes together; None where batches are filled by atoms or edges.

        Args:
            world_size: Number of processes.
            global_batch_size: What it is to be, if that is given.

        Raises:
            ConfigError: If there are fewer than processes.
        """
        if not self.by_frames:
            return None
        if global_batch_size is None:
            return self.limit * world_size
        if global_batch_size < world_size:
            raise ConfigError(
                f"global_batch_size is {global_batch_size}, but there are {world_size} processes",
                f"give {world_size} or more, or use fewer processes",
            )
        return global_batch_size

    def measure_frames(self, table: FrameTable) -> np.ndarray:
        """What each frame takes of the limit (frames,).

        A frame without edges takes one edge, or any number of isolated atoms would be one batch.

        Args:
            table: The table of the frames.
        """
        if self.by_frames:
            return np.ones(len(table), dtype=np.int64)
        return np.maximum(table.atoms if self.measure == ATOMS else table.edges, 1)

    def count_frames(self, table: FrameTable) -> float:
        """Number of frames of a batch, on average.

        Args:
            table: The table of the frames.
        """
        return self.limit / float(np.minimum(self.measure_frames(table), self.limit).mean())

    def count_process_frames(
        self, table: FrameTable, world_size: int = 1, global_batch_size: int | None = None
    ) -> float:
        """Number of frames of a batch of each process, on average.

        Args:
            table: The table of the frames.
            world_size: Number of processes.
            global_batch_size: Frames of all of them together, if that is given.
        """
        return self.count_frames(table) if global_batch_size is None else global_batch_size / world_size

    def cut(self, frames: Sequence[Graph]) -> list[list[int]]:
        """Numbers of the frames of each batch, in their order.

        Args:
            frames: Graphs with their edges; of a data set its table is asked.
        """
        if self.by_frames:
            return [list(range(i, min(i + self.limit, len(frames)))) for i in range(0, len(frames), self.limit)]
        table = getattr(frames, "table", None)
        if isinstance(table, FrameTable):
            costs = self.measure_frames(table)
        elif self.measure == ATOMS:
            costs = np.array([int(frame[fields.NUM_ATOMS][0]) for frame in frames])
        else:
            costs = np.array([max(1, frame[fields.EDGE_INDEX].shape[1]) for frame in frames])
        return cut_in_order(range(len(frames)), costs, self.limit)

    def describe_larger(self, table: FrameTable, name: str) -> str | None:
        """Frames that are larger than the limit, each of which is a batch of its own; None if there are none.

        Args:
            table: The table of the frames.
            name: Name of the data set.
        """
        costs = self.measure_frames(table)
        count = int((costs > self.limit).sum())
        if self.by_frames or not count:
            return None
        subject = (
            f"a frame has more than {self} and is" if count == 1 else f"{count} frames have more than {self}, each"
        )
        return f"{name}: {subject} a batch of its own; the largest has {costs.max()}"


def check_batch_sizes(entries: Mapping[str, Any]) -> None:
    """Refuse sizes of batches in a section ``data`` that mean nothing.

    Args:
        entries: The sizes by their keys; None is a default.

    Raises:
        ConfigError: With the whole key.
    """
    for key, value in entries.items():
        if value is not None:
            BatchSize.read(f"data.{key}", value)


def list_costs(size: BatchSize, tables: Mapping[str, FrameTable]) -> dict[str, Any]:
    """What a sampler is told of frames whose batches have no fixed number of them; nothing where they have.

    Frames that are larger than a batch are told of once.

    Args:
        size: The size of a batch.
        tables: Tables of one or several data sets by name, whose frames are numbered one behind the other.
    """
    if size.by_frames:
        return {}
    for name, table in tables.items():
        if larger := size.describe_larger(table, name):
            warn_once(larger)
    costs = np.concatenate([size.measure_frames(table) for table in tables.values()])
    return {"costs": costs, "measure": size.measure}
