"""Pieces of a large file: runs of whole frames, each of which is read as if it were a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import BinaryIO

from nequip_like.data.io.formats import count_frames, format_of
from nequip_like.data.io.sets.frame_sets import FrameRange


@dataclass(frozen=True)
class Piece:
    """A run of whole frames.

    Attributes:
        start: Its first byte.
        stop: The first byte behind it.
        frame: Number of its first frame in the file.
        line: Number of lines before it.
    """

    start: int
    stop: int
    frame: int
    line: int


def cut_into_pieces(path: Path, size: int, trust_pickle: bool = False) -> list[Piece | FrameRange | None]:
    """Find pieces of about so many bytes.

    Args:
        path: The file, or a folder that is a data set.
        size: Bytes of a piece; of extended XYZ the last frame of each goes beyond.
        trust_pickle: Open files of pickles, too.

    Returns:
        The pieces; ``[None]``, the whole file as one, where it is not larger, of a format that can only be read from
        its begin, or not what it seems: its reader says what is wrong.

    Raises:
        DataError: If the file cannot be opened.
    """
    counts = count_frames(path, trust_pickle)
    if counts is not None:
        return _cut_into_ranges(counts, size)
    # A compressed file is read as a whole: where a frame begins in it is not known.
    is_plain = path.suffix.lower() in (".xyz", ".extxyz")
    if not is_plain or format_of(path).name != "extxyz" or path.stat().st_size <= size:
        return [None]
    pieces: list[Piece | FrameRange | None] = []
    with path.open("rb") as file:
        start = end = frame = line = first_frame = first_line = 0
        while (head := file.readline()).strip():
            if not head.strip().isdigit():
                return [None]
            lines = int(head) + 1
            rest = [len(text) for text in islice(file, lines)]
            if len(rest) < lines:
                return [None]
            vectors = _skip_cell_vectors(file)
            end += len(head) + sum(rest) + sum(vectors)
            frame, line = frame + 1, line + 1 + lines + len(vectors)
            if end - start >= size:
                pieces.append(Piece(start, end, first_frame, first_line))
                start, first_frame, first_line = end, frame, line
        if file.read().strip():  # an empty line within the file
            return [None]
    if end > start:
        pieces.append(Piece(start, end, first_frame, first_line))
    return pieces


def _cut_into_ranges(counts: Sequence[tuple[Path, int]], size: int) -> list[Piece | FrameRange | None]:
    """Runs of frames of each file of a data set, as many as take about so many bytes in it."""
    ranges: list[Piece | FrameRange | None] = []
    first = 0
    for part, count in counts:
        bytes_of_part = sum(file.stat().st_size for file in (part.rglob("*") if part.is_dir() else [part]))
        number = min(-(-bytes_of_part // size), count)
        ends = [count * i // number for i in range(number + 1)] if number else []
        ranges += [FrameRange(part, start, stop, first + start) for start, stop in pairwise(ends)]
        first += count
    return ranges if len(ranges) > 1 else [None]


def _skip_cell_vectors(file: BinaryIO) -> list[int]:
    """Lengths of the up to three lines of cell vectors behind a frame, as the program ADF writes them."""
    lengths: list[int] = []
    for _ in range(3):
        begin = file.tell()
        text = file.readline()
        if not text.lstrip().startswith(b"VEC"):
            file.seek(begin)
            break
        lengths.append(len(text))
    return lengths
