"""What a preparation has to do: files, pieces of large ones, and the files in archives, in the order of the frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nequip_like.data.io.formats import can_be_member, format_of
from nequip_like.data.io.given import expand
from nequip_like.data.io.sets.archives import Member, unpack
from nequip_like.data.io.sets.frame_sets import FrameRange
from nequip_like.data.prepared.files import is_prepared
from nequip_like.data.prepared.pieces import Piece, cut_into_pieces
from nequip_like.data.prepared.provenance import describe_source
from nequip_like.errors import ConfigError, DataError


@dataclass(frozen=True)
class PreparationRequest:
    """What is to be prepared.

    Attributes:
        files: The sources: files or patterns.
        cutoff: Cutoff radius of the neighbour lists, Angstrom.
        key_mapping: ``{name in the file: label}``.
        units: As for :class:`nequip_like.data.labels.units.Units`.
        shard: ``(i, n)``: only the i-th of n parts of the sources, counted from 1.
        trust_pickle: Read files of pickles, too.
    """

    files: Sequence[str]
    cutoff: float
    key_mapping: Mapping[str, str] | None = None
    units: Mapping[str, str] | None = None
    shard: tuple[int, int] | None = None
    trust_pickle: bool = False


@dataclass(frozen=True)
class Task:
    """A source, or a piece of one.

    Attributes:
        member: The file that is read, and what it is called; they differ for a file in an archive.
        source: Number of the source that it belongs to.
        piece: The piece; the whole file by default.
    """

    member: Member
    source: int
    piece: Piece | FrameRange | None = None


@contextmanager
def list_tasks(
    request: PreparationRequest, size: int, *, with_rest: bool = False, with_unreadable: bool = False
) -> Iterator[tuple[list[dict[str, Any]], list[Task], list[str]]]:
    """Find what is to be done; archives stay unpacked as long as the context lasts.

    Args:
        request: What is to be prepared.
        size: Bytes of a piece of a large file.
        with_rest: As for :func:`~nequip_like.data.prepared.pieces.cut_into_pieces`.
        with_unreadable: A source that cannot be opened is a task all the same, which fails when it is read.

    Returns:
        What is known of each source, the tasks in the order of their frames, and notes on files that are left out.

    Raises:
        ConfigError: If there are fewer pieces than parts are asked for.
        DataError: If a source cannot be opened, unless it is to be a task.
    """
    sources: list[dict[str, Any]] = []
    tasks: list[Task] = []
    notes: list[str] = []
    files, by_piece = _list_files(request)
    with ExitStack() as stack:
        for path in files:
            sources.append(describe_source(path.absolute()))
            members, is_archive = [Member(str(path), path)], False
            with _passing_over(with_unreadable):
                if is_archive := format_of(path).name == "archive":
                    members, left_out = stack.enter_context(unpack(path, can_be_member))
                    notes += left_out
            for member in members:
                if is_archive:  # of the archive alone it is asked whether it has changed
                    sources.append({"path": f"{path.absolute()}{member.title.removeprefix(str(path))}"})
                    sources[-1] |= {"sha256": "", "size": None, "changed": None}
                pieces: list[Piece | FrameRange | None] = [None]
                with _passing_over(with_unreadable), member.naming():
                    pieces = cut_into_pieces(member.file, size, request.trust_pickle, with_rest)
                tasks += [Task(member, len(sources) - 1, piece) for piece in pieces]
        if by_piece and request.shard is not None:
            number, count = request.shard
            if count > len(tasks):
                raise ConfigError(
                    f"--shard {number}/{count}, but there are {len(files)} files, and {len(tasks)} pieces of them",
                    "give as many parts as there are pieces, or fewer",
                )
            tasks = tasks[len(tasks) * (number - 1) // count : len(tasks) * number // count]
        yield sources, tasks, notes


def _passing_over(unreadable: bool) -> AbstractContextManager[None]:
    """Pass over the error of a source that cannot be opened, if it is to be a task all the same."""
    return suppress(DataError) if unreadable else nullcontext()


def _list_files(request: PreparationRequest) -> tuple[list[Path], bool]:
    """The files of a part, and whether each part shall have pieces of all files instead, for want of files."""
    files = expand(request.files)
    if prepared := [path for path in files if is_prepared(path)]:
        raise ConfigError(f"{prepared[0]} is a prepared set already", "give the files that it was prepared from")
    if request.shard is None or request.shard[1] > len(files):
        return files, True
    number, count = request.shard
    return files[number - 1 :: count], False
