"""Compiled libraries that are kept: whole ones only, found again by what they were made of and checked by content.

A library is called ``KEY-SHA256.so``, so that one name says what it was made of and what is in it. One that was cut
short, overwritten or damaged is never loaded: the system maps it into memory, where a missing page kills the process.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nequip_like.data.published import cache_folder
from nequip_like.errors import OutputError
from nequip_like.process_settings import warn_once
from nequip_like.whole_files import output_errors, temporary_folder, temporary_folder_of_user, written_whole

Kept = TypeVar("Kept")
Make = Callable[[Path, Path], None]  # writes a library to a path; a folder takes what is needed only meanwhile


def kept_library(key: str, make: Make) -> ctypes.CDLL:
    """The library of a key: one that was kept and is whole, or a new one.

    Args:
        key: Names what the library is made of.
        make: Makes it; may raise an :class:`OutputError`, and then is asked again with another folder.

    Raises:
        OutputError: If it can be kept nowhere.
    """
    return in_usable_folder(lambda folder: _found(folder, key) or _made(folder, key, make))


def in_usable_folder(use: Callable[[Path], Kept]) -> Kept:
    """Use the folder of compiled kernels: ``kernels`` of the package's cache folder.

    Where nothing can be written there, or nothing be loaded from there, as on compute nodes with a home folder that is
    read only, a temporary folder takes its place, which is said once.

    Args:
        use: Gets the folder; an :class:`OutputError` means that it does not serve.

    Raises:
        OutputError: The first, if no folder serves.
    """
    failures: list[OutputError] = []
    for place in (_folder_of_cache, temporary_folder_of_user, _folder_of_process):
        try:
            folder = place()
            kept = use(folder)
        except OutputError as error:
            failures.append(error)
            continue
        if failures:
            warn_once(f"{failures[0].message}; compiled kernels are kept in {folder}")
        return kept
    raise failures[0]


def _found(folder: Path, key: str) -> ctypes.CDLL | None:
    with output_errors(folder):
        paths = sorted(folder.glob(f"{key}-*.so"))
    return next((library for path in paths if (library := _load(path)) is not None), None)


def _load(path: Path) -> ctypes.CDLL | None:
    """The library, if it is whole and fits this machine; what is left of a broken one is removed."""
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() == path.stem.rpartition("-")[2]:
            return ctypes.CDLL(str(path))
        path.unlink()
    except OSError:  # it may not be read, its folder forbids programs, or another system made it
        return None
    return None


def _made(folder: Path, key: str, make: Make) -> ctypes.CDLL:
    # It is made in the same folder: that for temporary files may be missing or full.
    with output_errors(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".") as work:
        target = Path(work, "library.so")
        make(target, Path(work))
        content = target.read_bytes()
    path = folder / f"{key}-{hashlib.sha256(content).hexdigest()}.so"
    with written_whole(path) as partial:
        partial.write_bytes(content)
    library = _load(path)
    if library is None:
        raise OutputError(f"{path} cannot be loaded", "name another folder in NEQUIP_LIKE_CACHE")
    return library


def _folder_of_cache() -> Path:
    folder = cache_folder() / "kernels"
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def _folder_of_process() -> Path:
    """A new temporary folder, which goes with the process."""
    temporary = temporary_folder()
    with output_errors(temporary):
        folder = tempfile.mkdtemp(prefix="nequip_like-", dir=temporary)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
