"""Structures out of arrays as they stand in a file, checked before ASE takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms

from nequip_like.data import fields
from nequip_like.data.labels.names import label_of
from nequip_like.errors import DataError


def build_atoms(numbers: Any, positions: Any, cell: Any, pbc: Any, values: Mapping[str, Any], origin: str) -> Atoms:
    """A structure, with all else that its frame holds as ``info``: the reader of labels tells by name what each is.

    Args:
        numbers: Atomic numbers (atoms,), of any type.
        positions: Positions (atoms, 3).
        cell: Cell (3, 3) or (1, 3, 3); None if there is none.
        pbc: Three truth values; None stands for not periodic.
        values: ``{name: value}``; None where a frame lacks one.
        origin: File and frame, for messages.

    Raises:
        DataError: If numbers or positions are missing, or something has another shape.

    Example:
        >>> atoms = build_atoms([8.0, 1.0], [[0, 0, 0], [0, 0, 1]], None, None, {"stress": np.ones((1, 3, 3))}, "a.h5")
        >>> atoms.symbols, atoms.info["stress"].shape
        (Symbols('OH'), (3, 3))
    """
    count = np.size(numbers)
    shaped_numbers = _bring_to(numbers, "atomic numbers", (count,), origin)
    if not (shaped_numbers == np.round(shaped_numbers)).all() or np.abs(shaped_numbers).max(initial=0) > 1000:
        raise DataError(f"{origin}: its atomic numbers are not whole numbers", "write the file again")
    atoms = Atoms(
        numbers=shaped_numbers.astype(np.int64),
        positions=_bring_to(positions, "positions", (count, 3), origin),
        cell=None if cell is None else _bring_to(cell, "cell", (3, 3), origin),
        pbc=False if pbc is None else _bring_to(pbc, "pbc", (3,), origin) != 0,
    )
    atoms.info = {name: _drop_axis(name, value) for name, value in values.items() if value is not None}
    return atoms


def _bring_to(value: Any, what: str, shape: tuple[int, ...], origin: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.size != math.prod(shape):
        found = "missing" if value is None else f"of shape {array.shape}"
        raise DataError(f"{origin}: its {what} are {found}, and not {shape} numbers", "write the file again")
    return array.reshape(shape).astype(np.float64)


def _drop_axis(name: str, value: Any) -> Any:
    """A value of the structure without the axis of structures, of which there is one."""
    if not isinstance(value, np.ndarray):
        return value
    label = label_of(name)
    per_atom = label is not None and fields.field(label).owner == "node"
    if value.ndim and len(value) == 1 and not per_atom:
        value = value[0]
    return value.item() if value.ndim == 0 else value
