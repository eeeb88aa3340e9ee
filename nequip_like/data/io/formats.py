"""Files of structures: which formats are read, and every way in which reading can fail as one kind of error.

ASE guesses the format of a file, and some of its formats name a database server or a program, or unpack objects. Only
formats that are pure data are read here, and only what they can hold (:mod:`nequip_like.data.io.file_formats`).
"""

from __future__ import annotations

import codecs
import io
import lzma
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype, get_compression, ioformats, iread, open_with_compression

from nequip_like.data.io.databases import open_database
from nequip_like.data.io.extxyz import check_text
from nequip_like.data.io.file_formats import FORMATS, Format
from nequip_like.data.io.lammps_dump import check_dump
from nequip_like.data.io.outputs import find_open_line, find_unconverged, read_content, read_part, split_parts
from nequip_like.data.io.sets.archives import unpack
from nequip_like.data.io.sets.aselmdb import open_aselmdb
from nequip_like.data.io.sets.deepmd import open_deepmd
from nequip_like.data.io.sets.folders import format_of_folder, list_parts
from nequip_like.data.io.sets.frame_sets import KEPT_OPEN, FrameRange, Opener, read_all
from nequip_like.data.io.sets.hdf5 import open_mace_hdf5
from nequip_like.data.io.sets.lmdb_sets import open_pickled_lmdb
from nequip_like.data.io.sets.npz import open_npz
from nequip_like.data.io.sets.runner import read_runner
from nequip_like.data.io.structure_files import check_species_line
from nequip_like.errors import DataError, closest_hint, first_line

if TYPE_CHECKING:
    from nequip_like.data.prepared.pieces import Piece

_BY_SUFFIX = {
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".traj": "traj",
    ".db": "db",
    ".lammpstrj": "lammps-dump-text",
    ".aselmdb": "aselmdb",
    ".lmdb": "lmdb",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".npz": "npz",
    ".tar": "archive",
    ".tgz": "archive",
    ".zip": "archive",
}
# Formats that ASE does not read, or reads otherwise; those in front can be read from the middle.
_OPENERS: dict[str, Opener] = {
    "db": open_database,
    "aselmdb": open_aselmdb,
    "lmdb": partial(open_pickled_lmdb, trust_pickle=False),
    "hdf5": open_mace_hdf5,
    "npz": open_npz,
    "deepmd": open_deepmd,
}
_TRUSTED_OPENERS: dict[str, Opener] = {**_OPENERS, "lmdb": partial(open_pickled_lmdb, trust_pickle=True)}
READERS: dict[str, Callable[[Path], Iterator[Atoms]]] = {
    **{name: partial(read_all, opener=opener) for name, opener in _OPENERS.items()},
    "runnerdata": read_runner,
}
_MATRIX = re.compile(r"Got info item (\w+), expecting special 3x3")  # of ASE's reader of extended XYZ
_ADVICE = "check that the file is complete, and that its suffix is that of its format (.xyz, .extxyz, .traj, .db)"


@dataclass(frozen=True)
class Content:
    """What stands in one file.

    Attributes:
        title: The file as it was given, or archive and file in it.
        file: Where it lies: the file itself, or its copy.
        frames: Its frames, with no labels but those that stand in it.
        notes: What stands in it and is not read.
    """

    title: str
    file: Path
    frames: list[Atoms]
    notes: list[str]


def read_atoms(path: Path, trust_pickle: bool = False) -> tuple[list[Atoms], list[str]]:
    """All frames of a file.

    Args:
        path: The file, or a folder that is a data set. Its format follows from the suffix, else from its content;
            ``.gz``, ``.bz2`` and ``.xz`` are unpacked. Of an archive, the frames of all files in it.
        trust_pickle: Read formats that hold pickles, too; nothing but plain data is taken from these.

    Returns:
        The frames, with no labels but those that stand in the file, and notes on what stands in it and is not read.

    Raises:
        DataError: If the file cannot be opened, is of no format that is read, is damaged, has no frames, or does not
            name its species.
    """
    with open_contents(path, trust_pickle) as contents:
        frames = [atoms for content in contents for atoms in content.frames]
        return frames, [note for content in contents for note in content.notes]


