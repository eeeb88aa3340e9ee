"""Folders that are one data set: which there are, and how each is told from a folder of files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from nequip_like.errors import DataError

# Formats of which a folder of files is one data set, by the suffixes of these.
_SHARDS = {"aselmdb": (".aselmdb",), "lmdb": (".lmdb",), "hdf5": (".h5", ".hdf5")}
_OF_STRUCTURES = (".xyz", ".extxyz", ".traj", ".db")


def _is_deepmd_system(folder: Path) -> bool:
    return (folder / "type.raw").is_file() or any(folder.glob("set.*/coord.npy"))


def _has_shards(folder: Path, name: str) -> bool:
    """Whether a folder has shards of a format; beside files of structures they are not a data set by themselves."""
    suffixes = {file.suffix.lower() for file in folder.iterdir()}
    return not suffixes.isdisjoint(_SHARDS[name]) and suffixes.isdisjoint(_OF_STRUCTURES)


# By the name of the format in the table of formats.
_FOLDERS: dict[str, Callable[[Path], bool]] = {
    "deepmd": _is_deepmd_system,
    **{name: partial(_has_shards, name=name) for name in _SHARDS},
}


def format_of_folder(path: Path) -> str | None:
    """The format of a folder that is a data set; None of any other folder, and of a file."""
    if not path.is_dir():
        return None
    return next((name for name, is_one in _FOLDERS.items() if is_one(path)), None)


def is_set_folder(path: Path) -> bool:
    """Whether a folder is a data set itself."""
    return format_of_folder(path) is not None


def find_set_folders(path: Path) -> list[Path]:
    """The data sets that a folder has in it, or in the folders that it has in it."""
    candidates = [*path.glob("*"), *path.glob("*/*")]
    return sorted(folder for folder in candidates if is_set_folder(folder))


def list_parts(path: Path, name: str) -> list[Path]:
    """The files of a data set, each of which is read by itself.

    Args:
        path: A file, or a folder that is a data set.
        name: Its format in the table of formats.

    Returns:
        The shards in a folder, sorted by name; otherwise what was given.

    Raises:
        DataError: If a shard is empty or packed, or the folder has shards of another format, too.
    """
    if name not in _SHARDS:
        return [path]
    parts = [path]
    if path.is_dir():
        if others := [other for other in _SHARDS if other != name and _has_shards(path, other)]:
            raise DataError(
                f"{path.absolute()} holds files of {name} and of {', '.join(others)}",
                f"name those that are meant, for example {path}/*{_SHARDS[name][0]}",
            )
        parts = sorted(file for file in path.iterdir() if file.suffix.lower() in _SHARDS[name])
    for part in parts:
        if part.suffix.lower() not in _SHARDS[name]:
            raise DataError(f"{part.absolute()} is packed", "unpack it: files of this format are read in place")
        if part.stat().st_size == 0:
            raise DataError(f"{part.absolute()} is empty", "give a file with structures")
    return parts
