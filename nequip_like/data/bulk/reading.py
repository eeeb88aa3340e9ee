"""Files of any size as runs of structures: one piece after the other, each of which fits into memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase import Atoms

from nequip_like.data import fields
from nequip_like.data.batches.batch_size import BatchSize
from nequip_like.data.batches.packing import cut_in_order
from nequip_like.data.bulk.plain_text import read_plain_text
from nequip_like.data.bulk.structures import Remarks, StructureArrays, split_origin
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.data.io.readers import read_structures
from nequip_like.data.io.reading import Reading
from nequip_like.data.prepared.frames import PreparedFrames
from nequip_like.data.prepared.pieces import Piece, halve_piece, list_begins
from nequip_like.data.prepared.provenance import find_changed_source
from nequip_like.data.prepared.sets import find_prepared, open_prepared
from nequip_like.data.prepared.tasks import PreparationRequest, Task, list_tasks
from nequip_like.data.species import type_table
from nequip_like.errors import ConfigError, DataError

PIECE = 1_000_000  # bytes of a large file that are read at once; some 1,600 frames of small molecules
_PREPARED_FRAMES = 2048  # that are read at once


@dataclass(frozen=True)
class ReadBatch:
    """A batch of structures in the order of their files.

    Attributes:
        graph: With types and neighbours.
        structures: The same as arrays, without neighbours.
        chosen: Which of these the batch has.
    """

    graph: Graph
    structures: StructureArrays
    chosen: range


class StructureRun(ABC):
    """A run of structures that is read, predicted and written before the next one is."""

    @abstractmethod
    def read_batches(
        self, cutoff: float, type_names: Sequence[str], size: BatchSize, remarks: bool
    ) -> Iterator[ReadBatch]:
        """The structures of the run, batch by batch; no batch goes beyond a run.

        Args:
            cutoff: The model's cutoff, Angstrom.
            type_names: The model's species.
            size: The size of a batch.
            remarks: Whether what frames hold beside their structure is asked for.

        Raises:
            DataError: If a structure cannot be read or cannot be right, or has a species that the model does not know.
        """

    @abstractmethod
    def halve(self) -> tuple[StructureRun, StructureRun] | None:
        """Both halves of the run, to find out which of its frames is broken; None where it has no halves."""

    @abstractmethod
    def locate(self) -> tuple[str, int | None]:
        """The file, and the number of the first frame in it; None of a whole file that cannot be taken apart."""

    @property
    def is_rest(self) -> bool:
        """Whether it is the end of a text whose frames cannot be told apart."""
        return False

    @property
    @abstractmethod
    def files(self) -> set[str]:
        """The files that its first and its last frame are of."""


@dataclass(frozen=True)
class _PreparedRun(StructureRun):
    """Frames of a prepared set."""

    frames: Reading

    def read_batches(
        self, cutoff: float, type_names: Sequence[str], size: BatchSize, remarks: bool
    ) -> Iterator[ReadBatch]:
        return _read_prepared(self.frames, cutoff, type_names, size, remarks)

    def halve(self) -> tuple[StructureRun, StructureRun] | None:
        count = len(self.frames)
        if count < 2:
            return None
        first, second = np.arange(count // 2), np.arange(count // 2, count)
        return _PreparedRun(self.frames.select(first)), _PreparedRun(self.frames.select(second))

    def locate(self) -> tuple[str, int | None]:
        return split_origin(self.frames.origins[0])

    @property
    def files(self) -> set[str]:
        return {split_origin(self.frames.origins[i])[0] for i in (0, len(self.frames) - 1)}


@dataclass(frozen=True)
class _FileRun(StructureRun):
    """A file or a piece of one.

    Attributes:
        task: The file or piece.
        trust_pickle: Read files of pickles, too.
        frames: Some of its frames and the number of the first, of a file that can only be read as a whole.
    """

    task: Task
    trust_pickle: bool
    frames: tuple[int, Sequence[Atoms]] | None = None

    def read_batches(
        self, cutoff: float, type_names: Sequence[str], size: BatchSize, remarks: bool
    ) -> Iterator[ReadBatch]:
        types, structures = type_table(list(type_names)), self._read(remarks)
        costs = None if size.by_frames else structures.measure(size.measure, cutoff, types, type_names)
        for chosen in _cut(len(structures), size, costs):
            yield ReadBatch(structures.make_batch(chosen, cutoff, types, type_names), structures, chosen)

    def halve(self) -> tuple[StructureRun, StructureRun] | None:
        task = self.task
        try:
            if self.frames is None and (pieces := halve_piece(task.member.file, task.piece, self.trust_pickle)):
                first, second = (replace(self, task=replace(task, piece=piece)) for piece in pieces)
                return first, second
            number, frames = self.frames or (0, self._read_frames())
        except DataError:
            return None  # not even opened
        middle = len(frames) // 2
        if middle == 0:
            return None
        parts = (number, frames[:middle]), (number + middle, frames[middle:])
        return replace(self, frames=parts[0]), replace(self, frames=parts[1])

    def locate(self) -> tuple[str, int | None]:
        title, piece = self.task.member.title, self.task.piece
        if self.frames is not None:
            return title, self.frames[0]
        return title, None if piece is None else piece.frame

    @property
    def is_rest(self) -> bool:
        if not isinstance(self.task.piece, Piece):
            return False
        begins, _ = list_begins(self.task.member.file, self.task.piece)
        return len(begins) == 1

    @property
    def files(self) -> set[str]:
        return {self.task.member.title}

    def _read(self, remarks: bool) -> StructureArrays:
        member, piece = self.task.member, self.task.piece
        with member.naming():
            if self.frames is None and (plain := _read_plain(member.file, piece, remarks)) is not None:
                return replace(plain, title=member.title)
            first, atoms = self.frames or (0 if piece is None else piece.frame, self._read_frames())
            kept = [Remarks.collect(one.info, one.arrays) for one in atoms] if remarks else ()
            return StructureArrays.of_atoms(atoms, member.title, first, kept)

    def _read_frames(self) -> list[Atoms]:
        return read_structures([self.task.member.file], trust_pickle=self.trust_pickle, piece=self.task.piece)[0]


@contextmanager
def open_runs(
    files: str | Path | Sequence[str | Path], trust_pickle: bool = False, piece: int = PIECE, with_broken: bool = False
) -> Iterator[tuple[list[dict[str, Any]], list[StructureRun]]]:
    """The runs of files, in order; archives stay unpacked as long as the context lasts.

    Args:
        files: Files, folders that are data sets, patterns, archives; or the files of prepared sets.
        trust_pickle: Read files of pickles, too.
        piece: Bytes of a piece. Files that can only be read from their begin are one piece.
        with_broken: A file that cannot be opened, or a text that cannot be read to its end, is an error when its run
            is read, and not before.

    Returns:
        What is known of each source, with the ``sha256`` of its content, and the runs.

    Raises:
        ConfigError: If there is no file, or prepared sets and other files are mixed.
        DataError: If there is no such file, or it cannot be opened.
    """
    members = [files] if isinstance(files, str | Path) else list(files)
    if not members or not all(isinstance(member, str | Path) for member in members):
        raise ConfigError("there are no files to predict", "give files, folders of data sets or patterns")
    if prepared := find_prepared(members):
        reading = open_prepared(prepared)
        starts = range(0, len(reading), _PREPARED_FRAMES)
        runs = [np.arange(start, min(start + _PREPARED_FRAMES, len(reading))) for start in starts]
        identity = cast(PreparedFrames, reading.frames).fingerprint()
        yield [{"sha256": identity}], [_PreparedRun(reading.select(run)) for run in runs]
        return
    request = PreparationRequest([str(member) for member in members], 1.0, trust_pickle=trust_pickle)
    with list_tasks(request, piece, with_rest=with_broken, with_unreadable=with_broken) as (sources, tasks, _):
        own = [source for source in sources if source["sha256"]]  # of what is in an archive only the archive has one
        yield own, [_FileRun(task, trust_pickle) for task in tasks]


def check_unchanged(sources: Sequence[Mapping[str, Any]]) -> None:
    """Refuse sources that are others than when they were opened: of a file that is being written any part was read.

    Args:
        sources: As :func:`open_runs` gave them.

    Raises:
        DataError: Naming the first one.
    """
    files = [source for source in sources if "path" in source]  # a prepared set compares its own checksums
    if (changed := find_changed_source(files)) is not None:
        raise DataError(f"{changed} was changed while it was read", "wait until it is whole, and begin again")


def _read_plain(path: Path, piece: object, remarks: bool) -> StructureArrays | None:
    """The structures of plain extended XYZ text, quickly; None of anything else."""
    if path.suffix.lower() not in (".xyz", ".extxyz") or not (piece is None or isinstance(piece, Piece)):
        return None
    with path.open("rb") as file:
        file.seek(0 if piece is None else piece.start)
        content = file.read() if piece is None else file.read(piece.stop - piece.start)
    if not content.isascii() or b"\r" in content or b"\0" in content:
        return None
    return read_plain_text(content.decode("ascii"), str(path), 0 if piece is None else piece.frame, remarks)


def _read_prepared(
    reading: Reading, cutoff: float, type_names: Sequence[str], size: BatchSize, remarks: bool
) -> Iterator[ReadBatch]:
    """Prepared frames, whose neighbours are known."""
    dataset = GraphDataset(reading, cutoff, type_names, name="prepared")
    costs = None if size.by_frames else size.measure_frames(dataset.table)
    for chosen in _cut(len(dataset), size, costs):
        graph = collate(dataset.__getitems__(chosen))
        kept = [Remarks.collect(one.info, one.arrays) for one in (reading.annotations[i] for i in chosen)]
        structures = StructureArrays(
            graph[fields.ATOMIC_NUMBERS].numpy(),
            graph[fields.POSITIONS].numpy(),
            graph[fields.NUM_ATOMS].numpy(),
            graph[fields.CELL].numpy(),
            graph[fields.PBC].numpy(),
            dataset.name,
            0,
            kept if remarks else (),
            [dataset.origin(i) for i in chosen],
        )
        yield ReadBatch(graph, structures, range(len(chosen)))


def _cut(count: int, size: BatchSize, costs: np.ndarray | None) -> Iterator[range]:
    """Runs of structures that are batches."""
    if costs is None:
        for start in range(0, count, size.limit):
            yield range(start, min(start + size.limit, count))
        return
    for indices in cut_in_order(range(count), costs, size.limit):
        yield range(indices[0], indices[-1] + 1)
