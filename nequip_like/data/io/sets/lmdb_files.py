"""LMDB files: entries with a number as their key, and others beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb

from nequip_like.data.io.sets.lmdb_pages import check_pages
from nequip_like.errors import DataError


@dataclass
class NumberedEntries:
    """The entries of an open file.

    Attributes:
        path: The file.
        numbers: Keys that are decimal numbers, sorted.
        names: All other keys.
    """

    path: Path
    transaction: Any
    numbers: list[int] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Tell numbers from names."""
        for key in self.transaction.cursor().iternext(keys=True, values=False):
            if key.isdigit() and (key[:1] != b"0" or key == b"0") and len(key) < 19:
                self.numbers.append(int(key))
            else:
                self.names.append(key)
        self.numbers.sort()

    def get(self, key: int | bytes) -> bytes:
        """The value of a key.

        Raises:
            DataError: If there is none.
        """
        value = self.transaction.get(key if isinstance(key, bytes) else str(key).encode())
        if value is None:
            raise DataError(f"{self.path.absolute()} has no entry {key!r}", "write it again")
        return bytes(value)


_open_files: dict[Path, NumberedEntries] = {}


@contextmanager
def open_entries(path: Path) -> Iterator[NumberedEntries]:
    """Open a file for reading, without a lock, so that it may lie where nothing can be written.

    The library opens no file twice in a process: one that is open is given again.

    Raises:
        DataError: If the file is no LMDB database, or damaged.
        lmdb.Error: If the library cannot open it.
    """
    if (known := path.absolute()) in _open_files:
        yield _open_files[known]
        return
    check_pages(path)
    environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, create=False)
    try:
        with environment.begin() as transaction:
            _open_files[known] = NumberedEntries(path, transaction)
            yield _open_files[known]
    finally:
        _open_files.pop(known, None)
        environment.close()
