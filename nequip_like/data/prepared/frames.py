"""Prepared frames as a sequence: each is read from its file when it is asked for, and held where there is room."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import frame_key
from nequip_like.data.prepared.files import FrameFile, Rows
from nequip_like.data.prepared.on_demand import OnDemand
from nequip_like.data.prepared.records import estimate_bytes, is_intact, unpack_frames
from nequip_like.data.tables.frame_table import FrameTable
from nequip_like.errors import DataError


class PreparedFiles:
    """Files of one prepared set, with the frames that are held in memory.

    Args:
        files: The files, in order.
        names: Labels and weights that each frame shall have.

    Attributes:
        holds: Whether frames stay in memory once they were read.
    """

    def __init__(self, files: Sequence[FrameFile], names: Sequence[str]) -> None:
        self.files = list(files)
        self.names = tuple(names)
        self.rows = Rows.join([file.rows for file in files]) if len(files) > 1 else files[0].rows
        self._ends = list(accumulate(len(file.rows.table) for file in files))
        self._sources = [source["path"] for file in files for source in file.manifest["sources"]]
        counts = [len(file.manifest["sources"]) for file in files]
        self._first_source = np.cumsum(counts) - counts
        self._held: dict[int, Graph] = {}
        self.holds = False

    @cached_property
    def memory(self) -> float:
        """What all frames take in memory, bytes."""
        return estimate_bytes(self.rows.table)

    def read(self, indices: Sequence[int]) -> Graph:
        """A batch of frames by their numbers in the set, read now."""
        return unpack_frames([self._read_record(index) for index in indices], self.names)

    def get(self, index: int) -> Graph:
        """A frame by its number in the set; a new dictionary, whose tensors are not to be changed."""
        held = self._held.get(index)
        if held is None:
            held = self.read([index])
            del held[fields.BATCH]
            if self.holds:
                self._held[index] = held
        return dict(held)

    def locate(self, index: int) -> tuple[int, int]:
        """In which of the files a frame stands, and its number there."""
        part = bisect_right(self._ends, index)
        return part, index - self._ends[part] + len(self.files[part].rows.table)

    def _read_record(self, index: int) -> bytes:
        part, number = self.locate(index)
        file = self.files[part]
        record = file.read_record(number)
        if not is_intact(record):
            raise DataError(
                f"{file.path.absolute()} is damaged, in its frame {number} ({self.describe(index)})",
                "prepare the set again (nequip-data prepare), or copy the file again",
            )
        return record

    def describe(self, index: int) -> str:
        """Source file and frame, ``train.xyz frame 12``."""
        part = bisect_right(self._ends, index)
        source = self._sources[int(self._first_source[part]) + int(self.rows.source[index])]
        return f"{source} frame {int(self.rows.number[index])}"

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process, without the frames that are held here."""
        return {**self.__dict__, "_held": {}}


