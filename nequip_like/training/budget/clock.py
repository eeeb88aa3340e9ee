"""How long a command has run, from the start of its process: imports, reading and compiling count, too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

_IMPORTED = time.monotonic()
_DAY = 86400.0

Clock = Callable[[], float]


def clock_from_now() -> Clock:
    """A clock that begins now: seconds since this call."""
    began = time.monotonic()
    return lambda: time.monotonic() - began


def clock_of_process() -> Clock:
    """A clock that began when this process did; where the system does not tell, when this module was imported."""
    began = time.monotonic() - _read_age()
    return lambda: time.monotonic() - began


def _begin_anew() -> None:
    global _IMPORTED
    _IMPORTED = time.monotonic()


# A process forked from one that had loaded everything began with the fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def _read_age() -> float:
    since_import = time.monotonic() - _IMPORTED
    try:
        # The name of the command, which may hold anything, ends with the last parenthesis; field 22 is the start.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        age = float(Path("/proc/uptime").read_text().split()[0]) - started
    except (OSError, ValueError, IndexError):  # no Linux
        return since_import
    # Within a container both may be of different clocks: what cannot be true is not taken.
    return age if since_import <= age < since_import + _DAY else since_import
