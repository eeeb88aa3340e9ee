"""Keeps what a run prints in a file of its folder."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from nequip_like.whole_files import output_errors

# Colours, and movements of a bar in a terminal.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextlib.contextmanager
def kept_in(file: Path) -> Iterator[None]:
    """Let what is printed go to a file, too; bars and colours of a terminal are left out there.

    Args:
        file: It is added to; its folder is made.

    Raises:
        OutputError: If it cannot be written.
    """
    with output_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        log = file.open("a", encoding="utf-8")
    doubled = [_Doubled(stream, log) for stream in (sys.stdout, sys.stderr)]
    output, errors = (cast(IO[str], stream) for stream in doubled)
    with log, contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            yield
        finally:
            for stream in doubled:
                stream.end_line()


class _Doubled:
    """A stream, all of which is written to a file as well, line by line.

    Args:
        stream: The stream.
        log: The file.
    """

    def __init__(self, stream: IO[str], log: IO[str]) -> None:
        self._stream, self._log, self._line = stream, log, ""

    def write(self, text: str) -> int:
        """Write to both; to the stream alone where a library kept this beyond its run."""
        if self._log.closed:
            return self._stream.write(text)
        self._line += text
        *lines, self._line = self._line.split("\n")
        for line in lines:
            self._log.write(_show_last(line) + "\n")
        # A bar is drawn over itself for hours before its line ends: only what is seen of it is kept.
        is_returned = self._line.endswith("\r")
        self._line = self._line.rstrip("\r").rpartition("\r")[2] + "\r" * is_returned
        self._log.flush()
        return self._stream.write(text)

    def end_line(self) -> None:
        """Keep a last line that has no end."""
        if self._line:
            self._log.write(_show_last(self._line) + "\n")
            self._line = ""

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's: whether it is a terminal, its encoding."""
        return getattr(self._stream, name)


def _show_last(line: str) -> str:
    r"""What is seen of a line at last, without colours.

    Example:
        >>> _show_last("epoch 1\repoch 2"), _show_last("\x1b[31mred\x1b[0m")
        ('epoch 2', 'red')
    """
    return _CONTROL.sub("", line).rstrip("\r").rpartition("\r")[2]
