"""Rows of an ASE database in LMDB (``.aselmdb``), as fairchem reads them: JSON, compressed, and no pickle."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from nequip_like.errors import OutputError

_LENGTH = struct.Struct("<Q")
_AT_ONCE = 4096  # rows of a transaction, whose pages are in memory until it ends


def format_row(
    numbers: np.ndarray,
    positions: np.ndarray,
    cell: np.ndarray,
    pbc: np.ndarray,
    results: Mapping[str, Any],
    pairs: Mapping[str, float],
) -> bytes:
    """A row, with its length before it.

    Times and names of users, which ASE writes as well, are left out: two predictions of one thing are the same bytes.

    Args:
        numbers: Atomic numbers, shape (atoms,).
        positions: Shape (atoms, 3), Angstrom.
        cell: Shape (3, 3), Angstrom.
        pbc: Shape (3,).
        results: Those of the calculator by ASE's names.
        pairs: Further values of the structure.
    """
    row: dict[str, Any] = {
        "numbers": numbers,
        "positions": positions,
        "cell": cell,
        "pbc": pbc,
        "calculator": "nequip_like",
        "calculator_parameters": {},
        "key_value_pairs": dict(pairs),
        "data": {},
        "ctime": 0.0,
        "mtime": 0.0,
        "user": "",
        **results,
    }
    row["unique_id"] = hashlib.sha256(numbers.tobytes() + positions.tobytes() + cell.tobytes()).hexdigest()[:32]
    packed = zlib.compress(_encode(row))
    return _LENGTH.pack(len(packed)) + packed


def build_database(rows: Path, target: Path, count: int) -> None:
    """Make the database of rows that lie one behind the other in a file.

    Args:
        rows: What :func:`format_row` gave.
        target: The database.
        count: Number of rows.

    Raises:
        OutputError: If it cannot be written.
    """
    # A page for each row more than it takes: the map is a range of addresses and no file until it is written.
    size = 2 * rows.stat().st_size + 8192 * (count + 1024)
    try:
        with lmdb.open(str(target), subdir=False, map_size=size, lock=False) as environment:
            numbers = range(1, count + 1)
            reader = _read_rows(rows)
            for start in range(0, count, _AT_ONCE):
                with environment.begin(write=True) as transaction:
                    for number in numbers[start : start + _AT_ONCE]:
                        transaction.put(str(number).encode(), next(reader))
            with environment.begin(write=True) as transaction:
                for name, value in (("nextid", count + 1), ("deleted_ids", []), ("metadata", {})):
                    transaction.put(name.encode(), zlib.compress(_encode(value)))
    except lmdb.Error as error:
        raise OutputError(f"cannot write {target}: {error}", "look at the folder and its free space") from error


def _read_rows(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while head := file.read(_LENGTH.size):
            yield file.read(_LENGTH.unpack(head)[0])


def _encode(value: Any) -> bytes:
    return json.dumps(value, default=_describe_array).encode()


def _describe_array(array: np.ndarray) -> dict[str, Any]:
    """An array as ASE writes it in JSON."""
    return {"__ndarray__": [list(array.shape), array.dtype.name, array.ravel().tolist()]}
