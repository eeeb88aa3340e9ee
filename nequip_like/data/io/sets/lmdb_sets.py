"""LMDB files (``.lmdb``) of NequIP and of fairchem, OC20 among them: a pickle for each structure.

NequIP writes ``AtomicDataDict``s under 0, 1, ... and ``__metadata__``; fairchem writes objects of PyTorch Geometric
under 0, 1, ... and ``length``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from nequip_like.data import fields
from nequip_like.data.io.sets.frame_sets import FrameSet
from nequip_like.data.io.sets.lmdb_files import NumberedEntries, open_entries
from nequip_like.data.io.sets.plain_pickles import AttributeBag, load_plain, resolve_array
from nequip_like.data.io.sets.written_frames import build_atoms
from nequip_like.errors import DataError

_METADATA, _LENGTH = b"__metadata__", b"length"
# What is of edges, or is known from the structure.
_OF_EDGES = ("edge_index", "edge_cell_shift", "edge_transpose_perm", "cell_offsets", "distances", "distance_vec")
_KNOWN = ("neighbors", "natoms", "num_atoms", "num_nodes", "atom_types", "batch", "ptr")
_UNREAD = frozenset((*_OF_EDGES, *_KNOWN))


@contextmanager
def open_pickled_lmdb(path: Path, trust_pickle: bool) -> Iterator[FrameSet]:
    """The structures of one file.

    Args:
        path: The file.
        trust_pickle: Whether the user asked for it. Even then nothing but plain data is unpickled
            (:func:`nequip_like.data.io.sets.plain_pickles.load_plain`).

    Raises:
        DataError: If nobody asked for it, or the file is damaged, lacks entries, or holds anything but plain data.
    """
    with open_entries(path) as entries:
        if not trust_pickle:
            raise DataError(
                f"{path.absolute()} holds pickles, a format that can run code where it is read",
                "if you trust whoever made it, say so where it is named: "
                f"'data.train={{file: {path}, trust_pickle: true}}'; only numbers and text are taken from it then",
            )
        _check_numbers(entries)
        yield FrameSet(len(entries.numbers), partial(_read_entries, entries))


def _read_entries(entries: NumberedEntries, frames: range) -> Iterator[Atoms]:
    for number in entries.numbers[frames.start : frames.stop]:
        origin = f"{entries.path.absolute()} entry {number}"
        content = load_plain(entries.get(number), origin)
        if isinstance(content, AttributeBag):
            yield _convert_from_geometric(content, origin)
        elif isinstance(content, Mapping):
            yield _convert_from_nequip(content, origin)
        else:
            raise DataError(f"{origin} is a {type(content).__name__}, and no structure", "give another file")


def _check_numbers(entries: NumberedEntries) -> None:
    """Refuse a file whose entries are not 0, 1, ... up to as many as it says itself."""
    path, count = entries.path.absolute(), len(entries.numbers)
    declared: Any = count
    if _METADATA in entries.names:
        metadata = load_plain(entries.get(_METADATA), f"{path} entry {_METADATA.decode()}")
        declared = metadata.get("num_frames", count) if isinstance(metadata, Mapping) else None
    elif _LENGTH in entries.names:
        declared = load_plain(entries.get(_LENGTH), f"{path} entry {_LENGTH.decode()}")
    if declared != count:
        raise DataError(f"{path} says {declared} entries, but has {count}", "write the file again")
    if entries.numbers != list(range(count)):
        raise DataError(f"{path} has {count} entries, but they are not 0 to {count - 1}", "write the file again")


def _convert_from_nequip(content: Mapping[Any, Any], origin: str) -> Atoms:
    values = {str(name): resolve_array(value) for name, value in content.items()}
    if fields.ATOMIC_NUMBERS not in values and fields.ATOM_TYPES in values:
        raise DataError(
            f"{origin} has types of atoms, but no {fields.ATOMIC_NUMBERS}",
            "write the file from structures, before a transform of NequIP takes their elements away",
        )
    return build_atoms(
        values.pop(fields.ATOMIC_NUMBERS, None),
        values.pop(fields.POSITIONS, None),
        values.pop(fields.CELL, None),
        values.pop(fields.PBC, None),
        {name: value for name, value in values.items() if name not in _UNREAD},
        origin,
    )


def _convert_from_geometric(content: AttributeBag, origin: str) -> Atoms:
    """An object of PyTorch Geometric, in which OC20 calls the energy ``y``; those of OC20 are periodic throughout."""
    attributes = content.__dict__
    store = attributes.get("_store")
    if isinstance(store, AttributeBag):  # since PyTorch Geometric 2.0
        attributes = store.__dict__.get("_mapping", {})
    values = {str(name): resolve_array(value) for name, value in dict(attributes).items() if value is not None}
    if "energy" not in values and "y" in values:
        values["energy"] = values.pop("y")
    cell = values.pop(fields.CELL, None)
    atoms = build_atoms(
        values.pop(fields.ATOMIC_NUMBERS, None),
        values.pop(fields.POSITIONS, None),
        cell,
        values.pop(fields.PBC, None if cell is None else np.ones(3, dtype=bool)),
        {name: value for name, value in values.items() if name not in (*_UNREAD, "fixed", "tags")},
        origin,
    )
    for name in ("fixed", "tags"):
        if name in values and np.shape(values[name]) != (len(atoms),):
            raise DataError(f"{origin}: '{name}' is not one number for each atom", "write the file again")
    if "tags" in values:
        atoms.set_tags(values["tags"])
    if "fixed" in values:
        atoms.set_constraint(FixAtoms(np.flatnonzero(values["fixed"])))
    return atoms
