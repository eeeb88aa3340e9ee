"""Pieces of a large extended XYZ file: runs of whole frames, each of which is read as if it were a file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from nequip_like.data.io.formats import format_of


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


def cut_into_pieces(path: Path, size: int) -> list[Piece | None]:
    """Find pieces of about so many bytes.

    Args:
        path: The file.
        size: Bytes of a piece; the last frame of each goes beyond.

    Returns:
        The pieces; ``[None]``, the whole file as one, where it is not larger, of another format, or not what it seems:
        its reader says what is wrong.
    """
    # A compressed file is read as a whole: where a frame begins in it is not known.
    is_plain = path.suffix.lower() in (".xyz", ".extxyz")
    if not is_plain or format_of(path).name != "extxyz" or path.stat().st_size <= size:
        return [None]
    pieces: list[Piece | None] = []
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
