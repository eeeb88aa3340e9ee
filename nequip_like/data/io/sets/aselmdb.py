"""ASE databases in LMDB (``.aselmdb``), as fairchem publishes OMat24, OMol25 and OC: rows of JSON, compressed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.db.row import AtomsRow
from ase.io.jsonio import decode

from nequip_like.data.io.databases import find_overfull_array
from nequip_like.data.io.sets.folders import list_parts
from nequip_like.data.io.sets.frame_sets import FrameSet
from nequip_like.data.io.sets.lmdb_files import NumberedEntries, open_entries
from nequip_like.errors import DataError

_NEXT, _DELETED, _METADATA = b"nextid", b"deleted_ids", b"metadata"
_LARGEST_ROW = 1 << 28  # bytes of text; ten million numbers


@contextmanager
def open_aselmdb(path: Path) -> Iterator[FrameSet]:
    """The rows of one file as structures, as :func:`nequip_like.data.io.databases.open_database` gives those of SQLite.

    Raises:
        DataError: If the file is damaged or lacks rows.
    """
    with open_entries(path) as entries:
        _check_numbers(entries)
        yield FrameSet(len(entries.numbers), partial(_read_rows, entries))


def _read_rows(entries: NumberedEntries, frames: range) -> Iterator[Atoms]:
    for number in entries.numbers[frames.start : frames.stop]:
        row = _decode(entries, number)
        if not isinstance(row, dict) or not {"numbers", "positions"} <= set(row):
            raise DataError(f"{entries.path.absolute()} row {number} is no structure", "write the database again")
        lists = {name: np.array(row[name]) for name in all_properties if isinstance(row.get(name), list)}
        yield AtomsRow({"unique_id": "", **row, **lists, "id": number}).toatoms(add_additional_information=True)


def read_aselmdb_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a file, or of all shards in a folder."""
    metadata: dict[str, Any] = {}
    for part in list_parts(path, "aselmdb"):
        with open_entries(part) as entries:
            if _METADATA in entries.names:
                values = _decode(entries, _METADATA)
                metadata |= values if isinstance(values, dict) else {}
    return metadata


def _check_numbers(entries: NumberedEntries) -> None:
    """Compare the rows with what the file says of them: all from 1 on have to be there but those that were deleted."""
    path = entries.path.absolute()
    following = _decode(entries, _NEXT) if _NEXT in entries.names else 1
    deleted = _decode(entries, _DELETED) if _DELETED in entries.names else []
    try:
        declared = following - 1 - len({number for number in deleted if number < following})
        outside = [number for number in entries.numbers if not 0 < number < following]
    except TypeError:
        names = f"'{_NEXT.decode()}' or '{_DELETED.decode()}'"
        raise DataError(f"{path}: its {names} is no number", "write the database again") from None
    if declared != len(entries.numbers):
        raise DataError(
            f"{path} says {declared} rows, but has {len(entries.numbers)}",
            "check that it is an ASE database (.aselmdb) and complete; write it again",
        )
    if outside:
        raise DataError(f"{path} has a row {outside[0]}, but says 1 to {following - 1}", "write the database again")


def _decode(entries: NumberedEntries, key: int | bytes) -> Any:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(entries.get(key), _LARGEST_ROW).decode()
    if not unpacking.eof:
        raise DataError(f"{entries.path.absolute()} entry {key!r} is cut off, or too long", "write the database again")
    if match := find_overfull_array(text):
        raise DataError(
            f"{entries.path.absolute()} entry {key!r}: an array is declared as [{match[1].strip()}], but its text is "
            "shorter",
            "write the database again",
        )
    return decode(text)