@contextmanager
def open_contents(
    path: Path, trust_pickle: bool = False, piece: Piece | FrameRange | None = None
) -> Iterator[list[Content]]:
    """The content of a file, or of each file of an archive; copies of these last as long as the context.

    Args:
        path: As for :func:`read_atoms`.
        trust_pickle: As for :func:`read_atoms`.
        piece: A part of the file; all of it by default.

    Raises:
        DataError: As :func:`read_atoms`.
    """
    form = format_of(path)
    if form.name != "archive":
        yield [Content(str(path), path, *_read_file(path, form, trust_pickle, piece))]
        return
    with unpack(path, can_be_member) as (members, notes):
        contents = []
        for member in members:
            with member.naming():
                frames, own = _read_file(member.file, format_of(member.file), trust_pickle)
            contents.append(Content(member.title, member.file, frames, notes + [member.rename(note) for note in own]))
            notes = []
        yield contents


def count_frames(path: Path, trust_pickle: bool = False) -> list[tuple[Path, int]] | None:
    """How many frames each file of a data set has, of a format that can be read from the middle; None of others.

    Raises:
        DataError: If a file cannot be opened; reading it tells the same.
    """
    form = format_of(path)
    opener = (_TRUSTED_OPENERS if trust_pickle else _OPENERS).get(form.name)
    if opener is None:
        return None
    counts = []
    try:
        for part in list_parts(path, form.name):
            with opener(part) as frames:
                counts.append((part, frames.length))
    except DataError:
        raise
    except Exception as error:  # the libraries raise whatever comes up
        message, advice = _explain(error, form.name)
        raise DataError(f"cannot read {path.absolute()}: {message}", advice) from error
    return counts


def read_first_frames(path: Path, number: int, trust_pickle: bool = False) -> list[Atoms]:
    """The first frames of a file, as far as they can be read without the rest of it, to see what they are like.

    Args:
        path: As for :func:`read_atoms`.
        number: How many at most.
        trust_pickle: As for :func:`read_atoms`.

    Raises:
        DataError: If they cannot be read; reading the whole file tells more.
    """
    form = format_of(path)
    try:
        if form.name == "archive":
            with unpack(path, can_be_member) as (members, _), members[0].naming():
                return read_first_frames(members[0].file, number, trust_pickle)
        if trust_pickle and form.name in _TRUSTED_OPENERS:
            frames = read_all(path, opener=_TRUSTED_OPENERS[form.name])
        else:
            # Of all frames ASE would look through the whole file first.
            frames = READERS[form.name](path) if form.name in READERS else iread(str(path), index=slice(0, number))
        return list(islice(frames, number))
    except DataError:
        raise
    except Exception as error:  # ASE's readers raise whatever comes up
        raise DataError(f"cannot read {path}: {error}", "give a file of a format that is read") from error


def can_be_member(path: Path) -> bool:
    """Whether a file of an archive is read: it has a suffix that says so, or its content does."""
    name = _find_format(path) if path.stat().st_size > 0 else _name_by_suffix(path)
    return name in FORMATS and name != "archive"


def _read_file(
    path: Path, form: Format, trust_pickle: bool, piece: Piece | FrameRange | None = None
) -> tuple[list[Atoms], list[str]]:
    notes: list[str] = [f"{path}: {form.remark}"] if form.remark else []
    frames: list[Atoms] = []
    openers = _TRUSTED_OPENERS if trust_pickle else _OPENERS
    of_text = None if isinstance(piece, FrameRange) else piece
    reader = READERS.get(form.name) or partial(_read_frames, form=form, notes=notes, piece=of_text)
    if form.name in openers:
        reader = partial(read_all, opener=openers[form.name])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ASE and numpy, about values that are checked afterwards
            if isinstance(piece, FrameRange):
                opened = KEPT_OPEN.open(openers[form.name], piece.part)
                frames.extend(opened.read(range(piece.start, piece.stop)))
            else:
                for part in list_parts(path, form.name):
                    frames.extend(reader(part))
    except DataError:
        raise
    except Exception as error:  # ASE raises anything, from ValueError to StopIteration, for a broken file
        message, advice = _explain(error, form.name)
        number = len(frames) + (0 if piece is None else piece.frame)
        raise DataError(f"cannot read {path.absolute()}, frame {number}: {message}", advice) from error
    if not frames:
        contents = f"no finished calculation; it was read as {form.title}" if form.output else "no frames"
        raise DataError(f"{path.absolute()} holds {contents}", "give a file with structures")
    return frames, notes


