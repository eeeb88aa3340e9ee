"""Files of prepared frames: records one after the other, then the table of all frames and what is known of the set.

The last bytes of a file say where its parts are, so a file that was cut off is noticed when it is opened. Records are
read at their place with a system call, without mapping the file into memory: what was read long ago takes none, network
file systems behave, and processes may share an open file.
"""

from __future__ import annotations

import io
import json
import os
import struct
import weakref
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nequip_like.data.tables.frame_table import COLUMNS, FrameTable
from nequip_like.errors import DataError

_BEGIN, _END = b"NQLFRAME", b"NQLTABLE"
_VERSION = 1
_HEAD = struct.Struct("<8sI4x")
_TAIL = struct.Struct("<QQQI4x8s")  # start and length of the table, length of the manifest, sum of both
_OWN_COLUMNS = ("start", "length", "key", "source", "number")
_ADVICE = "prepare the set again (nequip-data prepare), or copy the file again"


@dataclass(frozen=True)
class Rows:
    """What a file knows of each frame.

    Attributes:
        table: The table of the frames.
        start: Where the record of each frame begins (frames,).
        length: Bytes of the record (frames,).
        key: First 16 bytes of the hash of each structure (frames, 2), as two numbers.
        source: Which of the sources it comes from (frames,).
        number: Its position in that (frames,).
    """

    table: FrameTable
    start: np.ndarray
    length: np.ndarray
    key: np.ndarray
    source: np.ndarray
    number: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of several parts, one after the other."""
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _OWN_COLUMNS}
        return cls(FrameTable.join([part.table for part in parts]), **columns)

    def pack(self) -> memoryview:
        """All columns as one npz file."""
        columns = {name: _narrow(getattr(self.table, name)) for name in COLUMNS}
        columns |= {f"own_{name}": _narrow(getattr(self, name)) for name in _OWN_COLUMNS}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **columns)
        return buffer.getbuffer()

    @classmethod
    def unpack(cls, content: bytes) -> Rows:
        """The rows that :meth:`pack` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as columns:
            table = FrameTable(*(columns[name] for name in COLUMNS))
            return cls(table, **{name: columns[f"own_{name}"] for name in _OWN_COLUMNS})


def is_prepared(path: Path) -> bool:
    """Whether a file is one of prepared frames, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(_BEGIN)) == _BEGIN
    except OSError:
        return False


def begin_file(file: BinaryIO) -> int:
    """Write the head of a file of frames; gives back its length, at which the first record begins."""
    return file.write(_HEAD.pack(_BEGIN, _VERSION))


def end_file(file: BinaryIO, rows: Rows, manifest: Mapping[str, Any]) -> None:
    """Write the table, the manifest and the tail behind the records, where the file stands."""
    start = file.tell()
    table, text = rows.pack(), json.dumps(manifest, indent=1).encode()
    file.write(table)
    file.write(text)
    file.write(_TAIL.pack(start, len(table), len(text), zlib.crc32(text, zlib.crc32(table)), _END))


class FrameFile:
    """A file of prepared frames, open for reading.

    Args:
        path: The file.

    Attributes:
        path: The file.
        manifest: What is known of the set.
        rows: What is known of each frame.

    Raises:
        DataError: If it is none, was cut off or changed, or was written by another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._check_head()
            self.manifest, self.rows = self._read_tail()
        except OSError as error:
            raise DataError(f"cannot read {path.absolute()}: {error.strerror or error}", "check the file") from error

    def read_record(self, index: int) -> bytes:
        """The record of a frame.

        Raises:
            DataError: If the file was cut off since it was opened.
        """
        return self.read_bytes(int(self.rows.start[index]), int(self.rows.length[index]))

    def read_bytes(self, start: int, length: int) -> bytes:
        """What stands at a place.

        Raises:
            DataError: If the file was cut off since it was opened.
        """
        try:
            record = os.pread(self._descriptor, length, start)
        except OSError as error:
            raise DataError(f"cannot read {self.path.absolute()}: {error.strerror or error}", _ADVICE) from error
        if len(record) != length:
            raise DataError(f"{self.path.absolute()} was cut off while it was read", _ADVICE)
        return record

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process, which opens the file anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_descriptor"}

    @cached_property
    def _descriptor(self) -> int:
        descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def _read_all(self, length: int, start: int) -> bytes:
        """So many bytes; the system gives 2 GiB at once at most, and tables of many millions of frames are larger."""
        parts: list[bytes] = []
        while length > 0 and (part := os.pread(self._descriptor, length, start)):
            parts.append(part)
            start, length = start + len(part), length - len(part)
        return b"".join(parts)

    def _check_head(self) -> None:
        head = os.pread(self._descriptor, _HEAD.size, 0)
        if len(head) < _HEAD.size or not head.startswith(_BEGIN):
            raise DataError(f"{self.path.absolute()} is no prepared set", _ADVICE)
        version = _HEAD.unpack(head)[1]
        if version != _VERSION:
            raise DataError(
                f"{self.path.absolute()} has version {version} of prepared sets; this program reads {_VERSION}", _ADVICE
            )

    def _read_tail(self) -> tuple[dict[str, Any], Rows]:
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, _TAIL.size, max(0, size - _TAIL.size))
        if len(tail) < _TAIL.size or not tail.endswith(_END):
            raise DataError(f"{self.path.absolute()} was cut off", _ADVICE)
        start, table_length, text_length, checksum, _ = _TAIL.unpack(tail)
        damaged = DataError(f"{self.path.absolute()} is damaged", _ADVICE)
        if start + table_length + text_length + _TAIL.size != size:
            raise damaged
        table = self._read_all(table_length, start)
        text = self._read_all(text_length, start + table_length)
        if zlib.crc32(text, zlib.crc32(table)) != checksum:
            raise damaged
        try:
            return json.loads(text), Rows.unpack(table)
        except (ValueError, KeyError, zipfile.BadZipFile) as error:  # of another program, with the right sum
            raise damaged from error


def _narrow(values: np.ndarray) -> np.ndarray:
    """Integers in the narrowest type that holds them all: millions of rows are mostly small numbers."""
    if values.dtype.kind not in "iu" or values.size == 0:
        return values
    low, high = int(values.min()), int(values.max())
    narrowest = np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high))
    return values.astype(narrowest)
