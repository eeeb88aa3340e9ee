"""Arrays in NumPy's own format (``.npy``), read row by row: never more than one frame is in memory twice.

NumPy makes an array of the declared shape before it looks at the numbers; here the declared shape is compared with what
there is. Arrays of Python objects, which could run code, are never opened.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from nequip_like.errors import DataError, first_line

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_ADVICE = "check that it is complete, and write it again with numpy.save"


class ArrayRows:
    """One array, of which the rows are read when they are asked for, once.

    Args:
        stream: The file, at its begin.
        size: Bytes that it has.
        title: What it is called, for messages.

    Attributes:
        shape: Its shape; rows run along the first dimension.
        title: As given.

    Raises:
        DataError: If it is none, holds something else than numbers or text, or is of another size than it says.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> np.save(file, np.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> size = file.tell()
        >>> _ = file.seek(0)
        >>> rows = ArrayRows(file, size, "energy.npy")
        >>> rows.shape, [row.tolist() for row in rows]
        ((2, 2), [[1.0, 2.0], [3.0, 4.0]])
    """

    def __init__(self, stream: IO[bytes], size: int, title: str) -> None:
        self.title = title
        self._stream = stream
        try:
            read_header = _HEADERS[npy.read_magic(stream)]
            self.shape, self._is_fortran, self._dtype = read_header(stream)
        except Exception as error:  # NumPy evaluates the header as Python's literals, so that anything may be raised
            raise DataError(f"{title} is no array of NumPy: {first_line(error)}", _ADVICE) from error
        if self._dtype.kind not in "biufUS":
            kind = "Python objects, which are not opened" if self._dtype.hasobject else f"values of type {self._dtype}"
            raise DataError(f"{title} holds {kind}", "save arrays of numbers; frames of several sizes, each by its own")
        expected = math.prod(self.shape) * self._dtype.itemsize
        if min(self.shape, default=0) < 0 or stream.tell() + expected != size:
            raise DataError(
                f"{title} says it has shape {self.shape} of {self._dtype}, {expected} bytes, but has "
                f"{size - stream.tell()}: it is damaged or cut off",
                "copy the file again",
            )

    def __len__(self) -> int:
        """Number of rows."""
        return self.shape[0] if self.shape else 1

    def __iter__(self) -> Iterator[np.ndarray]:
        """The rows, one after the other."""
        return self.read_rows(range(len(self)))

    def read_rows(self, rows: range) -> Iterator[np.ndarray]:
        """Some rows that follow each other; those before are passed over."""
        if self._is_fortran and len(self.shape) > 1:  # its columns stand one after the other
            yield from self.read()[rows.start : rows.stop]
            return
        self._stream.seek(rows.start * math.prod(self.shape[1:]) * self._dtype.itemsize, io.SEEK_CUR)
        for _ in rows:
            yield self._take(self.shape[1:])

    def read(self) -> np.ndarray:
        """The whole array."""
        if self._is_fortran:
            return self._take(self.shape[::-1]).T
        return self._take(self.shape)

    def _take(self, shape: tuple[int, ...]) -> np.ndarray:
        """The next values, in this machine's order of bytes."""
        size = math.prod(shape) * self._dtype.itemsize
        content = self._stream.read(size)
        if len(content) < size:
            raise DataError(f"{self.title} ends before its last number", "copy the file again")
        return np.ndarray(shape, self._dtype, content).astype(self._dtype.newbyteorder("="))


def convert_row(row: np.ndarray) -> Any:
    """A row as a frame keeps it: one number or word by itself, several as an array.

    Example:
        >>> convert_row(np.array([1.5])), convert_row(np.array(b"eV")), convert_row(np.array([1, 2]))
        (1.5, 'eV', array([1, 2]))
    """
    if row.size != 1 or row.ndim > 1:
        return row
    value = row.reshape(-1)[0].item()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
