"""Compiled libraries in the cache: whole ones only, identified by what they were made of, and checked by content.

A library is called ``KEY-SHA256.so``, so that one name says what it was made of and what is in it. One that was cut
short, overwritten or damaged is never loaded: the system maps it into memory, where a missing page kills the process.
Beside it lies its C code, ``KEY-SHA256.c``: for people, and never read by this package.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nequip_like.data.published import cache_folder
from nequip_like.errors import OutputError
from nequip_like.process_settings import warn_once
from nequip_like.whole_files import output_errors, temporary_folder, temporary_folder_of_user, written_whole

Result = TypeVar("Result")
_PATIENCE = 120.0  # seconds for which a process waits before it builds what another one said it would
_PAUSE = 0.05
_AGE = 1200.0  # seconds after which a mark counts as left behind, whatever the clocks of two machines say
Build = Callable[[Path, Path], None]  # writes a library to a path; a folder takes what is needed only meanwhile


def load_or_build(key: str, build: Build, source: str | None = None) -> ctypes.CDLL:
    """The library of a key: one from the cache that is whole, or a new one.

    Args:
        key: Names what the library is made of.
        build: Makes it; may raise an ``OutputError``, and then is asked again with another folder.
        source: The code that it is made of, put beside it for people to read.

    Raises:
        OutputError: If it can be stored nowhere.
    """
    return use_cache_folder(lambda folder: _find_library(folder, key) or _build_in_turn(folder, key, build, source))


def use_cache_folder(use: Callable[[Path], Result]) -> Result:
    """Use the folder of compiled kernels: ``kernels`` of the package's cache folder.

    Where nothing can be written there, or nothing be loaded from there, as on compute nodes with a home folder that is
    read only, a temporary folder takes its place, and a warning says so once.

    Args:
        use: Gets the folder; an ``OutputError`` means that the folder cannot be used.

    Raises:
        OutputError: The first, if no folder can be used.
    """
    failures: list[OutputError] = []
    for choose_folder in (_make_cache_folder, temporary_folder_of_user, _make_process_folder):
        try:
            folder = choose_folder()
            result = use(folder)
        except OutputError as error:
            failures.append(error)
            continue
        if failures:
            warn_once(f"{failures[0].message}; compiled kernels are kept in {folder}")
        return result
    raise failures[0]


def _find_library(folder: Path, key: str) -> ctypes.CDLL | None:
    # Several may have one key: a compiler need not write the same bytes twice, and a folder may serve several systems.
    with output_errors(folder):
        paths = sorted(folder.glob(f"{key}-*.so"))
    return next((library for path in paths if (library := _load(path)) is not None), None)


def _load(path: Path) -> ctypes.CDLL | None:
    """The library, if it is whole and fits this machine; a broken one is removed, with its code."""
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() == path.stem.rpartition("-")[2]:
            return ctypes.CDLL(str(path))
        path.unlink()
        path.with_suffix(".c").unlink(missing_ok=True)
    except OSError:  # it may not be read, its folder forbids programs, or another system made it
        return None
    return None


def _build_in_turn(folder: Path, key: str, build: Build, source: str | None) -> ctypes.CDLL:
    """Build, or wait for another process that does: those of one job begin together, and all need the same library.

    Nobody waits for ever, and a library that two processes build is as good as one: so a file says who builds, and no
    lock is needed, which file systems shared by machines may not have.
    """
    mark = folder / f".{key}.building"
    end = time.monotonic() + _PATIENCE
    while not (placed := _place_mark(mark)) and time.monotonic() < end:
        if not (_is_left_behind(mark) and _remove_mark(mark)):
            time.sleep(_PAUSE)
    try:
        return _find_library(folder, key) or _build_library(folder, key, build, source)
    finally:
        if placed:
            _remove_mark(mark)


def _place_mark(mark: Path) -> bool:
    """Whether this process is to build: no other one has said so before."""
    with output_errors(mark.parent):
        try:
            place = os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        try:
            os.write(place, f"{platform.node()} {os.getpid()}".encode())
        except OSError:
            _remove_mark(mark)  # the disk is full: an empty mark would let others wait
            raise
        finally:
            os.close(place)
    return True


def _remove_mark(mark: Path) -> bool:
    """Whether it could be removed: one of another user may have to stay, and then costs nothing but waiting."""
    try:
        mark.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _is_left_behind(mark: Path) -> bool:
    """Whether the process that placed a mark is gone; of another machine's, only age tells."""
    try:
        if time.time() - mark.stat().st_mtime > _AGE:
            return True
        node, _, pid = mark.read_text(encoding="utf-8").rpartition(" ")
        if node == platform.node():
            os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):  # it is gone, not written yet, or its process is somebody else's
        return False
    return False


def _build_library(folder: Path, key: str, build: Build, source: str | None = None) -> ctypes.CDLL:
    # It is made in the same folder: that for temporary files may be missing or full.
    with output_errors(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".") as work:
        target = Path(work, "library.so")
        build(target, Path(work))
        content = target.read_bytes()
    path = folder / f"{key}-{hashlib.sha256(content).hexdigest()}.so"
    # The code first: a library that lies there then has its code beside it, even if the process is killed in between.
    if source is not None:
        with written_whole(path.with_suffix(".c")) as partial:
            partial.write_text(source, encoding="utf-8")
    with written_whole(path) as partial:
        partial.write_bytes(content)
    library = _load(path)
    if library is None:
        raise OutputError(f"{path} cannot be loaded", "name another folder in NEQUIP_LIKE_CACHE")
    return library


def _make_cache_folder() -> Path:
    folder = cache_folder() / "kernels"
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def _make_process_folder() -> Path:
    """A new temporary folder, which goes with the process."""
    temporary = temporary_folder()
    with output_errors(temporary):
        folder = tempfile.mkdtemp(prefix="nequip_like-", dir=temporary)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
