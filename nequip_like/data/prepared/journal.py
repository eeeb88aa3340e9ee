"""What a preparation has done so far, in a folder beside its output: safe against being stopped at any moment."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

from nequip_like.data.io.reading import join_label_names
from nequip_like.data.prepared.files import Rows, begin_file, end_file
from nequip_like.data.tables.frame_table import OPTIONAL_FIELDS
from nequip_like.errors import OutputError
from nequip_like.whole_files import append_progress, output_errors, read_progress, write_progress, written_whole

_MOST_NOTES = 50  # sentences that are kept
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_PROGRESS, _RECORDS = "progress.jsonl", "records"


@dataclass(frozen=True)
class TaskResult:
    """What a task gives.

    Attributes:
        records: The records of its frames, one after the other.
        annotations: What its frames hold beside (:func:`nequip_like.data.prepared.annotations.pack_annotations`).
        rows: What is known of each frame, with starts counted from 0.
        facts: What is known of all.
    """

    records: bytes
    annotations: bytes
    rows: Rows
    facts: dict[str, Any]


class Journal:
    """Records as they are written, and beside them a line for each task that is done.

    A context in which no other process writes there.

    Args:
        folder: The folder.
        request: What is prepared, JSON-able; another request's work is thrown away.
        sources: What is known of each source.

    Raises:
        OutputError: If another process writes there now, or the folder cannot be written.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], sources: Sequence[Mapping[str, Any]]) -> None:
        self.folder = folder
        self.request = json.loads(json.dumps(request))
        self.sources = list(sources)
        self.done: list[dict[str, Any]] = []
        self.frames = 0
        self._lock = _lock(folder / "lock")
        head = {"request": self.request, "sources": self.sources}
        lines = read_progress(folder / _PROGRESS)
        if lines and lines[0] == head:
            self.done = lines[1:]
            self.frames = sum(facts["frames"] for facts in self.done)
        with (
            output_errors(self._records),
            self._records.open("r+b") if self.done else self._records.open("wb") as file,
        ):
            if not self.done:
                begin_file(file)
            file.truncate(self.done[-1]["end"] if self.done else file.tell())
        write_progress(folder / _PROGRESS, (head, *self.done))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._lock.close()

    @property
    def _records(self) -> Path:
        return self.folder / _RECORDS

    def add(self, result: TaskResult) -> None:
        """Write down what a task gave."""
        with output_errors(self._records), self._records.open("ab") as file:
            start = file.tell()
            file.write(result.records)
            notes_start = file.tell()
            file.write(result.annotations)
            file.flush()
            os.fsync(file.fileno())
            end = file.tell()
        rows = replace(result.rows, start=result.rows.start + start)
        with written_whole(self.folder / f"{len(self.done):06d}.npz") as partial:
            partial.write_bytes(rows.pack())
        checksum = zlib.crc32(result.records, self.done[-1]["checksum"] if self.done else 0)
        checksum = zlib.crc32(result.annotations, checksum)
        facts = {**result.facts, "frames": len(rows.table), "end": end, "checksum": checksum}
        facts["annotations"] = [self.frames, notes_start, end - notes_start]
        self.done.append(facts)
        self.frames += len(rows.table)
        append_progress(self.folder / _PROGRESS, facts)

    def finish(self, target: Path, notes: Sequence[str], look_at: Callable[[Path], list[str]]) -> list[str]:
        """Put table and manifest behind the records, and the whole in its place.

        Args:
            target: The file.
            notes: What was said of the sources.
            look_at: Looks at the frames once they can be read again, and says what is wrong with them.

        Returns:
            All notes.
        """
        rows = Rows.join([Rows.unpack((self.folder / f"{i:06d}.npz").read_bytes()) for i in range(len(self.done))])
        all_notes = list(dict.fromkeys([*notes, *(note for facts in self.done for note in facts["notes"])]))
        if len(all_notes) > _MOST_NOTES:
            all_notes = [
                *all_notes[:_MOST_NOTES],
                f"{len(all_notes) - _MOST_NOTES} more sentences of this kind are left out",
            ]
        manifest = {
            "cutoff": self.request["cutoff"],
            "key_mapping": self.request["key_mapping"] or {},
            "units": self.request["units"] or {},
            "shard": self.request["shard"],
            "sources": self.sources,
            "fields": [name for name in OPTIONAL_FIELDS if any(name in facts["fields"] for facts in self.done)],
            "label_names": join_label_names(facts["label_names"] for facts in self.done),
            "free_energy_gap": max(facts["free_energy_gap"] for facts in self.done),
            "notes": all_notes,
            "species": rows.table.count_species(),
            "labels": rows.table.count_labels(),
            "annotations": [facts["annotations"] for facts in self.done if facts["annotations"][2]],
            "checksum": self.done[-1]["checksum"],
        }
        self._write_end(rows, manifest)
        manifest["notes"] = all_notes + look_at(self._records)
        self._write_end(rows, manifest)
        with output_errors(target):
            self._records.replace(target)
            shutil.rmtree(self.folder)
        return list(manifest["notes"])

    def _write_end(self, rows: Rows, manifest: Mapping[str, Any]) -> None:
        with output_errors(self._records), self._records.open("r+b") as file:
            file.truncate(self.done[-1]["end"])
            file.seek(0, os.SEEK_END)
            end_file(file, rows, manifest)
            file.flush()
            os.fsync(file.fileno())


def _lock(path: Path) -> BinaryIO:
    """A file that is open and locked: until it is closed or the process ends, however it ends.

    No claim on a folder of a run, which the processes of a run share, and which those of a launcher leave to the first
    of them: here each process stands for itself, also when tasks of one job prepare their shards.
    """
    with output_errors(path):
        file = path.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise OutputError(
                f"another process prepares frames in {path.parent}", "wait for it, or give another output"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:  # of a file system without locks: two preparations are the user's to avoid
                file.close()
                raise
    return file
