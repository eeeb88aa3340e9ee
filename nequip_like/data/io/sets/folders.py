"""Folders that are one data set: which they are, and the files that they consist of."""

from __future__ import annotations

from pathlib import Path

from nequip_like.errors import DataError

_SHARDS = {".aselmdb": "aselmdb", ".lmdb": "lmdb", ".h5": "hdf5", ".hdf5": "hdf5"}


def is_set_folder(path: Path) -> bool:
    """Whether a folder holds shards of a data set, and so is one itself."""
    return path.is_dir() and any(file.suffix.lower() in _SHARDS for file in path.iterdir())


def name_format(folder: Path) -> str:
    """The format of the shards in a folder, as :data:`nequip_like.data.io.file_formats.FORMATS` calls it.

    Raises:
        DataError: If there are none, or shards of several formats.
    """
    formats = sorted({_SHARDS[file.suffix.lower()] for file in folder.iterdir() if file.suffix.lower() in _SHARDS})
    if not formats:
        raise DataError(f"{folder.absolute()} is a folder without a data set", "name its files")
    if len(formats) > 1:
        raise DataError(
            f"{folder.absolute()} holds files of several formats: {', '.join(formats)}",
            f"name those of one, for example {folder}/*{Path(folder.name).suffix or next(iter(_SHARDS))}",
        )
    return formats[0]


def list_parts(path: Path) -> list[Path]:
    """The shards in a folder, sorted by name; of a file, the file itself."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() in _SHARDS)
