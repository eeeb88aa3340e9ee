"""Why a program of others failed, as far as its exit status and the last lines that it printed tell."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from nequip_like.errors import BackendError
from nequip_like.workflow.runner.external.messages import MARK

_LAST_BYTES = 1 << 16
_LAST_LINES = 12
_LONGEST_LINE = 240  # characters


def read_end(log: Path, begin: int) -> list[str]:
    """The last lines of a log that are no messages, without what would move the cursor of a terminal.

    Args:
        log: The file.
        begin: Where the lines of this run begin in it.
    """
    if not log.exists():
        return []
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(begin, size - _LAST_BYTES))
        text = file.read(_LAST_BYTES).decode("utf-8", errors="replace")
    lines = ["".join(char if char.isprintable() else " " for char in line).rstrip() for line in text.splitlines()]
    return [line[:_LONGEST_LINE] for line in lines if line.strip() and MARK not in line]


def explain_failure(status: int, program: str, log: Path, begin: int) -> BackendError:
    """The error of a program that failed: how it ended, what it said last, what to do.

    Args:
        status: Its exit status; negative: the signal that ended it.
        program: The interpreter, or what was started.
        log: Where what it printed is.
        begin: Where the lines of this run begin in it.
    """
    lines = read_end(log, begin)
    how = f"exit status {status}" if status >= 0 else f"ended by {_name_signal(-status)}"
    last = "".join(f"\n    {line}" for line in lines[-_LAST_LINES:])
    words = f"; it said last:{last}" if last else "; it printed nothing"
    return BackendError(f"{program} failed ({how}){words}", f"{_find_remedy(status, program, lines)}all of it: {log}")


def _find_remedy(status: int, program: str, lines: list[str]) -> str:
    text = "\n".join(lines)
    if missing := re.findall(r"ModuleNotFoundError: No module named '([\w.]+)'", text):
        package = missing[-1].partition(".")[0]
        return f"install it ({program} -m pip install {package}), or name the interpreter that has it: backend_python; "
    if re.search(r"out of memory|OutOfMemoryError|MemoryError", text, re.IGNORECASE) or status == -signal.SIGKILL:
        by = "" if "memory" in text.lower() else "the system kills what takes too much memory: "
        return f"{by}give a smaller train.batch_size; "
    if re.search(r"No supported gpu backend|not compiled with CUDA|No CUDA GPUs|no NVIDIA driver", text, re.IGNORECASE):
        return "write device: cpu, or name an interpreter whose torch knows the GPU; "
    return ""


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
