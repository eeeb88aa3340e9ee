"""A program of others as a group of processes: what it prints is kept, a signal ends it, nothing stays behind."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from nequip_like.errors import BackendError, ConfigError
from nequip_like.whole_files import output_errors, written_whole
from nequip_like.workflow.run_folder.processes import Process
from nequip_like.workflow.runner.external.messages import LONGEST

#: Seconds that a program has to end by itself after a signal, and then after SIGTERM.
PATIENCE = 30.0
LOGS = "logs"  # the folder of the log, in that of the run
RECORD = "process.json"  # beside the log, as long as it lives
_LAST_PATIENCE = 5.0
_POLL = 0.1  # seconds
_PROC = Path("/proc")
_PIECE = 1 << 16  # bytes
# SIGUSR1 is what SLURM sends before a time limit, SIGHUP what a terminal sends that is closed.
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@dataclass(frozen=True)
class ExternalProgram:
    """What is started.

    Attributes:
        command: The program and its arguments; no shell sees them.
        folder: Where it is started.
        environment: Its whole environment.
        log: Everything that it prints is added to this file.
        time_limit: Seconds that it may take.
        silence_limit: Seconds that it may take without printing a line.
    """

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    log: Path
    time_limit: float | None = None
    silence_limit: float | None = None


@dataclass
class ProgramEnd:
    """How it ended.

    Attributes:
        status: Its exit status; negative: the signal that ended it.
        stopped_by: The signal that was sent to this process and passed on to it.
    """

    status: int
    stopped_by: signal.Signals | None = None


def run_program(program: ExternalProgram, take_line: Callable[[str], None]) -> ProgramEnd:
    """Run a program to its end. A first signal is passed on to all of its processes, a second one kills them.

    Args:
        program: What is started.
        take_line: Called with each line of its standard output; an error that it raises ends the program.

    Raises:
        BackendError: If it cannot be started, or a limit of time ended it.
        OutputError: If its log cannot be written.
    """
    record = program.log.with_name(RECORD)
    check_none_left(program.log.parent)
    with output_errors(program.log):
        program.log.parent.mkdir(parents=True, exist_ok=True)
        log = program.log.open("ab", buffering=0)
    with log, _receiving() as received:
        process = _start(program, log)
        group = _Group(process)
        try:
            with written_whole(record) as partial:
                partial.write_text(json.dumps(asdict(Process.of(process.pid))))
            _follow(group, program, log, take_line, received)
        finally:
            group.end()
            if process.stdout is not None:
                process.stdout.close()
            record.unlink(missing_ok=True)
    return ProgramEnd(process.returncode, received[0] if received else None)


def check_none_left(logs: Path) -> None:
    """Refuse to start beside a program that lived on when the process that had started it was killed.

    Args:
        logs: The folder of its log.

    Raises:
        BackendError: Naming the process.
    """
    record = logs / RECORD
    if not record.exists():
        return
    try:
        earlier = Process(**json.loads(record.read_text(encoding="utf-8")))
        earlier.check_types()
    except (ValueError, TypeError):  # it is written whole: this is none of ours
        return
    if earlier.is_alive():
        raise BackendError(
            f"process {earlier.pid}, which an earlier nequip-run started for this run, still runs",
            f"wait for its end, or end it: kill -- -{earlier.pid}",
        )


def _start(program: ExternalProgram, log: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(program.command),
            cwd=program.folder,
            env=dict(program.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # a group of its own: Ctrl-C reaches it once, through this process
        )
    except OSError as error:
        reason = error.strerror or error
        if not program.folder.is_dir():
            raise ConfigError(
                f"backend_cwd is {program.folder}, which is no folder", "give one that is there"
            ) from error
        raise BackendError(
            f"cannot start {program.command[0]}: {reason}",
            "give a program that is there and may be run, as a path or as a name that PATH finds; scripts in Python "
            "are started by backend_python",
        ) from error


@dataclass
class _Group:
    """All processes that the program started, and that did not leave its group."""

    process: subprocess.Popen[bytes]

    def send(self, number: int) -> bool:
        """Send a signal to all; whether there is any."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # on some systems: only processes that have ended are left
            return False
        return True

    def end(self) -> None:
        """End what is left, and wait until nothing is."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            limit = time.monotonic() + _LAST_PATIENCE
            is_there = self.send(number)
            while is_there and time.monotonic() < limit:
                self.process.poll()  # until somebody asked how it ended, its number is taken
                is_there = self.has_living()
                time.sleep(0.01 * is_there)
            if not is_there:
                break
        self.process.wait()

    def has_living(self) -> bool:
        """Whether any of them lives; those that have ended, and that nobody asks how, do not count."""
        if not (_PROC / "self/stat").exists():
            return self.send(0)
        return any(map(self._owns, _PROC.glob("[0-9]*/stat")))

    def _owns(self, stat: Path) -> bool:
        try:
            # The name of the program, in brackets, may hold anything.
            state, _, group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
        except (OSError, ValueError):  # it ended meanwhile
            return False
        return int(group) == self.process.pid and state not in ("Z", "X")


@dataclass
class _Lines:
    """Lines out of pieces; of one that is longer than any message only the begin is looked at."""

    take: Callable[[str], None]
    pending: bytearray = field(default_factory=bytearray)

    def add(self, piece: bytes) -> None:
        # A bar of progress returns to the begin of its line.
        *ended, remainder = piece.replace(b"\r", b"\n").split(b"\n")
        for part in ended:
            self._extend(part)
            self.flush()
        self._extend(remainder)

    def _extend(self, part: bytes) -> None:
        self.pending += part[: LONGEST + 1 - len(self.pending)]

    def flush(self) -> None:
        if self.pending:
            line = self.pending.decode("utf-8", errors="replace")
            self.pending.clear()
            self.take(line)


def _follow(
    group: _Group,
    program: ExternalProgram,
    log: IO[bytes],
    take_line: Callable[[str], None],
    received: list[signal.Signals],
) -> None:
    """Read what it prints until it has ended, or does not although it was asked to."""
    process, lines = group.process, _Lines(take_line)
    assert process.stdout is not None
    output = process.stdout.fileno()
    began = heard = time.monotonic()
    passed_on, asked, size = 0, 0.0, 0
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while process.poll() is None:
            if not selector.select(_POLL):
                pass
            elif piece := os.read(output, _PIECE):
                _keep(piece, log, program)
                lines.add(piece)
            else:  # it closed its output, and goes on
                time.sleep(_POLL)
            moment = time.monotonic()
            if len(received) > passed_on:
                passed_on, asked = len(received), moment
                group.send(received[0] if passed_on == 1 else signal.SIGKILL)
            if passed_on and moment > asked + PATIENCE:
                return
            log_size = os.fstat(log.fileno()).st_size  # its errors go there by themselves
            if log_size != size:
                heard, size = moment, log_size
            if not passed_on:
                _check_limits(program, moment - began, moment - heard)
        # What it left behind may print for ever, or hold the other end of the pipe.
        group.end()
        limit = time.monotonic() + _LAST_PATIENCE
        while time.monotonic() < limit and selector.select(0) and (piece := os.read(output, _PIECE)):
            _keep(piece, log, program)
            lines.add(piece)
    lines.flush()


def _keep(piece: bytes, log: IO[bytes], program: ExternalProgram) -> None:
    with output_errors(program.log):
        log.write(piece)


def _check_limits(program: ExternalProgram, took: float, silent: float) -> None:
    if program.time_limit is not None and took > program.time_limit:
        raise BackendError(
            f"it took longer than backend_time_limit: {program.time_limit:g} s", "give more time, or less to do"
        )
    if program.silence_limit is not None and silent > program.silence_limit:
        raise BackendError(
            f"it printed nothing for backend_silence_limit: {program.silence_limit:g} s",
            "look whether it hangs; give more time if a step takes so long",
        )


@contextmanager
def _receiving() -> Iterator[list[signal.Signals]]:
    """Collect the signals that end a run, in place of what they do here otherwise."""
    received: list[signal.Signals] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))

    handlers = {}
    if threading.current_thread() is threading.main_thread():
        # What is ignored stays so: under nohup that is SIGHUP.
        numbers = [number for number in _ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]
        handlers = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            with suppress(TypeError):  # it was not set by Python: nobody can put it back
                signal.signal(number, handler)
