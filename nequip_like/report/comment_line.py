"""Formats values of any kind for extended XYZ, such that ASE reads the same values back."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from ase.calculators.calculator import all_properties
from ase.io.extxyz import key_val_str_to_dict

from nequip_like.data.io.annotations import Annotations

_INPUT = "input_"
_MATRICES = ("Lattice", "virial", "stress")  # ASE's reader wants nine numbers there, and reads them by columns
_RESERVED = frozenset(
    ("Properties", "pbc", *_MATRICES, "species", "pos", "Z", "numbers", "positions", "symbols", "move_mask")
)
_COLUMN = re.compile(r"[^\s:\"'=\\{}\[\],]+")
_LARGEST_INTEGER = 2**31  # of a column, as ASE reads it
_LARGEST_INTEGER_OF_INFO = 2**63


def format_annotations(
    annotations: Annotations, reserved: Container[str], atoms: int
) -> tuple[dict[str, str], dict[str, np.ndarray], list[str]]:
    """Format what a frame holds beside its structure, its ``info`` and ``arrays``.

    Args:
        annotations: What it holds.
        reserved: Names of the file's own values: what has such a name gets ``input_`` before it.
        atoms: Number of atoms.

    Returns:
        Text of each value of the structure; each array (atoms, columns) of letters, numbers or booleans; and the names
        of what extended XYZ cannot hold.
    """
    info: dict[str, str] = {}
    columns: dict[str, np.ndarray] = {}
    left_out: list[str] = []
    for name, value in annotations.info.items():
        if name == "virial" and np.shape(value) == (3, 3) and _is_numeric(value):
            info[name] = format_value(np.asarray(value).T.ravel()) or ""
            continue
        text = format_value(value) if str(name).isprintable() and str(name).strip() else None
        if text is None:
            left_out.append(str(name))
        else:
            info[_choose_name(str(name), reserved, info, value)] = text
    for name, array in annotations.arrays.items():
        column = _convert_to_column(np.asarray(array), atoms) if _COLUMN.fullmatch(name) else None
        if column is None:
            left_out.append(name)
        else:
            columns[_choose_name(name, reserved, columns, array)] = column
    return info, columns, left_out


def format_value(value: Any) -> str | None:
    """Format a value for the comment line; None for a value that it cannot hold.

    Words and numbers are written as they are. What would be read as something else (``"300"`` is read as a number,
    ``"T"`` as a truth), and arrays, lists and mappings, become JSON, which ASE's reader knows by ``_JSON``.

    Example:
        >>> print(format_value(300.0), format_value("bulk"), format_value(True), format_value(np.array([0.5, 1.0])))
        300.0 "bulk" T "0.5 1.0"
    """
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if isinstance(value, bool):
        return "FT"[value]
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int) and abs(value) < _LARGEST_INTEGER_OF_INFO:
        return repr(value)
    if isinstance(value, str) and _is_read_as_text(value):
        return quote(value)
    if isinstance(value, np.ndarray) and value.ndim == 1 and len(value) > 1 and value.dtype.kind in "iuf":
        return f'"{" ".join(repr(number) for number in value.tolist())}"'
    try:
        return quote("_JSON " + json.dumps(value, default=_convert_for_json))
    except (TypeError, ValueError):  # no kind of value that JSON has, or one that holds itself
        return None


def quote(text: str) -> str:
    """A string as the comment line takes it: in quotes, on one line."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def column_type(column: np.ndarray) -> str:
    """The letter of a column's type."""
    return {"b": "L", "i": "I", "u": "I", "f": "R"}.get(column.dtype.kind, "S")


def format_column(column: np.ndarray) -> list[list[str]]:
    """The cells of a column, with all digits."""
    if column.dtype.kind == "b":
        return [["FT"[cell] for cell in row] for row in column.tolist()]
    return [[cell if isinstance(cell, str) else repr(cell) for cell in row] for row in column.tolist()]


def _convert_for_json(value: Any) -> Any:
    """Turn numpy's arrays and numbers, which JSON does not have, into lists and numbers."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError


@lru_cache(maxsize=1024)
def _is_read_as_text(text: str) -> bool:
    """Whether ASE reads a quoted string as itself."""
    if not text.isprintable() or text.startswith("_JSON"):
        return False
    parsed = key_val_str_to_dict(f"x={quote(text)}")["x"]
    return isinstance(parsed, str) and parsed == text


def _convert_to_column(array: np.ndarray, atoms: int) -> np.ndarray | None:
    """An array as a column of a file, shape (atoms, columns); None for what it cannot be."""
    if len(array) != atoms or array.size == 0:
        return None
    rows = array.reshape(atoms, -1)
    if rows.dtype.kind in "iu" and int(np.abs(rows.astype(object)).max()) >= _LARGEST_INTEGER:
        return rows.astype(np.float64)
    if rows.dtype.kind in "biuf":
        return rows
    words = all(isinstance(cell, str) and cell.isprintable() and cell and " " not in cell for cell in rows.flat)
    return rows if rows.dtype.kind in "UO" and words else None


def _choose_name(name: str, reserved: Container[str], used_names: Mapping[str, Any], value: Any) -> str:
    """The name, with ``input_`` before it where a reader would take it for a value of the file or of ASE."""
    mistaken = name in _RESERVED or (name in all_properties and not _is_numeric(value))
    while mistaken or name in reserved or name in used_names:
        name, mistaken = _INPUT + name, False
    return name


def _is_numeric(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "biuf" if not isinstance(value, str | dict) else False
