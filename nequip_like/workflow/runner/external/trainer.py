"""One run of a trainer of others: it is started, followed, and what it left is looked at."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nequip_like.errors import BackendError
from nequip_like.whole_files import output_errors, read_progress, write_progress, written_whole
from nequip_like.workflow.runner.backend import Report, RunOutcome
from nequip_like.workflow.runner.external.calling import build_content, build_environment, write_request
from nequip_like.workflow.runner.external.failures import explain_failure
from nequip_like.workflow.runner.external.messages import Conversation, Message, read_message
from nequip_like.workflow.runner.external.process import LOGS, ExternalProgram, run_program
from nequip_like.workflow.runner.files import list_folders
from nequip_like.workflow.runner.requests import RunRequest

LOG, MESSAGES, REQUEST = "trainer.log", "messages.jsonl", "request.json"
ARTIFACTS = "artifacts/files.json"
_MOST_SHOWN = 6  # metrics on a line
_PAUSE = 1.0  # seconds between two lines of progress


def run_trainer(
    request: RunRequest,
    command: Sequence[str],
    report: Report,
    *,
    goes_on: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> RunOutcome:
    """Let a trainer that speaks the protocol do a run.

    Args:
        request: The run.
        command: What is started.
        report: Tells the user how it goes.
        goes_on: The run was stopped before: the trainer is told the last checkpoint that it named.
        extra: What it is told beside the run itself.

    Raises:
        BackendError: If it cannot be started, fails, or says what it may not.
        OutputError: If a file of the run cannot be written.
    """
    (home,) = list_folders(request)
    messages = home / LOGS / MESSAGES
    checkpoint = find_checkpoint(home, request.name) if goes_on else None
    program, begin = _prepare(request, home, command, {**build_content(request, home, checkpoint), **(extra or {})})
    # Those of other runs in this folder stay: they may have to go on. A line that was cut off goes, for lines behind it
    # would not be read.
    write_progress(messages, [e for e in read_progress(messages) if goes_on or e.get("run") != request.name])
    listener = _Listener(request.name, home, messages, report)
    log = program.log
    try:
        end = run_program(program, listener.take_line)
    except BackendError as error:
        raise BackendError(error.message, f"{error.advice}; what it printed: {log}") from error
    talk = listener.talk
    ending = talk.ending or {}
    if end.stopped_by is not None:
        return RunOutcome(listener.files, talk.metrics, end.stopped_by)
    if ending.get("status") == "failed":
        reason = _clean(ending.get("reason") or "it does not say why")
        advice = _clean(ending["advice"]) + "; " if ending.get("advice") else ""
        raise BackendError(f"{talk.trainer} failed: {reason}", f"{advice}all that it printed: {log}")
    if end.status != 0:
        raise explain_failure(end.status, command[0], log, begin)
    if not talk.trainer:
        raise BackendError(
            f"{command[0]} ended without a message: it does not speak the protocol of nequip-run",
            f"write task: backend for a program that needs not; what it printed: {log}",
        )
    if ending.get("status") == "stopped":
        raise BackendError(f"{talk.trainer} was stopped, but not by nequip-run", f"run it again; its log: {log}")
    if not ending:
        raise BackendError(f"{talk.trainer} ended without its message 'end'", f"what it printed: {log}")
    if listener.files:
        write_files(home, listener.files)
    return RunOutcome(listener.files, talk.metrics)


def run_command(request: RunRequest, command: Sequence[str], report: Report) -> RunOutcome:
    """Run a program that need not speak the protocol: its exit status says how it went.

    Args:
        request: The run.
        command: What is started.
        report: Tells the user how it goes.

    Raises:
        BackendError: If it cannot be started, or fails.
    """
    program, begin = _prepare(request, request.run_dir, command, build_content(request, request.run_dir, None))
    report(f"{shlex.join(command)}, which prints to {program.log}")
    end = run_program(program, lambda line: None)
    if end.stopped_by is not None:
        return RunOutcome(stopped_by=end.stopped_by)
    if end.status != 0:
        raise explain_failure(end.status, command[0], program.log, begin)
    return RunOutcome()


def _prepare(
    request: RunRequest, home: Path, command: Sequence[str], content: Mapping[str, Any]
) -> tuple[ExternalProgram, int]:
    """Write the request; gives the program, and where its lines will begin in the log."""
    logs = home / LOGS
    write_request(content, logs / REQUEST)
    environment = build_environment(request, logs / REQUEST)
    log, folder = logs / LOG, request.command_folder or home
    program = ExternalProgram(command, folder, environment, log, request.time_limit, request.silence_limit)
    return program, log.stat().st_size if log.exists() else 0


def find_checkpoint(home: Path, name: str) -> Path | None:
    """The last checkpoint that the trainer of a run named in its folder, if it is there."""
    newest = None
    for line in read_progress(home / LOGS / MESSAGES):
        if line.get("run") == name and line.get("message") == "artifacts" and "checkpoint" in line["files"]:
            newest = line["files"]["checkpoint"]
    file = None if newest is None else home / newest
    return file if file is not None and file.is_file() else None


def write_files(home: Path, files: Mapping[str, Path]) -> None:
    """Write what the files of a run are, with their SHA-256, to ``artifacts/files.json``.

    Raises:
        OutputError: If it cannot be written.
    """
    entries = {}
    for name, path in files.items():
        if not path.is_file():
            raise BackendError(f"the trainer named {path} as its {name}, but took it away again", "run it again")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        entries[name] = {
            "path": path.relative_to(home.resolve()).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": digest,
        }
    with written_whole(home / ARTIFACTS) as partial:
        partial.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


class _Listener:
    """Takes the lines of a trainer: messages are judged, kept and told."""

    def __init__(self, name: str, home: Path, messages: Path, report: Report) -> None:
        self.talk = Conversation()
        self.files: dict[str, Path] = {}
        self._name = name
        self._home, self._messages, self._report = home.resolve(), messages, report
        self._reported = -_PAUSE

    def take_line(self, line: str) -> None:
        message = read_message(line)
        if message is None:
            return
        self.talk.accept(message)
        if message.kind == "artifacts":
            for name, path in message.content["files"].items():
                self.files[name] = self._check_file(name, path)
        self._keep(message)
        self._tell(message)

    def _keep(self, message: Message) -> None:
        with output_errors(self._messages), self._messages.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"run": self._name, "message": message.kind, **message.content}) + "\n")

    def _check_file(self, name: str, path: str) -> Path:
        """Refuse what is no file of the run's folder."""
        folder = self._home
        try:
            file = (folder / path).resolve()
            is_file = file.is_file()
        except (OSError, ValueError) as error:
            raise BackendError(f"the trainer named {path!r} as its {name}, no path", "look at the trainer") from error
        if not file.is_relative_to(folder):
            raise BackendError(
                f"the trainer named {path!r} as its {name}, which is outside of the run's folder {folder}",
                "let it write there",
            )
        if not is_file:
            raise BackendError(f"the trainer named {path!r} as its {name}, which is no file", "look at the trainer")
        return file

    def _tell(self, message: Message) -> None:
        content, kind = message.content, message.kind
        if kind == "start":
            self._report(f"{self.talk.trainer} begins")
        elif kind == "progress":
            moment = time.monotonic()
            if moment - self._reported >= _PAUSE or content["done"] == content.get("of"):
                self._reported = moment
                of = f" of {content['of']:g}" if "of" in content else ""
                unit = f" {content['unit']}" if "unit" in content else ""
                text = f": {_clean(content['text'])}" if "text" in content else ""
                self._report(f"{content['done']:g}{of}{unit}{text}")
        elif kind == "metrics" and ("epoch" in content or "step" not in content):
            place = f"epoch {content['epoch']}: " if "epoch" in content else ""
            values = [f"{name} {value:.6g}" for name, value in content["values"].items() if value is not None]
            omitted = f", and {len(values) - _MOST_SHOWN} more" if len(values) > _MOST_SHOWN else ""
            if values:
                self._report(place + ", ".join(values[:_MOST_SHOWN]) + omitted)
        elif kind == "artifacts":
            self._report(", ".join(f"{name}: {path}" for name, path in content["files"].items()))


def _clean(text: str) -> str:
    """A text of a trainer on one line, without what moves the cursor of a terminal."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
