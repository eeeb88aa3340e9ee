"""Data sets in NumPy's ``.npz``: those of rMD17 and sGDML, and others with the same frames-first arrays.

Positions have the shape (frames, atoms, 3). An array whose first dimension is that of the frames holds a value of each
frame, under its own name; the units that sGDML states (``e_unit``, ``r_unit``) are kept with each frame. Nothing is
converted here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
from ase import Atoms

from nequip_like.data import fields
from nequip_like.data.io.file_formats import FORMATS
from nequip_like.data.io.sets.array_rows import ArrayRows, convert_row
from nequip_like.data.io.sets.frame_sets import FrameSet
from nequip_like.data.io.sets.zip_files import open_zip
from nequip_like.data.labels.frame_units import is_unit_name
from nequip_like.data.labels.names import label_of
from nequip_like.errors import DataError

_SUFFIX = ".npy"
# Names of the parts of a structure, in small letters; the first is that of rMD17 or sGDML.
_PARTS = {
    "positions": ("coords", "r", "coordinates", "positions", "pos"),
    "numbers": ("nuclear_charges", "z", "atomic_numbers", "numbers"),
    "cell": ("lattice", "cell", "cells"),
    "pbc": ("pbc",),
}


@contextmanager
def open_npz(path: Path) -> Iterator[FrameSet]:
    """The frames of an ``.npz`` file.

    Args:
        path: The file. It holds positions (frames, atoms, 3) as ``coords``, ``R`` or ``positions``; atomic numbers
            (atoms,) or (frames, atoms) as ``nuclear_charges``, ``z`` or ``atomic_numbers``; perhaps ``cell`` (3, 3) or
            (frames, 3, 3) with vectors as rows, or ``lattice``, which beside ``R`` has them as columns, as in sGDML;
            ``pbc`` (), (3,) or (frames, 3), true by default where there is a cell.

    Returns:
        One structure after the other. Whatever else there is of each frame stands in ``info`` under its name.

    Raises:
        DataError: If a part of the structure is missing or stands there twice, or an array does not fit to the others.
    """
    with _open_arrays(path) as (arrays, parts):
        length = arrays[parts["positions"]].shape[0]
    yield FrameSet(length, partial(_read_frames, path))


@contextmanager
def _open_arrays(path: Path) -> Iterator[tuple[dict[str, ArrayRows], dict[str, str]]]:
    """The arrays by name, and which of them is which part of the structure."""
    with open_zip(path) as archive, ExitStack() as streams:
        arrays: dict[str, ArrayRows] = {}
        for entry in archive.infolist():
            name = entry.filename.removesuffix(_SUFFIX)
            if name in arrays:
                raise DataError(f"{path} holds two arrays named '{name}'", "save it again")
            if name != entry.filename:
                stream = streams.enter_context(archive.open(entry))
                arrays[name] = ArrayRows(stream, entry.file_size, f"{path}: the array '{name}'")
        parts = _find_parts(arrays, path)
        positions = arrays[parts["positions"]]
        if len(positions.shape) != 3 or positions.shape[2] != 3:
            raise DataError(
                f"{positions.title} has the shape {positions.shape}", "positions must have the shape (frames, atoms, 3)"
            )
        yield arrays, parts


def _read_frames(path: Path, indices: range) -> Iterator[Atoms]:
    with _open_arrays(path) as (arrays, parts):
        positions = arrays[parts["positions"]]
        frames, atoms, _ = positions.shape
        numbers = _expand(arrays[parts["numbers"]], indices, ((atoms,), (frames, atoms)))
        cells = _expand(arrays[parts["cell"]], indices, ((3, 3), (frames, 3, 3))) if "cell" in parts else repeat(None)
        pbc = _expand(arrays[parts["pbc"]], indices, ((), (3,), (frames, 3))) if "pbc" in parts else repeat(None)
        has_columns = parts.get("cell", "").lower() == "lattice" and parts["positions"].lower() == "r"
        extra_arrays = {name: rows for name, rows in arrays.items() if name not in parts.values()}
        units = {
            name: convert_row(rows.read())
            for name, rows in extra_arrays.items()
            if is_unit_name(name) and rows.shape in ((), (1,))
        }
        value_arrays = {name: rows for name, rows in extra_arrays.items() if name not in units}
        values = _select_values(value_arrays, frames, indices, path)
        structures = zip(positions.read_rows(indices), numbers, cells, pbc, strict=False)
        for i, (place, kinds, cell, periodic) in enumerate(structures, indices.start):
            _check_numbers(kinds, f"{path} frame {i}")
            structure = Atoms(numbers=kinds, positions=place)
            if cell is not None:
                structure.set_cell(cell.T if has_columns else cell)
            structure.pbc = structure.cell.any(axis=1) if periodic is None else periodic
            structure.info.update(units)
            _add_values(structure, {name: next(rows) for name, rows in values.items()})
            yield structure


def _names_of_labels() -> Mapping[str, str]:
    return FORMATS["npz"].names


def _find_parts(arrays: Mapping[str, ArrayRows], path: Path) -> dict[str, str]:
    """``{part of the structure: name in the file}``."""
    parts: dict[str, str] = {}
    for part, names in _PARTS.items():
        candidates = [name for name in arrays if name.lower() in names]
        if len(candidates) > 1:
            raise DataError(f"{path}: {' and '.join(candidates)} could both be the {part}", "leave one of them out")
        if candidates:
            parts[part] = candidates[0]
    for part in ("positions", "numbers"):
        if part not in parts:
            title = "positions" if part == "positions" else "atomic numbers"
            raise DataError(
                f"{path} has no {title}; its arrays are {', '.join(arrays) or 'none'}",
                f"save them as one of {', '.join(name if name != 'r' else 'R' for name in _PARTS[part])}",
            )
    return parts


def _expand(rows: ArrayRows, indices: range, shapes: tuple[tuple[int, ...], ...]) -> Iterator[np.ndarray]:
    """Rows of an array of all frames, or again and again one that holds for all; the last shape is that of rows."""
    if rows.shape not in shapes:
        allowed = " or ".join(str(shape) for shape in shapes)
        raise DataError(f"{rows.title} has the shape {rows.shape}", f"it must have the shape {allowed}")
    return rows.read_rows(indices) if rows.shape == shapes[-1] else repeat(rows.read(), len(indices))


def _check_numbers(numbers: np.ndarray, origin: str) -> None:
    if numbers.dtype.kind not in "iu":
        raise DataError(f"{origin}: its atomic numbers are of type {numbers.dtype}", "save them as whole numbers")
    if (numbers == 0).any():
        raise DataError(
            f"{origin}: an atomic number is 0, as where frames of several sizes are padded",
            "give frames of one size as one file, without padding",
        )


def _select_values(
    arrays: Mapping[str, ArrayRows], frames: int, indices: range, path: Path
) -> dict[str, Iterator[np.ndarray]]:
    """The rows of each array that holds a value of each frame; a label of another length is refused."""
    values = {}
    for name, rows in arrays.items():
        if rows.shape and len(rows) == frames:
            values[name] = rows.read_rows(indices)
        elif rows.shape and (name in _names_of_labels() or label_of(name)):
            raise DataError(
                f"{rows.title} has the shape {rows.shape}, but the file has {frames} frames",
                "save one row for each frame",
            )
    return values


def _add_values(structure: Atoms, values: Mapping[str, np.ndarray]) -> None:
    """Put values of a frame into ``info``; forces under a name that only here stands for them, where forces stand."""
    for name, row in values.items():
        if _names_of_labels().get(name) == fields.FORCES and row.shape == (len(structure), 3):
            structure.arrays[name] = row
        else:
            structure.info[name] = convert_row(row)
