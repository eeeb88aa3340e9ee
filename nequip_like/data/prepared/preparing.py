"""From files to a prepared set: each is read, checked and given its neighbour lists once, whatever trains on it later.

Files, and pieces of large ones, are worked on one by one by several processes, and what each gives is written down
before the next: a preparation that was stopped goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols as symbol_of

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.checks.findings import Subject
from nequip_like.data.inspection.checks.table import warn_of
from nequip_like.data.io.annotations import Annotations
from nequip_like.data.io.readers import check_declared, read
from nequip_like.data.io.reading import Reading
from nequip_like.data.io.sets.frame_sets import KEPT_OPEN
from nequip_like.data.labels.names import FrameNames, check_declared_names, checked_mapping
from nequip_like.data.prepared.annotations import pack_annotations
from nequip_like.data.prepared.files import FrameFile, Rows
from nequip_like.data.prepared.frames import Origins, PreparedFiles, PreparedFrames
from nequip_like.data.prepared.journal import Journal, TaskResult
from nequip_like.data.prepared.records import pack_frame
from nequip_like.data.prepared.tasks import PreparationRequest, Task, list_tasks
from nequip_like.data.tables.frame_table import OPTIONAL_FIELDS
from nequip_like.errors import ConfigError, DataError, OutputError
from nequip_like.whole_files import check_absent, output_errors, path_of

_PIECE = 8_000_000  # bytes of a large file that are read at once; some 10,000 small frames take 300 MB as objects
_SAMPLED = 1e8  # bytes of frames that are looked at together


@dataclass(frozen=True)
class PreparedSummary:
    """What a preparation came to.

    Attributes:
        path: The file that was written.
        frames: Number of its frames.
        resumed: Number of frames that an earlier, stopped preparation had left.
        notes: What a user should know about the frames.
        cutoff: Cutoff radius of the neighbour lists, Angstrom.
    """

    path: Path
    frames: int
    resumed: int
    notes: list[str]
    cutoff: float


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
    check_absent(target, overwrite)
    part = target.with_name(target.name + ".part")
    with output_errors(part):
        part.mkdir(parents=True, exist_ok=True)
    content = asdict(replace(request, files=list(request.files)))
    with list_tasks(request, _PIECE) as (sources, tasks, told), Journal(part, content, sources) as journal:
        resumed = journal.frames
        with closing(KEPT_OPEN):
            for result in _work(tasks[len(journal.done) :], request, workers):
                journal.add(result)
                tell(len(journal.done), len(tasks), journal.frames)
        names = FrameNames.join(
            FrameNames(frozenset(facts["names"][0]), frozenset(facts["names"][1])) for facts in journal.done
        )
        check_declared_names(", ".join(request.files), [names], checked_mapping(request.key_mapping))
        notes = journal.finish(target, told, _look_at_sample)
    return PreparedSummary(target, journal.frames, resumed, notes, request.cutoff)


def _find_target(output: Path, shard: tuple[int, int] | None) -> Path:
    if shard is None:
        if output.is_dir():
            raise OutputError(f"{output.absolute()} is a folder", "give the name of a file, or --shard i/n")
        return output
    number, count = shard
    if not 1 <= number <= count:
        raise ConfigError(f"shard is {number}/{count}", "the parts are counted from 1: --shard 1/4 to --shard 4/4")
    return output / f"part-{number:05d}-of-{count:05d}.frames"


def _work(tasks: Sequence[Task], request: PreparationRequest, workers: int) -> Iterator[TaskResult]:
    """Results in the order of the tasks; no more of them wait than there are processes."""
    if workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            yield _prepare_task(task, request)
        return
    # Not forked: torch's threads do not survive it.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_use_one_thread) as pool:
        waiting: list[Future[TaskResult]] = []
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


def _prepare_task(task: Task, request: PreparationRequest) -> TaskResult:
    """Read a source or a piece of it, check its frames, and pack them."""
    with task.member.naming():
        return _prepare_frames(task, request)


def _prepare_frames(task: Task, request: PreparationRequest) -> TaskResult:
    reading = read(
        [task.member.file],
        key_mapping=request.key_mapping,
        units=request.units,
        trust_pickle=request.trust_pickle,
        piece=task.piece,
        whole=False,
    )
    numbers = np.unique(np.concatenate([frame[fields.ATOMIC_NUMBERS].numpy() for frame in reading.frames]))
    species = [symbol_of[number] for number in numbers]
    dataset = GraphDataset(reading, request.cutoff, species, name=task.member.file.stem)
    records = [pack_frame(frame) for frame in dataset.frames]
    length = np.array([len(record) for record in records], dtype=np.int64)
    rows = Rows(
        table=dataset.table,
        start=np.cumsum(length) - length,
        length=length,
        key=dataset.keys,
        source=np.full(len(records), task.source),
        number=(0 if task.piece is None else task.piece.frame) + np.arange(len(records)),
    )
    facts = {
        "names": [sorted(reading.names.graph), sorted(reading.names.node)],
        "label_names": reading.label_names,
        "free_energy_gap": reading.free_energy_gap,
        "fields": [name for name in OPTIONAL_FIELDS if name in dataset.frames[0]],
        "notes": [task.member.rename(note) for note in reading.notes],
    }
    return TaskResult(b"".join(records), pack_annotations(reading.annotations), rows, facts)


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
