"""Streams that last, and what the commands make of the environment."""

from __future__ import annotations

import io
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from nequip_like.cli.starting import environment
from nequip_like.cli.starting.environment import LastingStream, check_current_folder, check_launcher
from nequip_like.errors import ConfigError


@contextmanager
def stream_to(path: str | Path | int, encoding: str = "utf-8"):
    with open(path, "w", encoding=encoding) as file:
        stream = LastingStream(file, "output")
        yield stream
        stream.close()


def test_letters_that_the_terminal_lacks(tmp_path):
    with stream_to(tmp_path / "out", "ascii") as stream:
        stream.write("1 meV/Å\n")
    assert (tmp_path / "out").read_bytes() == b"1 meV/?\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_full_disk_is_said_once(capsys):
    with stream_to("/dev/full") as stream:
        for _ in range(3):
            stream.write("a line\n" * 5000)
            stream.flush()
    assert capsys.readouterr().err == "warning: output cannot be written: No space left on device; the run goes on\n"


def test_nobody_reads(capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with stream_to(writing) as stream:
        for _ in range(2):
            stream.write("a line\n")
            stream.flush()
    assert capsys.readouterr().err == ""


def test_it_is_like_the_stream_that_it_replaces(tmp_path):
    with open(tmp_path / "out", "w", encoding="latin-1", buffering=1) as before:
        stream = LastingStream(before, "output")
        assert (stream.encoding, stream.line_buffering, stream.isatty()) == ("latin-1", True, False)
        stream.write("ä\n")
        assert (tmp_path / "out").read_bytes() == b"\xe4\n"
        stream.detach()


def test_streams_of_others_are_left(monkeypatch):
    """Those of a notebook, or of a program that collects what is printed."""
    own = io.StringIO()
    assert environment._wrap_stream(own, "output") is own
    with environment._wrap_stream(None, "output") as nowhere:  # where it is closed
        nowhere.write("a line\n")


def test_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_current_folder()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="the current folder is not there any more\n  -> change to another one: cd"):
        check_current_folder()


@pytest.mark.parametrize("name", ["LOCAL_RANK", "RANK", "WORLD_SIZE"])
def test_ranks_that_are_no_numbers(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    check_launcher()
    monkeypatch.setenv(name, "foo")
    with pytest.raises(ConfigError, match=f"{name} is 'foo' in the environment.*\n.*unset {name}"):
        check_launcher()


def test_fonts_of_matplotlib(tmp_path, monkeypatch):
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(environment, "temporary_folder_of_user", lambda: tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    environment._give_matplotlib_a_folder()
    assert "MPLCONFIGDIR" not in os.environ
    monkeypatch.setenv("HOME", "/proc/nobody")
    environment._give_matplotlib_a_folder()
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "mine" / "matplotlib")
