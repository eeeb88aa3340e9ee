"""Which process this is, and whether another one still lives: by machine, number and time of start."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LARGEST_PID = 2**31 - 1
_GONE = ("Z", "X")  # has ended, and is only remembered until its parent asks how


@dataclass(frozen=True)
class Process:
    """A process, told apart from all others.

    Attributes:
        host: Name of its host, for people.
        machine: The start of that host, and its space of process numbers: containers on a host have their own.
        pid: Its number.
        began: When it began, as its system tells; numbers are used again.
    """

    host: str
    machine: str
    pid: int
    began: str

    @classmethod
    def current(cls) -> Process:
        """This process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process of this machine that has a number now.

        Args:
            pid: The number.
        """
        return cls(platform.node(), _identify_machine(), pid, _read_start_time(pid) or "")

    def check_types(self) -> None:
        """Raise a TypeError if a value is not of its kind, as in a damaged file."""
        texts = (self.host, self.machine, self.began)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"no process: {self}")
        # To the system 0 and below are groups of processes.
        if type(self.pid) is not int or not 0 < self.pid <= _LARGEST_PID:
            raise TypeError(f"no number of a process: {self.pid}")

    def is_alive(self) -> bool | None:
        """Whether it is still there; None if that cannot be seen from here, because it is of another machine."""
        if self.machine != _identify_machine():
            return None
        try:
            os.kill(self.pid, 0)  # sends nothing
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it is somebody else's, but there
        began = _read_start_time(self.pid)
        if began is None:
            return None
        return began == self.began


def launch(environment: Mapping[str, str] = os.environ) -> str:
    """What the processes of one run have in common, as far as their launcher tells; empty if it does not.

    Args:
        environment: Where launchers tell it.
    """
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
    return "/".join(environment[name] for name in names if environment.get(name))


def _identify_machine() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return platform.node()


def _read_start_time(pid: int) -> str | None:
    """Read when a process began; empty if it is gone, None if the system does not tell."""
    if not (_PROC / "self/stat").exists():
        return _ask_ps_for_start_time(pid)
    try:
        # The name of the program, in brackets, may hold anything.
        after_name = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if after_name[0] in _GONE else after_name[19]


def _ask_ps_for_start_time(pid: int) -> str | None:
    command = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    except OSError:
        return None
    state, _, began = answer.stdout.strip().partition(" ")
    return "" if not state or state[0] in _GONE else began.strip()
