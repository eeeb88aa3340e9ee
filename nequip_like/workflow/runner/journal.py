"""What became of the runs of a run file: a line for each event, in a file beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nequip_like.errors import ConfigError
from nequip_like.whole_files import append_progress, output_errors, read_progress, write_progress
from nequip_like.workflow.runner.requests import RunRequest

BEGUN, DONE, FAILED, STOPPED = "begun", "done", "failed", "stopped"
_STATES = (BEGUN, DONE, FAILED, STOPPED)


@dataclass(frozen=True)
class Event:
    """A line of the journal.

    Attributes:
        name: The run.
        state: ``begun``, ``done``, ``failed`` or ``stopped``.
        section: A number of what the run's section of the file said.
        number: Of the line: what comes later has a larger one.
        time: When.
        files: What it left, by what it is.
    """

    name: str
    state: str
    section: str
    number: int
    time: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


class RunJournal:
    """What became of the runs of a run file.

    Args:
        run_file: The run file; ``run.journal.jsonl`` beside ``run.yaml``, ``run.yml.journal.jsonl`` beside ``run.yml``.

    Raises:
        ConfigError: If the journal is damaged.
        OutputError: If a line that was cut off cannot be taken away.
    """

    def __init__(self, run_file: Path) -> None:
        # Files that differ in their suffix alone are two queues.
        name = run_file.stem if run_file.suffix == ".yaml" else run_file.name
        self.path = run_file.with_name(f"{name}.journal.jsonl")
        self.read_again()
        with output_errors(self.path):
            self._is_cut_off = self.path.exists() and not self.path.read_bytes().endswith(b"\n")

    def read_again(self) -> None:
        """Read what another command has written meanwhile.

        Raises:
            ConfigError: If the journal is damaged.
        """
        try:
            lines = read_progress(self.path)
            self._events = [_read_event(line, number) for number, line in enumerate(lines)]
        except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
            raise ConfigError(
                f"{self.path} is no journal of runs, or is damaged",
                "move it away; the runs are done again then, and what they left is kept",
            ) from error
        self._lines = lines

    def find_last(self, name: str, state: str | None = None) -> Event | None:
        """The last event of a run, or its last one of a state."""
        matching = (e for e in reversed(self._events) if e.name == name and state in (None, e.state))
        return next(matching, None)

    def has_written(self, file: Path) -> bool:
        """Whether a run of this file has written a file."""
        return any(str(file) in event.files.values() for event in self._events)

    def add(self, request: RunRequest, state: str, **told: Any) -> None:
        """Write down what became of a run; it is on the disk afterwards.

        Args:
            request: The run.
            state: ``begun``, ``done``, ``failed`` or ``stopped``.
            told: What else is known of it, JSON-able.

        Raises:
            OutputError: If it cannot be written.
        """
        line = {
            "name": request.name,
            "task": request.task,
            "state": state,
            "section": compute_fingerprint(request),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            **told,
        }
        if self._is_cut_off:  # a command that was killed while it wrote; what is added to a part of a line is not read
            write_progress(self.path, self._lines)
            self._is_cut_off = False
        append_progress(self.path, line)
        self._lines.append(line)
        self._events.append(_read_event(line, len(self._events)))


def compute_fingerprint(request: RunRequest) -> str:
    """A number of what a run's section says; the order of its keys does not matter.

    Example:
        >>> from dataclasses import replace
        >>> run = RunRequest("a", "train", "nequip", Path("a"), given={"task": "train", "device": "cpu"})
        >>> turned = replace(run, given={"device": "cpu", "task": "train"})
        >>> compute_fingerprint(run) == compute_fingerprint(turned)
        True
    """
    text = json.dumps(dict(request.given), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_event(line: Mapping[str, Any], number: int) -> Event:
    if line["state"] not in _STATES:
        raise ValueError(f"no state: {line['state']!r}")
    datetime.fromisoformat(line["time"])
    files = line.get("files") or {}
    return Event(str(line["name"]), line["state"], str(line["section"]), number, line["time"], dict(files))
