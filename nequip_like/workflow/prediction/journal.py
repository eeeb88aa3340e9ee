"""What a prediction has written so far, in a folder beside its output: safe against being stopped at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nequip_like.errors import OutputError
from nequip_like.whole_files import append_progress, output_errors, read_progress, write_progress

_PROGRESS = "progress.jsonl"


def has_progress(folder: Path) -> bool:
    """Whether an earlier prediction left something in a folder that is worth to go on with.

    Raises:
        OutputError: If its journal is damaged.
    """
    return len(_read_lines(folder)) > 1


class PredictionJournal:
    """Streams of bytes, and beside them a line for each run of structures that is done.

    What stands behind the last line is not looked at: it is cut off, and written again. So a file made of the streams
    is the same whether a prediction was stopped in between or not.

    Args:
        folder: The folder.
        request: What decides what is written, JSON-able.
        begins: Name of each stream, and what stands at its begin.
        resume: Go on with what is there.

    Raises:
        OutputError: If what is there was made of another request, or the folder cannot be written.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], begins: Mapping[str, bytes], resume: bool) -> None:
        self.folder = folder
        self._ends = {name: len(begin) for name, begin in begins.items()}
        self.runs = self.frames = 0
        self.notes: dict[str, Any] = {}
        head = json.loads(json.dumps(dict(request)))
        lines = _read_lines(folder) if resume else []
        if lines and lines[0] != head:
            raise _explain_difference(folder, lines[0], head)
        if len(lines) > 1:
            self.runs, self.frames, self._ends = len(lines) - 1, lines[-1]["frames"], lines[-1]["ends"]
            self.notes = lines[-1]["notes"]
        with output_errors(folder):
            for name, begin in begins.items():
                path = self.locate(name)
                if self.runs == 0:
                    path.write_bytes(begin)
                if not path.exists() or path.stat().st_size < self._ends[name]:
                    raise OutputError(f"{path} has less than {_PROGRESS} says", "begin again: --overwrite")
                os.truncate(path, self._ends[name])
        write_progress(folder / _PROGRESS, (head, *lines[1:]))

    def locate(self, name: str) -> Path:
        """The file of a stream."""
        return self.folder / name

    def add(self, parts: Mapping[str, Sequence[bytes]], frames: int, notes: Mapping[str, Any]) -> None:
        """Write down a run of structures.

        Args:
            parts: What is added to each stream.
            frames: Number of its structures.
            notes: What is to be known after a resumption, JSON-able.
        """
        for name, pieces in parts.items():
            with output_errors(self.locate(name)), self.locate(name).open("ab") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
                self._ends[name] = file.tell()
        self.runs, self.frames, self.notes = self.runs + 1, self.frames + frames, dict(notes)
        line = {"frames": self.frames, "ends": self._ends, "notes": self.notes}
        append_progress(self.folder / _PROGRESS, line)

    def remove_if_empty(self) -> None:
        """Remove all files if no run of structures was done: nobody has to decide what becomes of them."""
        if self.runs == 0:
            self.remove()

    def remove(self) -> None:
        """Remove all files; the output has been made of them."""
        for name in (*self._ends, _PROGRESS):
            with output_errors(self.folder):
                self.locate(name).unlink(missing_ok=True)


def _read_lines(folder: Path) -> list[dict[str, Any]]:
    """What was asked for, and a line for each run that is done; empty without a journal."""
    path = folder / _PROGRESS
    try:
        lines = read_progress(path)
        is_whole = all(set(line) == {"frames", "ends", "notes"} for line in lines[1:])
    except (ValueError, TypeError):
        is_whole = False
    if not is_whole:
        raise OutputError(f"{path} is damaged", f"remove {folder}, and begin again")
    return lines


def _explain_difference(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> OutputError:
    differing = [name for name in now if before.get(name) != now[name]] or ["the version"]
    return OutputError(
        f"{folder} was begun with another {' and another '.join(differing)}",
        "give the same command with --resume, or begin again with --overwrite",
    )
