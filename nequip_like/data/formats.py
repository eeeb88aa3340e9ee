"""Files of structures: which formats are read, and every way in which reading can fail as one kind of error.

ASE guesses the format of a file, and some of its formats name a database server or a program, or unpack objects. Only
formats that are pure data are read here.
"""

from __future__ import annotations

import io
import lzma
import re
import warnings
import zlib
from pathlib import Path

import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype, get_compression, open_with_compression

from nequip_like.data.databases import check_arrays
from nequip_like.data.extxyz import check_text
from nequip_like.errors import DataError, closest_hint, first_line

_BY_SUFFIX = {".xyz": "extxyz", ".extxyz": "extxyz", ".traj": "traj", ".db": "db"}
# Text and binary formats of ASE that hold data only. ASE's JSON is left out: it may declare an array of any size, and
# netCDF, bundles, databases on servers and what needs other programs.
_OTHERS = (
    "aims-output", "castep-castep", "cif", "cp2k-dcd", "crystal", "espresso-out", "gaussian-out", "gen", "gpaw-out",
    "lammps-dump-text", "nwchem-out", "octopus-in", "orca-output", "proteindatabank", "qbox", "sdf", "siesta-xv",
    "turbomole", "turbomole-gradient", "vasp", "vasp-out", "vasp-xdatcar", "vasp-xml", "xsf",
)  # fmt: skip
SAFE_FORMATS = frozenset([*_BY_SUFFIX.values(), *_OTHERS])
_MATRIX = re.compile(r"Got info item (\w+), expecting special 3x3")  # of ASE's reader of extended XYZ
_ADVICE = "check that the file is complete, and that its suffix is that of its format (.xyz, .extxyz, .traj, .db)"


def read_atoms(path: Path) -> tuple[list[Atoms], list[str]]:
    """All frames of a file.

    Args:
        path: The file. Its format follows from the suffix, else from its content; ``.gz``, ``.bz2`` and ``.xz`` are
            unpacked.

    Returns:
        The frames, and notes on what stands in the file and is not read.

    Raises:
        DataError: If the file cannot be opened, is of no format that is read, is damaged, or has no frames.
    """
    name = _format(path)
    notes: list[str] = []
    source: str | io.StringIO = str(path.absolute())
    if name == "extxyz":
        text = _text(path)
        notes = check_text(text, path)
        source = io.StringIO(text)
    frames: list[Atoms] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ASE and numpy, about values that are checked afterwards
            if name == "db":
                check_arrays(path)
            for atoms in ase.io.iread(source, index=":", format=name, do_not_split_by_at_sign=True):
                frames.append(atoms)
    except DataError:
        raise
    except Exception as error:  # ASE raises anything, from ValueError to StopIteration, for a broken file
        message, advice = _explain(error, name)
        raise DataError(f"cannot read {path.absolute()}, frame {len(frames)}: {message}", advice) from error
    if not frames:
        raise DataError(f"{path.absolute()} holds no frames", "give a file with structures")
    return frames, notes


def _format(path: Path) -> str:
    suffix = Path(get_compression(str(path))[0]).suffix.lower()
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path.absolute()} is empty", "give a file with structures")
        name = _BY_SUFFIX.get(suffix) or filetype(str(path.absolute()))
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise _unreadable(path, error) from error
    except (UnknownFileTypeError, ImportError) as error:
        raise _no_format(path, suffix) from error
    if name == "xyz":
        name = "extxyz"
    if name not in SAFE_FORMATS:
        raise _no_format(path, suffix)
    return name


def _no_format(path: Path, suffix: str) -> DataError:
    hint = closest_hint(suffix, _BY_SUFFIX) if suffix else ""
    return DataError(
        f"{path.absolute()} is of no format that is read ({suffix or 'no suffix'})",
        f"{hint}give .xyz, .extxyz, .traj, .db, or the output of an electronic-structure program that ASE knows",
    )


def _text(path: Path) -> str:
    """The text of a file with one kind of line end, without a byte order mark."""
    try:
        with open_with_compression(str(path), "rb") as file:
            content: bytes = file.read()
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise _unreadable(path, error) from error
    # A byte that is no UTF-8 may stand in a comment, where it does no harm; anywhere else it is refused as no number.
    text = content.decode("utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _unreadable(path: Path, error: BaseException) -> DataError:
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
    text = first_line(error).removeprefix("ase.io.extxyz: ")
    return f"{type(error).__name__}: {text if len(text) <= 200 else text[:200] + '...'}", _ADVICE
