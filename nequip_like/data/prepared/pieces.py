"""Pieces of a large file: runs of whole frames, each of which is read as if it were a file of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice, pairwise
from pathlib import Path
from typing import BinaryIO

from nequip_like.data.io.formats import count_frames, format_of
from nequip_like.data.io.sets.frame_sets import FrameRange

_MOST_DIGITS = 19  # of a number of atoms, as the reader of the text takes it


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


def cut_into_pieces(
    path: Path, size: int, trust_pickle: bool = False, with_rest: bool = False
) -> list[Piece | FrameRange | None]:
    """Find pieces of about so many bytes.

    Args:
        path: The file, or a folder that is a data set.
        size: Bytes of a piece; of extended XYZ the last frame of each goes beyond.
        trust_pickle: Open files of pickles, too.
        with_rest: Of a text whose frames cannot be told apart from somewhere on, such as one that was cut off, cut
            what is before, too; the last piece is what cannot be read.

    Returns:
        The pieces; ``[None]``, the whole file as one, where it is not larger, of a format that can only be read from
        its begin, or not what it seems: its reader says what is wrong.

    Raises:
        DataError: If the file cannot be opened.
    """
    counts = count_frames(path, trust_pickle)
    if counts is not None:
        return _cut_into_ranges(counts, size)
    if not _has_lines_of_frames(path) or path.stat().st_size <= size:
        return [None]
    pieces: list[Piece | FrameRange | None] = []
    with path.open("rb") as file:
        start = end = frame = line = first_frame = first_line = 0
        for length, lines in _walk_frames(file):
            end, frame, line = end + length, frame + 1, line + lines
            if end - start >= size:
                pieces.append(Piece(start, end, first_frame, first_line))
                start, first_frame, first_line = end, frame, line
        has_rest = _has_text_behind(file, end)
    if has_rest and not with_rest:
        return [None]
    if end > start:
        pieces.append(Piece(start, end, first_frame, first_line))
    if has_rest:
        pieces.append(Piece(end, path.stat().st_size, frame, line))
    return pieces


def halve_piece(
    path: Path, piece: Piece | FrameRange | None, trust_pickle: bool = False
) -> tuple[Piece | FrameRange, Piece | FrameRange] | None:
    """Two pieces of one, to find out which of its frames cannot be read.

    Args:
        path: The file, or a folder that is a data set.
        piece: A piece of it; None: all.
        trust_pickle: Open files of pickles, too.

    Returns:
        The pieces; None of a single frame, and where frames cannot be told apart.

    Raises:
        DataError: If the file cannot be opened.
    """
    if piece is None and (counts := count_frames(path, trust_pickle)) is not None:
        if len(counts) != 1:
            return None
        piece = FrameRange(counts[0][0], 0, counts[0][1], 0)
    if isinstance(piece, FrameRange):
        middle = (piece.start + piece.stop) // 2
        first = FrameRange(piece.part, piece.start, middle, piece.frame)
        second = FrameRange(piece.part, middle, piece.stop, piece.frame + middle - piece.start)
        return (first, second) if piece.start < middle else None
    if not _has_lines_of_frames(path):
        return None
    begins, has_rest = list_begins(path, piece)
    count = len(begins) if has_rest else len(begins) - 1  # the last one is the end
    if count < 2:
        return None
    stop = path.stat().st_size if piece is None else piece.stop
    begin, centre = begins[0], begins[count // 2]
    return replace(begin, stop=centre.start), replace(centre, stop=stop)


def list_begins(path: Path, piece: Piece | None) -> tuple[list[Piece], bool]:
    """Where the frames of extended XYZ text begin, and behind them what is no whole frame, or the end.

    Args:
        path: The file.
        piece: A piece of it; None: all.

    Returns:
        A piece without length for each begin, the last one for what is behind; and whether there is text behind.
    """
    start, frame, line = (0, 0, 0) if piece is None else (piece.start, piece.frame, piece.line)
    with path.open("rb") as file:
        file.seek(start)
        text = BytesIO(file.read(-1 if piece is None else piece.stop - piece.start))
    begins = [Piece(start, start, frame, line)]
    for length, lines in _walk_frames(text):
        last = begins[-1]
        begins.append(Piece(last.start + length, last.start + length, last.frame + 1, last.line + lines))
    return begins, _has_text_behind(text, begins[-1].start - start)


def _has_lines_of_frames(path: Path) -> bool:
    """Whether it is extended XYZ text. A compressed file is not: where a frame begins in it is not known."""
    return path.suffix.lower() in (".xyz", ".extxyz") and format_of(path).name == "extxyz"


def _walk_frames(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Bytes and lines of one frame after the other, as far as each begins with its number of atoms."""
    before: tuple[int, int] | None = None
    while True:
        head = file.readline()
        number = head.strip()
        if number and not (number.isdigit() and len(number) < _MOST_DIGITS):
            return  # the frame before says too few atoms: it is none that is whole
        if before is not None:
            yield before
        if not number:
            return
        lines = int(number) + 1
        rest = [len(text) for text in islice(file, lines)]
        if len(rest) < lines:
            return
        vectors = _skip_cell_vectors(file)
        before = len(head) + sum(rest) + sum(vectors), 1 + lines + len(vectors)


def _has_text_behind(file: BinaryIO, end: int) -> bool:
    """Whether something else than empty lines is behind a place in a file."""
    file.seek(end)
    return any(text.strip() for text in file)


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