class PreparedFrames(OnDemand[Graph]):
    """Some or all frames of a prepared set, in an order.

    Args:
        files: The set.
        indices: Which of its frames; all by default.
        types: Atom type of each atomic number, if frames shall have their types and indices.
        shifts: Energy that is added for each atom of a type, eV.
    """

    def __init__(
        self,
        files: PreparedFiles,
        indices: np.ndarray | None = None,
        types: torch.Tensor | None = None,
        shifts: torch.Tensor | None = None,
    ) -> None:
        self.files = files
        self._shifts = shifts
        self.indices = np.arange(len(files.rows.table)) if indices is None else np.asarray(indices, dtype=np.int64)
        self._types = types

    @classmethod
    def join(cls, parts: Sequence[PreparedFrames]) -> PreparedFrames:
        """The frames of several sets, one behind the other, each with the labels of all."""
        names = dict.fromkeys(name for part in parts for name in part.files.names)
        sizes = [len(part.files.rows.table) for part in parts]
        indices = [part.indices + sum(sizes[:i]) for i, part in enumerate(parts)]
        return cls(
            PreparedFiles([file for part in parts for file in part.files.files], list(names)), np.concatenate(indices)
        )

    @cached_property
    def table(self) -> FrameTable:
        """What is known of each of these frames."""
        everything = self.files.rows.table
        in_order = len(self.indices) == len(everything) and bool((self.indices == np.arange(len(everything))).all())
        return everything if in_order else everything.select(self.indices)

    @property
    def keys(self) -> np.ndarray:
        """Hash of each structure (frames, 2), as :func:`list_keys` gives it."""
        return self.files.rows.key[self.indices]

    def select(self, indices: Sequence[int] | np.ndarray) -> PreparedFrames:
        """Some of these frames."""
        chosen = self.indices[np.asarray(indices, dtype=np.int64)]
        return PreparedFrames(self.files, chosen, self._types, self._shifts)

    def with_types(self, types: torch.Tensor) -> PreparedFrames:
        """These frames with the atom types of a model, numbered from 0 on."""
        return PreparedFrames(self.files, self.indices, types, self._shifts)

    def with_shifts(self, shifts: torch.Tensor) -> PreparedFrames:
        """These frames with other energies.

        Args:
            shifts: Energy to add for each atom of a type, eV (types,).
        """
        before = torch.zeros_like(shifts) if self._shifts is None else self._shifts
        return PreparedFrames(self.files, self.indices, self._types, before + shifts)

    def describe(self, index: int) -> str:
        """Source file and frame of one of these frames."""
        return self.files.describe(int(self.indices[index]))

    def fingerprint(self) -> str:
        """A number that tells sets apart: of the sums over all records, and of which frames these are."""
        digest = hashlib.blake2b(digest_size=16)
        for file in self.files.files:
            digest.update(str(file.manifest["checksum"]).encode())
        digest.update(self.indices.astype("<i8").tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.indices)

    def read_entry(self, position: int) -> Graph:
        """One frame."""
        return self._complete(self.files.get(int(self.indices[position])), [position])

    def read_batch(self, indices: Sequence[int]) -> list[Graph]:
        """Frames to be joined to a batch; those that are not held in memory are read and joined at once.

        Args:
            indices: Which of these frames, counted from 0.

        Returns:
            The frames, or a batch of them.
        """
        if self.files.holds or self._shifts is not None:
            return [self[i] for i in indices]
        return [self._complete(self.files.read(self.indices[list(indices)].tolist()), indices)]

    def _complete(self, graph: Graph, indices: Sequence[int]) -> Graph:
        if self._types is not None:
            graph[fields.ATOM_TYPES] = self._types[graph[fields.ATOMIC_NUMBERS]]
        graph[fields.FRAME_INDEX] = torch.from_numpy(np.array(indices))
        return graph if self._shifts is None else shift_energies(graph, self._shifts)


def shift_energies(frame: Graph, shifts: torch.Tensor) -> Graph:
    """One frame with other energies.

    Args:
        frame: The frame, with its atom types.
        shifts: Energy to add for each atom of a type, eV (types,).
    """
    shifted, of_atoms = dict(frame), shifts[frame[fields.ATOM_TYPES]]
    if fields.TOTAL_ENERGY in frame:
        shifted[fields.TOTAL_ENERGY] = frame[fields.TOTAL_ENERGY] + of_atoms.sum()
    if fields.PER_ATOM_ENERGY in frame:
        shifted[fields.PER_ATOM_ENERGY] = frame[fields.PER_ATOM_ENERGY] + of_atoms.unsqueeze(1)
    return shifted


class Origins(OnDemand[str]):
    """Source file and frame of prepared frames, put into words when they are asked for.

    Args:
        frames: The frames.
    """

    def __init__(self, frames: PreparedFrames) -> None:
        self._frames = frames

    def select(self, indices: Sequence[int] | np.ndarray) -> Origins:
        """The origins of some of the frames."""
        return Origins(self._frames.select(indices))

    def __len__(self) -> int:
        return len(self._frames)

    def read_entry(self, position: int) -> str:
        """One origin."""
        return self._frames.describe(position)


def select_frames(frames: Sequence[Graph], indices: Sequence[int] | np.ndarray) -> Sequence[Graph]:
    """Some frames, in the order of the indices; prepared ones are not read for it."""
    return frames.select(indices) if isinstance(frames, PreparedFrames) else [frames[i] for i in indices]


def select_origins(origins: Sequence[str], indices: Sequence[int] | np.ndarray) -> Sequence[str]:
    """Where some frames come from, in the order of the indices."""
    return origins.select(indices) if isinstance(origins, Origins) else [origins[i] for i in indices]


def write_key(key: np.ndarray) -> str:
    """The hash of a structure of :func:`list_keys` as :func:`nequip_like.data.graph.frame_key` writes it."""
    return "".join(f"{int(half):016x}" for half in key)


def list_keys(frames: Sequence[Graph]) -> np.ndarray:
    """Hash of each structure (:func:`nequip_like.data.graph.frame_key`) as two numbers of 64 bits (frames, 2).

    Prepared frames know theirs.
    """
    if isinstance(frames, PreparedFrames):
        return frames.keys
    text = "".join(frame_key(frame) for frame in frames)
    return np.frombuffer(bytes.fromhex(text), ">u8").reshape(-1, 2).astype(np.uint64)
