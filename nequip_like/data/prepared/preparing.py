"""From files to a prepared set: each is read, checked and given its neighbour lists once, whatever trains on it later.

Files, and pieces of large ones, are worked on one by one by several processes, and what each gives is written down
before the next: a preparation that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols as symbol_of

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.checks.findings import Subject
from nequip_like.data.inspection.checks.table import warn_of
from nequip_like.data.io.annotations import Annotations
from nequip_like.data.io.given import expand
from nequip_like.data.io.readers import check_declared, read
from nequip_like.data.io.reading import Reading, join_label_names
from nequip_like.data.labels.names import FrameNames, check_declared_names, checked_mapping
from nequip_like.data.prepared.files import FrameFile, Rows, begin_file, end_file, is_prepared
from nequip_like.data.prepared.frames import Origins, PreparedFiles, PreparedFrames
from nequip_like.data.prepared.pieces import Piece, cut_into_pieces
from nequip_like.data.prepared.provenance import describe_source
from nequip_like.data.prepared.records import pack_frame
from nequip_like.data.tables.frame_table import OPTIONAL_FIELDS
from nequip_like.errors import ConfigError, DataError, OutputError
from nequip_like.whole_files import output_errors, path_of, written_whole

_PIECE = 8_000_000  # bytes of a large file that are read at once; some 10,000 small frames take 300 MB as objects
_MOST_NOTES = 50  # sentences that are kept
_SAMPLED = 1e8  # bytes of frames that are looked at together
_PROGRESS, _RECORDS = "progress.json", "records"


@dataclass(frozen=True)
class PreparationRequest:
    """What is to be prepared.

    Attributes:
        files: The sources: files or patterns.
        cutoff: Cutoff radius of the neighbour lists, Angstrom.
        key_mapping: ``{name in the file: label}``.
        units: As for :class:`nequip_like.data.labels.units.Units`.
        shard: ``(i, n)``: only the i-th of n parts of the sources, counted from 1.
        trust_pickle: Read files of pickles, too.
    """

    files: Sequence[str]
    cutoff: float
    key_mapping: Mapping[str, str] | None = None
    units: Mapping[str, str] | None = None
    shard: tuple[int, int] | None = None
    trust_pickle: bool = False


@dataclass(frozen=True)
class PreparedSummary:
    """What a preparation came to.

    Attributes:
        path: The file that was written.
        frames: Number of its frames.
        resumed: Number of frames that an earlier, stopped preparation had left.
        notes: What a user should know about the frames.
    """

    path: Path
    frames: int
    resumed: int
    notes: list[str]


@dataclass(frozen=True)
class _Task:
    """A source, or a piece of one."""

    path: str
    source: int
    piece: Piece | None


@dataclass(frozen=True)
class _Result:
    """What a task gives: records of its frames, the rows with starts counted from 0, and what is known of them."""

    records: bytes
    rows: Rows
    facts: dict[str, Any]


def prepare_set(
    request: PreparationRequest,
    output: str | Path,
    *,
    workers: int = 1,
    overwrite: bool = False,
    tell: Callable[[int, int, int], None] = lambda done, tasks, frames: None,
) -> PreparedSummary:
    """Write the frames of files, with neighbour lists, into one prepared set.

    Frames stand in the order of the sources. A sum over every record tells when one was changed. Beside the file lies
    a folder ``OUTPUT.part`` until it is whole; the same request goes on with it.

    Args:
        request: What is to be prepared.
        output: The file to be written; with a shard, the folder of the parts.
        workers: Processes.
        overwrite: Whether a set that is there already is replaced.
        tell: Called after each source or piece with how many are done, how many there are, and the frames so far.

    Raises:
        ConfigError: If the request cannot be understood.
        DataError: If a source cannot be read or a frame cannot be right, as when training on it.
        OutputError: If the output is there already, or cannot be written.
    """
    check_declared(request.key_mapping, request.units)
    target = _find_target(path_of(output), request.shard)
    if target.exists() and not overwrite:
        raise OutputError(f"{target.absolute()} is there already", "give another name, or --overwrite")
    sources = _list_sources(request)
    part = target.with_name(target.name + ".part")
    with output_errors(part):
        part.mkdir(parents=True, exist_ok=True)
    journal = _Journal(part, request, [describe_source(path.absolute()) for path in sources])
    tasks = [
        _Task(str(path), number, piece)
        for number, path in enumerate(sources)
        for piece in cut_into_pieces(path, _PIECE)
    ]
    resumed = journal.frames
    rest = tasks[len(journal.done) :]
    for result in _work(rest, request, workers):
        journal.add(result)
        tell(len(journal.done), len(tasks), journal.frames)
    names = FrameNames.join(
        FrameNames(frozenset(facts["names"][0]), frozenset(facts["names"][1])) for facts in journal.done
    )
    check_declared_names(", ".join(request.files), [names], checked_mapping(request.key_mapping))
    notes = journal.finish(target)
    return PreparedSummary(target, journal.frames, resumed, notes)


def _find_target(output: Path, shard: tuple[int, int] | None) -> Path:
    if shard is None:
        if output.is_dir():
            raise OutputError(f"{output.absolute()} is a folder", "give the name of a file, or --shard i/n")
        return output
    number, count = shard
    if not 1 <= number <= count:
        raise ConfigError(f"shard is {number}/{count}", "the parts are counted from 1: --shard 1/4 to --shard 4/4")
    return output / f"part-{number:05d}-of-{count:05d}.frames"


def _list_sources(request: PreparationRequest) -> list[Path]:
    sources = expand(request.files)
    if prepared := [path for path in sources if is_prepared(path)]:
        raise ConfigError(f"{prepared[0]} is a prepared set already", "give the files that it was prepared from")
    if request.shard is None:
        return sources
    number, count = request.shard
    if count > len(sources):
        raise ConfigError(
            f"--shard {number}/{count}, but there are {len(sources)} files", "give as many files as parts, or more"
        )
    return sources[number - 1 :: count]


def _work(tasks: Sequence[_Task], request: PreparationRequest, workers: int) -> Iterator[_Result]:
    """Results in the order of the tasks; no more of them wait than there are processes."""
    if workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            yield _prepare_task(task, request)
        return
    # Not forked: torch's threads do not survive it.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_use_one_thread) as pool:
        waiting: list[Future[_Result]] = []
        try:
            for task in tasks:
                waiting.append(pool.submit(_prepare_task, task, request))
                if len(waiting) > workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process that prepared frames was ended from outside, most likely for want of memory",
                "give fewer --workers, and the same command again: it goes on where it was",
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def _use_one_thread() -> None:
    torch.set_num_threads(1)


def _prepare_task(task: _Task, request: PreparationRequest) -> _Result:
    """Read a source or a piece of it, check its frames, and pack them."""
    reading = read(
        [task.path],
        key_mapping=request.key_mapping,
        units=request.units,
        trust_pickle=request.trust_pickle,
        piece=task.piece,
    )
    first = 0 if task.piece is None else task.piece.frame
    numbers = np.unique(np.concatenate([frame[fields.ATOMIC_NUMBERS].numpy() for frame in reading.frames]))
    species = [symbol_of[number] for number in numbers]
    dataset = GraphDataset(reading, request.cutoff, species, name=Path(task.path).stem)
    records = [pack_frame(frame) for frame in dataset.frames]
    length = np.array([len(record) for record in records], dtype=np.int64)
    rows = Rows(
        table=dataset.table,
        start=np.cumsum(length) - length,
        length=length,
        key=dataset.keys,
        source=np.full(len(records), task.source),
        number=first + np.arange(len(records)),
    )
    facts = {
        "names": [sorted(reading.names.graph), sorted(reading.names.node)],
        "label_names": reading.label_names,
        "free_energy_gap": reading.free_energy_gap,
        "fields": [name for name in OPTIONAL_FIELDS if name in dataset.frames[0]],
        "notes": reading.notes,
    }
    return _Result(b"".join(records), rows, facts)


class _Journal:
    """What a preparation has done so far, in a folder beside its output: safe against being stopped at any moment.

    Args:
        folder: The folder.
        request: What is prepared; another request's work is thrown away.
        sources: What is known of each source.
    """

    def __init__(self, folder: Path, request: PreparationRequest, sources: Sequence[Mapping[str, Any]]) -> None:
        self.folder = folder
        self.request = json.loads(json.dumps(asdict(replace(request, files=list(request.files)))))
        self.sources = list(sources)
        self.done: list[dict[str, Any]] = []
        path = folder / _PROGRESS
        if path.exists():
            kept = json.loads(path.read_text())
            if kept["request"] == self.request and kept["sources"] == self.sources:
                self.done = kept["done"]
        with (
            output_errors(self._records),
            self._records.open("r+b") if self.done else self._records.open("wb") as file,
        ):
            if not self.done:
                begin_file(file)
            file.truncate(self.done[-1]["end"] if self.done else file.tell())

    @property
    def frames(self) -> int:
        """Number of frames that are done."""
        return sum(facts["frames"] for facts in self.done)

    @property
    def _records(self) -> Path:
        return self.folder / _RECORDS

    def add(self, result: _Result) -> None:
        """Write down what a task gave."""
        with output_errors(self._records), self._records.open("ab") as file:
            start = file.tell()
            file.write(result.records)
            file.flush()
            os.fsync(file.fileno())
            end = file.tell()
        rows = replace(result.rows, start=result.rows.start + start)
        with written_whole(self.folder / f"{len(self.done):06d}.npz") as partial:
            partial.write_bytes(rows.pack())
        checksum = zlib.crc32(result.records, self.done[-1]["checksum"] if self.done else 0)
        self.done.append({**result.facts, "frames": len(rows.table), "end": end, "checksum": checksum})
        with written_whole(self.folder / _PROGRESS) as partial:
            kept = {"request": self.request, "sources": self.sources, "done": self.done}
            partial.write_text(json.dumps(kept))

    def finish(self, target: Path) -> list[str]:
        """Put table and manifest behind the records, and the whole in its place; gives back the notes."""
        rows = Rows.join([Rows.unpack((self.folder / f"{i:06d}.npz").read_bytes()) for i in range(len(self.done))])
        notes = list(dict.fromkeys(note for facts in self.done for note in facts["notes"]))
        if len(notes) > _MOST_NOTES:
            notes = [*notes[:_MOST_NOTES], f"{len(notes) - _MOST_NOTES} more sentences of this kind are left out"]
        manifest = {
            "cutoff": self.request["cutoff"],
            "key_mapping": self.request["key_mapping"] or {},
            "units": self.request["units"] or {},
            "shard": self.request["shard"],
            "sources": self.sources,
            "fields": [name for name in OPTIONAL_FIELDS if any(name in facts["fields"] for facts in self.done)],
            "label_names": join_label_names(facts["label_names"] for facts in self.done),
            "free_energy_gap": max(facts["free_energy_gap"] for facts in self.done),
            "notes": notes,
            "species": rows.table.count_species(),
            "labels": rows.table.count_labels(),
            "checksum": self.done[-1]["checksum"],
        }
        self._write_end(rows, manifest)
        # Only now can frames be read again, and looked at together.
        manifest["notes"] = notes + _look_at_sample(self._records)
        self._write_end(rows, manifest)
        with output_errors(target):
            self._records.replace(target)
            shutil.rmtree(self.folder)
        return manifest["notes"]

    def _write_end(self, rows: Rows, manifest: Mapping[str, Any]) -> None:
        with output_errors(self._records), self._records.open("r+b") as file:
            file.truncate(self.done[-1]["end"])
            file.seek(0, os.SEEK_END)
            end_file(file, rows, manifest)
            file.flush()
            os.fsync(file.fileno())


def _look_at_sample(path: Path) -> list[str]:
    """What looks wrong in the frames of a set, or in so many of them, evenly taken, as fit into memory."""
    file = FrameFile(path)
    prepared = PreparedFiles([file], file.manifest["fields"])
    frames = PreparedFrames(prepared)
    step = math.ceil(prepared.memory / _SAMPLED)
    sample = frames.select(np.arange(0, len(frames), step))
    prepared.holds = True  # several checks look at each frame
    reading = Reading(sample, Origins(sample), annotations=[Annotations()] * len(sample))
    problems = warn_of(Subject(GraphDataset(reading, file.manifest["cutoff"], list(file.manifest["species"]))))
    return problems if step == 1 else [f"in {len(sample)} of {len(frames)} frames: {problem}" for problem in problems]
