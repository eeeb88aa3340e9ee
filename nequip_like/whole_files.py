"""Files that are either whole or not there, lines of progress that count when they are whole, and folders for both."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nequip_like.errors import OutputError, first_line


def path_of(path: str | Path) -> Path:
    """A path as a user writes it: ``~`` and ``~name`` at its start stand for home folders, as in a shell.

    Shells replace it at the start of a word only, so in ``key=~/file``, in a config and in Python it arrives as it is.
    Where there is no such home folder, the path stays as it is.
    """
    return Path(os.path.expanduser(path))


# What a process that was killed leaves behind, of this version and of earlier ones, which had no letters in it.
_PARTIAL = re.compile(r"\..+\.\d+(-[0-9a-f]{8})?\.[^.]+")


def is_partial(name: str) -> bool:
    """Whether a file's name is one that :func:`written_whole` gives meanwhile: what is in it is not whole."""
    return _PARTIAL.fullmatch(name) is not None


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give another name to write to; then put what was written in the place of the file, in one step.

    A reader sees the old file or the new one, never a part, also after a crash or a loss of power: the new file is on
    the disk before it gets its name. If writing fails, the old file stays.

    Args:
        path: Where the file shall be; its folder is made.

    Raises:
        OutputError: If the file cannot be written.

    Example:
        Half a file is never seen under its name, whatever happens while it is written:

        >>> with written_whole("results.txt") as partial:
        ...     _ = partial.write_text("all of it")
        ...     Path("results.txt").exists()
        False
        >>> Path("results.txt").read_text()
        'all of it'
    """
    path = path_of(path)
    if not path.name or path.is_dir():
        raise OutputError(f"{path.absolute()} is a folder", "give the name of a file")
    # Processes on several machines, or in several containers, may have one number.
    partial = path.with_name(f".{path.stem}.{os.getpid()}-{os.urandom(4).hex()}{path.suffix}")
    with output_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            _sync_to_disk(partial)
            partial.replace(path)
            _sync_to_disk(path.parent)
        finally:
            with suppress(OSError):
                partial.unlink()


_ADVICE = {
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EEXIST: "a file is where a folder is needed: give another folder",
    errno.ENOTDIR: "a file is where a folder is needed: give another folder",
    errno.EISDIR: "a folder has this name: give another name",
}


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn what the system says while a file is written into an ``OutputError`` that names the file.

    A name with a NUL character, which Python refuses with a ValueError, is refused before: what is done here may raise
    a ValueError of its own.
    """
    if "\0" in str(path):
        raise OutputError(f"cannot write {str(path)!r}: a name has no NUL character", "give another name")
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "look at the folder and its free space")
        raise OutputError(f"cannot write {path}: {error.strerror or error}", advice) from error


def check_writable(folder: Path, advice: str) -> None:
    """Refuse a folder that cannot be made or written; it is not made.

    Args:
        folder: An absolute path.
        advice: What the user can do where the folder is the wrong one.

    Raises:
        OutputError: If its name is too long, a file is in its way, or there is no permission.
    """
    with output_errors(folder):
        above = next(path for path in (folder, *folder.parents) if path.exists())
        for name in folder.relative_to(above).parts:
            (above / name).exists()  # refuses a name that no folder can have, whatever it is to be in
    reason = "Permission denied" if above.is_dir() else f"{above} is a file"
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to {folder}: {reason}", advice)


def check_absent(path: Path, overwrite: bool) -> None:
    """Refuse to replace a file, or to write into a folder that holds something, unless that is wanted.

    Raises:
        OutputError: If it is there already.
    """
    if not overwrite and (any(path.iterdir()) if path.is_dir() else path.exists()):
        raise OutputError(f"{path.absolute()} is there already", "give another name, or --overwrite")


def put_aside(path: Path) -> None:
    """Give a file or folder of an earlier run a number, ``metrics.1.csv``, if it is there."""
    if path.exists():
        copies = len(list(path.parent.glob(f"{path.stem}.[0-9]*{path.suffix}")))
        path.rename(path.with_name(f"{path.stem}.{copies + 1}{path.suffix}"))


def temporary_folder() -> Path:
    """Where temporary files go.

    Raises:
        OutputError: If there is no such folder.
    """
    try:
        import tempfile  # here: it loads what --help has no use for

        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise OutputError(f"no folder for temporary files: {first_line(error)}", "name one in TMPDIR") from error


def temporary_folder_of_user() -> Path:
    """A folder of this user's among the temporary ones, the same in each process; nobody else can write to it.

    Raises:
        OutputError: If somebody else made it, or may write to it.
    """
    folder = temporary_folder() / f"nequip_like-{os.getuid()}"
    with output_errors(folder):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise OutputError(f"{folder} is not of this user alone", "remove it")
    return folder


def _sync_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk and not only in memory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_progress(path: Path) -> list[dict[str, Any]]:
    """The lines of JSON of a file as far as they are whole; none where it is not there.

    Example:
        >>> write_progress(Path("progress.jsonl"), [{"done": 1}])
        >>> with Path("progress.jsonl").open("a") as file:  # killed while it wrote
        ...     _ = file.write('{"done": 2')
        >>> read_progress(Path("progress.jsonl"))
        [{'done': 1}]
    """
    lines: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not text.endswith("\n"):
                break
            lines.append(json.loads(text))
    return lines


def write_progress(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Begin a file with these lines: one that was cut off goes, for lines after it would not be read.

    Raises:
        OutputError: If it cannot be written.
    """
    with written_whole(path) as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines))


def append_progress(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line, which is on the disk afterwards.

    Raises:
        OutputError: If it cannot be written.
    """
    with output_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
