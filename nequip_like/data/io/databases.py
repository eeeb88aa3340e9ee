"""ASE databases: every row with all that it holds, checked before ASE makes arrays of it.

ASE makes an array of the declared shape before it looks at the numbers, and repeats a single number as often as it
takes: a few bytes could fill the memory. SQLite reads the first of two databases that were joined to one file.
"""

from __future__ import annotations

import math
import re
import reprlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from nequip_like.data.io.sets.frame_sets import FrameSet
from nequip_like.data.labels.names import WELL_KNOWN, normalise_name
from nequip_like.errors import DataError

NESTED = ("key_value_pairs", "data")  # where a database keeps what is neither structure nor result of a calculator

_ARRAY = re.compile(r'"__(?:complex_)?ndarray__"\s*:\s*\[\s*\[([\d\s,]*)\]')
_MAGIC = b"SQLite format 3\x00"


@contextmanager
def open_database(path: Path) -> Iterator[FrameSet]:
    """The rows of a database as structures.

    Labels of calculators are ``calc.results``; key-value pairs and ``data`` are ``info["key_value_pairs"]`` and
    ``info["data"]``.

    Args:
        path: An SQLite file that ASE wrote.

    Raises:
        DataError: If an array declares more numbers than its text can hold, or two databases were joined.
        sqlite3.Error: If the file is no database.
    """
    _check_single(path)
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        (length,) = connection.execute("SELECT COUNT(*) FROM systems").fetchone()
    finally:
        connection.close()
    yield FrameSet(length, partial(_read_rows, path))


def _read_rows(path: Path, frames: range) -> Iterator[Atoms]:
    check_arrays(path, frames)
    if not frames:  # ASE takes a limit of 0 for none
        return
    with _open_database(path) as database:
        for row in database.select(limit=len(frames), offset=frames.start):
            yield row.toatoms(add_additional_information=True)


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a database, which are of all its rows."""
    with _open_database(path) as database:
        return dict(database.metadata)


def collect_units(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Units that metadata declare for names of the rows: ``{name: unit}``.

    ASE's own place for them is ``key_descriptions: {name: [short, long, unit]}``; SchNetPack writes
    ``_property_unit_dict``.
    """
    units: dict[str, str] = {}
    descriptions = metadata.get("key_descriptions")
    if isinstance(descriptions, Mapping):
        for name, texts in descriptions.items():
            if isinstance(texts, list | tuple) and len(texts) == 3:
                units[str(name)] = str(texts[2])
    properties = metadata.get("_property_unit_dict")
    if isinstance(properties, Mapping):
        units.update({str(name): str(unit) for name, unit in properties.items()})
    return {name: unit for name, unit in units.items() if unit}


def convert_to_array(value: Any) -> Any:
    """Nested lists of numbers as an array; anything else as it is."""
    if not isinstance(value, list | tuple):
        return value
    try:
        array = np.array(value)
    except ValueError:  # rows of different lengths
        return value
    return array if array.dtype.kind in "if" else value


def is_read(name: str, mapping: Mapping[str, str]) -> bool:
    """Whether a label or weight is read under a name: a declared one, or a usual one of what is declared nowhere."""
    label = WELL_KNOWN.get(normalise_name(name))
    return name in mapping or (label is not None and label not in mapping.values())


def check_places(atoms: Atoms, mapping: Mapping[str, str], origin: str) -> None:
    """Refuse a structure that has one label in two places, with two values.

    Args:
        atoms: What :func:`open_database` gives, or any structure with results of a calculator beside values of its own.
        mapping: ``{name in the file: label}`` as declared.
        origin: File and frame, for messages.

    Raises:
        DataError: Naming both places and values.
    """
    results = getattr(atoms.calc, "results", None) or {}
    places: dict[str, Mapping[str, Any]] = {
        "calculator": results,
        "info": atoms.info,
        # A weight of the frame may stand beside one of each atom.
        "arrays": {name: value for name, value in atoms.arrays.items() if name in results},
        **{place: value for place in NESTED if isinstance(value := atoms.info.get(place), Mapping)},
    }
    first_by_name: dict[str, tuple[str, Any]] = {}
    for place, values in places.items():
        for name, value in values.items():
            if value is None or not is_read(name, mapping):
                continue
            first_place, first_value = first_by_name.setdefault(name, (place, value))
            if first_value is not value and not _is_same(first_value, value):
                raise DataError(
                    f"{origin}: '{name}' stands there twice: it is {_format_value(first_value)} in "
                    f"'{first_place}', and {_format_value(value)} in '{place}'",
                    "keep one of both, or rename one and declare the other with key_mapping",
                )


def _is_same(a: Any, b: Any) -> bool:
    """Whether two values are equal but for rounding, be they (3, 3) or Voigt's six, in a list or an array."""
    try:
        flat_a, flat_b = (np.asarray(value, dtype=np.float64).ravel() for value in (a, b))
    except (TypeError, ValueError):
        return True  # what is no number is refused where it is read
    if {flat_a.size, flat_b.size} == {6, 9}:
        flat_a, flat_b = (value[[0, 4, 8, 5, 2, 1]] if value.size == 9 else value for value in (flat_a, flat_b))
    return flat_a.size == flat_b.size and np.allclose(flat_a, flat_b, rtol=1e-6, atol=1e-9, equal_nan=True)


def _format_value(value: Any) -> str:
    return reprlib.repr(np.asarray(value).tolist())


def _open_database(path: Path) -> Any:
    # Imported here: structures in memory are checked by this module, too, and ase.db takes its time.
    import ase.db

    return ase.db.connect(str(path.absolute()), type="db", serial=True, use_lock_file=False)


def _check_single(path: Path) -> None:
    with path.open("rb") as file:
        header = file.read(100)
        # Of SQLite's file format, section 1.3: size of a page in bytes (1 stands for 65536), and number of pages.
        size = int.from_bytes(header[16:18], "big")
        file.seek((65536 if size == 1 else size) * int.from_bytes(header[28:32], "big"))
        is_joined = file.tell() > 0 and file.read(len(_MAGIC)) == _MAGIC
    if is_joined:
        raise DataError(f"{path} holds two databases, of which only the first can be read", "give each as its own file")


def check_arrays(path: Path, frames: range | None = None) -> None:
    """Check the text of a database before ASE reads it.

    Args:
        path: The database.
        frames: Which of its rows; all by default.

    Raises:
        DataError: If an array declares more numbers than its text can hold.
        sqlite3.Error: If the file is no database.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        first, limit = (0, -1) if frames is None else (frames.start, len(frames))
        rows = connection.execute("SELECT * FROM systems LIMIT ? OFFSET ?", (limit, first))
        for number, row in enumerate(rows, first):
            for text in row:
                if isinstance(text, str) and (match := find_overfull_array(text)):
                    raise DataError(
                        f"{path} row {number}: an array is declared as [{match[1].strip()}], but its text is shorter",
                        "write the database again",
                    )
    finally:
        connection.close()


def find_overfull_array(text: str) -> re.Match[str] | None:
    """The first array of a JSON text that declares more numbers than the text has characters."""
    for match in _ARRAY.finditer(text):
        if math.prod(int(length[:18]) for length in match[1].split(",") if length.strip()) > len(text):
            return match
    return None