def _read_frames(path: Path, form: Format, notes: list[str], piece: Piece | None) -> Iterator[Atoms]:
    """The frames of each of the outputs that the file holds; notes are added to ``notes``."""
    content = _read_content(path, piece)
    if form.name == "traj":
        for part in split_parts(content, form):
            yield from read_content(part.content, form, path)
        return
    content = content.removeprefix(codecs.BOM_UTF8)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if form.name in ("extxyz", "lammps-dump-text") and (note := find_open_line(content, path)):
        notes.append(note)
    if form.name == "extxyz":
        # A byte that is no UTF-8 may stand in a comment, where it does no harm; elsewhere it is refused as no number.
        text = content.decode("utf-8", errors="replace")
        frame, line = (0, 0) if piece is None else (piece.frame, piece.line)
        notes.extend(check_text(text, path, frame, line))
        yield from ioformats[form.name].read(io.StringIO(text), slice(None))
        return
    if form.name == "lammps-dump-text":
        notes.extend(check_dump(content, path))
    if form.name == "vasp":
        check_species_line(content, path)
    first = 0
    for part in split_parts(content, form):
        frames = read_part(part, form, path, notes)
        notes.extend(find_unconverged(part, form, range(first, first + len(frames)), path))
        first += len(frames)
        yield from frames


def format_of(path: Path) -> Format:
    """The format of a file, by its suffix, else by its content; or of a folder that is a data set.

    Raises:
        DataError: If the file is empty, cannot be opened, or is of no format that is read.
    """
    try:
        if not path.is_dir() and path.stat().st_size == 0:
            raise DataError(f"{path.absolute()} is empty", "give a file with structures")
        name = _find_format(path)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise _build_reading_error(path, error) from error
    if name not in FORMATS:
        raise _build_format_error(path, _suffix_of(path))
    return FORMATS[name]


def _find_format(path: Path) -> str | None:
    """The name of a format, perhaps of one that is not read."""
    try:
        name = (
            _name_by_suffix(path) or format_of_folder(path) or _detect_content(path) or filetype(str(path.absolute()))
        )
    except (UnknownFileTypeError, ImportError):
        return None
    return "extxyz" if name == "xyz" else str(name)


def _suffix_of(path: Path) -> str:
    return Path(get_compression(str(path))[0]).suffix.lower()


def _name_by_suffix(path: Path) -> str | None:
    return None if path.is_dir() else _BY_SUFFIX.get(_suffix_of(path))


def _detect_content(path: Path) -> str | None:
    """The format of a file by its first lines, where ASE knows it by its name only, or not in all its versions."""
    if path.is_dir():
        return None
    with open_with_compression(str(path), "rb") as file:
        head = file.read(2000).removeprefix(codecs.BOM_UTF8)
    if re.match(rb" *vasp\.\d", head):
        return "vasp-out"
    if re.match(rb"(?:\s*(?:#|comment).*\n)*\s*begin[ \t]*\r?\n", head):
        return "runnerdata"
    return "vasp-xml" if re.match(rb"<\?xml[^>]*>\s*<modeling>", head) else None


def _build_format_error(path: Path, suffix: str) -> DataError:
    hint = closest_hint(suffix, _BY_SUFFIX) if suffix else ""
    return DataError(
        f"{path.absolute()} is of no format that is read ({suffix or 'no suffix'})",
        f"{hint}give .xyz, .extxyz, .traj, .db, or the output of an electronic-structure program that ASE knows",
    )


def _read_content(path: Path, piece: Piece | None) -> bytes:
    try:
        if piece is not None:
            with path.open("rb") as file:
                file.seek(piece.start)
                return file.read(piece.stop - piece.start)
        with open_with_compression(str(path), "rb") as file:
            content: bytes = file.read()
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise _build_reading_error(path, error) from error
    return content


def _build_reading_error(path: Path, error: BaseException) -> DataError:
    reason = getattr(error, "strerror", None) or first_line(error)
    return DataError(f"cannot read {path.absolute()}: {reason}", "check its permissions, and that it is complete")


def _explain(error: Exception, name: str) -> tuple[str, str]:
    if name == "extxyz" and isinstance(error, KeyError) and error.args:
        return f"'{error.args[0]}' is no chemical symbol", "write symbols such as Si, or the column Z:I:1 for numbers"
    if special := _MATRIX.search(str(error)):
        return (
            f"'{special[1]}' is not nine numbers",
            f"write all nine; six (xx yy zz yz xz xy) may stand under another name, such as dft_{special[1]}",
        )
    if isinstance(error, MemoryError):
        return "it declares more data than there is memory", _ADVICE
    if isinstance(error, RecursionError):
        return "its values are nested too deeply", _ADVICE
    if isinstance(error, AssertionError) and not error.args:
        return "something is missing that ASE's reader takes for granted", _ADVICE
    text = first_line(error).removeprefix("ase.io.extxyz: ")
    return f"{type(error).__name__}: {text if len(text) <= 200 else text[:200] + '...'}", _ADVICE
