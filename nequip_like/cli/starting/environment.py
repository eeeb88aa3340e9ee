"""Prepare the process of a command: memory, output streams, current folder, before anything heavy is loaded."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from nequip_like.errors import ConfigError, OutputError
from nequip_like.process_settings import READ_BY_LIBRARIES, keep_memory, shorten_waiting
from nequip_like.whole_files import path_of, temporary_folder_of_user


def prepare_process() -> None:
    """Settle what decides speed, what is printed to, and where matplotlib keeps its list of fonts."""
    keep_memory()
    shorten_waiting()
    sys.stdout, sys.stderr = _wrap_stream(sys.stdout, "output"), _wrap_stream(sys.stderr, "")
    _give_matplotlib_a_folder()


def check_current_folder() -> None:
    """Refuse to begin in a folder that was deleted: relative paths begin there.

    Raises:
        ConfigError: If it was deleted.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError("the current folder is not there any more", "change to another one: cd") from error


def check_launcher() -> None:
    """Libraries read the place of this process from the environment while they are imported.

    Raises:
        ConfigError: If it is no number there.
    """
    for name in READ_BY_LIBRARIES:
        value = os.environ.get(name)
        if value is not None and not (value.isascii() and value.isdigit()):
            raise ConfigError(
                f"{name} is '{value}' in the environment, which is no whole number",
                f"take it out: unset {name}; launchers such as torchrun set it for each process",
            )


class LastingStream(io.TextIOWrapper):
    """A stream that prints what it can, and never ends a run: letters that the terminal lacks become a question mark.

    When nobody reads any longer, or the disk of a log file is full, what follows is thrown away.

    Args:
        stream: The stream.
        name: How it is called where its end is told; empty: it is not told.
    """

    def __init__(self, stream: io.TextIOWrapper, name: str) -> None:
        self._name = name
        self._replaced = stream  # which would close what both write to when it goes
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors="replace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    def write(self, text: str) -> int:
        """Write, if it can be."""
        try:
            return super().write(text)
        except OSError as error:
            self._end(error)
            return len(text)

    def flush(self) -> None:
        """Flush, if it can be."""
        try:
            super().flush()
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())  # what is still kept back goes there, too
        os.close(nowhere)
        if self._name and not isinstance(error, BrokenPipeError):
            print(f"warning: {self._name} cannot be written: {error.strerror}; the run goes on", file=sys.stderr)


def _wrap_stream(stream: TextIO | None, name: str) -> TextIO:
    """Wrap a stream of the process in a :class:`LastingStream`; in place of a closed one open the null device."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if stream in (sys.__stdout__, sys.__stderr__) and isinstance(stream, io.TextIOWrapper):
        return LastingStream(stream, name)
    return stream


def _give_matplotlib_a_folder() -> None:
    """Name a writable folder: without one matplotlib makes a new one at each start, with two lines of advice."""
    if "MPLCONFIGDIR" in os.environ:
        return
    configs = os.environ.get("XDG_CONFIG_HOME")
    config_folder = (Path(configs) if configs else path_of("~") / ".config") / "matplotlib"
    with suppress(OSError):
        config_folder.mkdir(parents=True, exist_ok=True)
        if os.access(config_folder, os.W_OK):
            return
    with suppress(OutputError):  # then it does what it can itself
        os.environ["MPLCONFIGDIR"] = str(temporary_folder_of_user() / "matplotlib")
