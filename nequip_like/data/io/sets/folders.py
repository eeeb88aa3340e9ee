"""Folders that are one data set: which there are, and how each is told from a folder of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def _is_deepmd_system(folder: Path) -> bool:
    return (folder / "type.raw").is_file() or any(folder.glob("set.*/coord.npy"))


# By the name of the format in the table of formats.
_FOLDERS: dict[str, Callable[[Path], bool]] = {"deepmd": _is_deepmd_system}


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
