"""Replay: a share of each epoch is drawn from other data, usually those that a model was first trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import torch
from torch.utils.data import Dataset

from nequip_like.arguments import Positive, Range, check, check_key
from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import add_missing_labels, find_optional_fields
from nequip_like.data.prepared.frames import PreparedFrames, shift_energies
from nequip_like.data.prepared.on_demand import OnDemand
from nequip_like.data.prepared.sets import get_prepared
from nequip_like.data.sources import FileSource, file_source
from nequip_like.data.tables.frame_table import FrameTable
from nequip_like.errors import ConfigError

_FILE_KEYS = ("file", "path", "index", "key_mapping", "units", "trust_pickle")
_LIMITS = {"fraction": Annotated[float, Range(low=0, high=1, low_open=True, high_open=True)], "weight": Positive}


@dataclass(frozen=True)
class Replay:
    """Other data that are drawn from, and how often.

    Attributes:
        source: The files.
        fraction: Part of each epoch's frames that is drawn from them.
        weight: Weight of these frames in the loss; those of the training set have 1, or their own.
    """

    source: FileSource
    fraction: float
    weight: float

    @classmethod
    def read(
        cls, entry: Any, key_mapping: Mapping[str, str] | None = None, units: Mapping[str, str] | None = None
    ) -> Replay | None:
        """Read the argument ``replay`` of a :class:`~nequip_like.data.datamodule.DataModule`.

        Args:
            entry: ``{file, fraction, weight}`` and whatever else a data set may say (``index``, ``key_mapping``,
                ``units``); None for no replay.
            key_mapping: Used if the entry has none of its own.
            units: Used if the entry has none of its own.

        Raises:
            ConfigError: Naming the key that cannot be understood.
        """
        if entry is None:
            return None
        if not isinstance(entry, Mapping):
            raise ConfigError(f"replay is {entry!r}", "write replay: {file: old.xyz, fraction: 0.1}")
        keys = (*_FILE_KEYS, *_LIMITS)
        for key in entry:
            check_key("replay", key, keys)
        if "fraction" not in entry:
            raise ConfigError("replay has no 'fraction'", "give the part of each epoch that is drawn from it: 0.1")
        for key, annotation in _LIMITS.items():
            if key in entry:
                check(f"replay.{key}", entry[key], annotation)
        files = {key: value for key, value in entry.items() if key in _FILE_KEYS}
        source = file_source(files, "replay", key_mapping, units)
        return cls(source, float(entry["fraction"]), float(entry.get("weight", 1.0)))

    def count(self, frames: int) -> int:
        """Frames of replay in an epoch with so many frames of the training set.

        Raises:
            ConfigError: If it is none.

        Example:
            A fifth of an epoch: 100 training frames and 25 others.

            >>> Replay.read({"file": "old.xyz", "fraction": 0.2}).count(100)
            25
        """
        drawn = round(frames * self.fraction / (1.0 - self.fraction))
        if drawn == 0:
            raise ConfigError(
                f"replay.fraction is {self.fraction}, which is less than half a frame beside {frames} training frames",
                f"give at least {1.0 / (frames + 1.0):.2g}, or leave replay out",
            )
        return drawn


class ReplayedDataset(Dataset[Graph]):
    """The training set, and behind it the frames of replay, with the same fields in each.

    Args:
        train: The training set.
        replay: The other frames, made for the same species and cutoff.
        weight: Their weight, by which ``frame_weight`` is multiplied.
    """

    def __init__(self, train: GraphDataset, replay: GraphDataset, weight: float) -> None:
        self.parts = (train, replay)
        joined = JoinedFrames(train.frames, replay.frames, weight)
        # Frames of a prepared set are read when they are asked for; others are completed once.
        is_read = get_prepared(train.frames) or get_prepared(replay.frames)
        self.frames: Sequence[Graph] = joined if is_read else list(joined)

    def __len__(self) -> int:
        """Number of frames of both."""
        return len(self.frames)

    @cached_property
    def table(self) -> FrameTable:
        """What is known of each frame."""
        return FrameTable.join([part.table for part in self.parts])

    def __getitem__(self, index: int) -> Graph:
        """One frame; a new dictionary with shared tensors."""
        return dict(self.frames[index])

    def __getitems__(self, indices: Sequence[int]) -> list[Graph]:
        """Frames of a batch, as torch's loaders ask for them."""
        return [dict(self.frames[i]) for i in indices]

    def origin(self, index: int) -> str:
        """File and frame of a ``frame_index``."""
        train, replay = self.parts
        return train.origin(index) if index < len(train) else replay.origin(index - len(train))


class JoinedFrames(OnDemand[Graph]):
    """Frames of the training set and behind them those of replay, completed when they are asked for.

    Args:
        train: Those of the training set.
        replay: The others.
        weight: By which the ``frame_weight`` of the others is multiplied.
    """

    def __init__(self, train: Sequence[Graph], replay: Sequence[Graph], weight: float) -> None:
        self.parts, self.weight = (train, replay), weight
        # All frames of a set have the same labels.
        self._names = find_optional_fields([train[0], _apply_weight(replay[0], weight, 0)])

    def __len__(self) -> int:
        """Number of frames of both."""
        return sum(map(len, self.parts))

    def read_entry(self, position: int) -> Graph:
        """One frame."""
        train, replay = self.parts
        behind = position - len(train)
        frame = train[position] if behind < 0 else _apply_weight(replay[behind], self.weight, position)
        return add_missing_labels(frame, self._names)


def _apply_weight(frame: Graph, weight: float, index: int) -> Graph:
    graph = {**frame, fields.FRAME_INDEX: torch.tensor([index])}
    if weight != 1.0:
        row = fields.field(fields.FRAME_WEIGHT)
        frame_weight = frame.get(fields.FRAME_WEIGHT, torch.ones(1, *row.shape, dtype=row.dtype))
        graph[fields.FRAME_WEIGHT] = frame_weight * weight
    return graph


def move_energies(dataset: GraphDataset, changes: Mapping[str, float]) -> None:
    """Move the energies of all frames to other reference energies.

    Args:
        dataset: The data set; its energies are changed, in new tensors.
        changes: Energy to add for each atom of a species, eV.
    """
    by_type = torch.tensor([changes.get(name, 0.0) for name in dataset.type_names], dtype=torch.float64)
    frames = dataset.frames
    if isinstance(frames, PreparedFrames):
        dataset.frames = frames.with_shifts(by_type)
    else:
        dataset.frames = [shift_energies(frame, by_type) for frame in frames]
