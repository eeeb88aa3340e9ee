"""Files of many frames that can be read from the middle: how many there are, and any run of them.

So a large file is read piece by piece, by several processes, and never more than a piece of it is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms


@dataclass(frozen=True)
class FrameSet:
    """An open file.

    Attributes:
        length: Number of its frames.
        read: Gives the frames of a range, one after the other.
    """

    length: int
    read: Callable[[range], Iterator[Atoms]]


Opener = Callable[[Path], AbstractContextManager[FrameSet]]


@dataclass(frozen=True)
class FrameRange:
    """A run of frames of a file.

    Attributes:
        part: The file; one of several where a folder is the data set.
        start: Number of the first frame in that file.
        stop: Number of the first frame behind.
        frame: Number of the first frame in the whole data set.
    """

    part: Path
    start: int
    stop: int
    frame: int


class KeptSet:
    """The file that was read from last, left open: what is checked of a whole file is checked once for all pieces."""

    def __init__(self) -> None:
        self._key: object = None
        self._stack = ExitStack()
        self._frames: FrameSet | None = None

    def open(self, opener: Opener, path: Path) -> FrameSet:
        """A file, which stays open until another is asked for."""
        state = path.stat()
        key = (opener, path.absolute(), state.st_mtime_ns, state.st_size)
        if self._frames is None or key != self._key:
            self.close()
            self._frames = self._stack.enter_context(opener(path))
            self._key = key
        return self._frames

    def close(self) -> None:
        """Close the file."""
        self._frames = None
        self._stack.close()


KEPT_OPEN = KeptSet()  # of this process


def read_all(path: Path, opener: Opener) -> Iterator[Atoms]:
    """All frames of a file."""
    with opener(path) as frames:
        yield from frames.read(range(frames.length))
