"""Sources of structures, told apart in one place: the files that they name, ``Atoms`` of ASE, graphs; one or many."""

from __future__ import annotations

import glob
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.io.sets.folders import find_set_folders, is_set_folder
from nequip_like.errors import ConfigError, DataError
from nequip_like.whole_files import path_of

Index = str | int | slice

_STRUCTURE = (fields.POSITIONS, fields.CELL, fields.PBC, fields.ATOMIC_NUMBERS)
_LABELS_AND_WEIGHTS = (*fields.LABELS, fields.FRAME_WEIGHT, fields.ATOM_WEIGHT)
_ADVICE = "give file names, or ASE's Atoms, or graphs such as those of read_frames; one, or a list of one kind"
_DECIDES = ("positions", "numbers", "cell", "pbc")  # what energies and forces depend on


def is_graph(value: object) -> bool:
    """Whether a value is a graph: a mapping with tensors."""
    return isinstance(value, Mapping) and any(isinstance(entry, torch.Tensor) for entry in value.values())


def is_structure(value: object) -> bool:
    """Whether a value is one structure in memory: ``Atoms`` or a graph."""
    return isinstance(value, Atoms) or is_graph(value)


def entries(source: Any, key: str = "") -> list[Any]:
    """The entries of a source as a list, all of one kind: file names, ``Atoms`` or graphs.

    Args:
        source: One entry, or anything that can be iterated over: a list, an ASE ``Trajectory``, a ``GraphDataset``.
        key: The argument that it is, for messages.

    Raises:
        ConfigError: If an entry is something else, or two are of different kinds.
    """
    at = f"{key}: " if key else ""
    if isinstance(source, str | Path | Mapping | Atoms):
        members = [source]
    else:
        try:
            members = list(source)
        except TypeError:
            raise ConfigError(f"{at}{reprlib.repr(source)} is no file and no structure", _ADVICE) from None
    kinds = [_name_kind(entry) for entry in members]
    for i, (entry, kind) in enumerate(zip(members, kinds, strict=True)):
        if kind is None:
            description = f"{type(entry).__name__} {reprlib.repr(entry)}"
            raise ConfigError(f"{at}entry {i}, {description}, is no file and no structure", _ADVICE)
        if kind != kinds[0]:
            raise ConfigError(f"{at}entry 0 is {kinds[0]} and entry {i} is {kind}", _ADVICE)
    return members


def _name_kind(entry: object) -> str | None:
    if isinstance(entry, str | Path):
        return "a file name"
    if isinstance(entry, Atoms):
        return "Atoms"
    return "a graph" if is_graph(entry) else None


def expand(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files that a source names, glob patterns expanded and sorted.

    Raises:
        DataError: If there is no such file.
    """
    files: list[Path] = []
    for entry in [source] if isinstance(source, str | Path) else list(source):
        try:
            files.extend(_list_files(entry))
        except OSError as error:  # a name that is too long, a folder that is closed
            reason = getattr(error, "strerror", None) or error
            excerpt = str(entry) if len(str(entry)) <= 200 else str(entry)[:200] + "..."
            raise DataError(f"cannot read {excerpt}: {reason}", "check the path and its permissions") from error
    if not files:
        names = str(source) if isinstance(source, str | Path) else ", ".join(map(str, source))
        raise DataError(f"no files match {names or 'an empty list'}", "give at least one file")
    return files


def _list_files(entry: str | Path) -> list[Path]:
    path = path_of(entry)
    if path.is_file() or is_set_folder(path):
        return [path]
    if path.is_dir():
        if sets := find_set_folders(path):
            names = ", ".join(str(folder.relative_to(path)) for folder in sets[:5]) + ", ..." * (len(sets) > 5)
            raise DataError(
                f"{path.absolute()} is no data set itself, but holds {len(sets)}: {names}",
                f"give one, a list of them, or all by a pattern: {sets[0].parent}/*",
            )
        raise DataError(f"{path.absolute()} is a folder, not a file", f"name its files, for example {path}/*.xyz")
    matches = sorted(glob.glob(str(path)))
    if not matches:
        raise DataError(
            f"no such file: {path.absolute()}", f"relative paths are looked up from the current folder, {Path.cwd()}"
        )
    return [Path(match) for match in matches if Path(match).is_file() or is_set_folder(Path(match))]


def convert_to_atoms(structure: Atoms | Graph, origin: str) -> Atoms:
    """A structure in memory as ``Atoms``: these themselves, or those of a graph, with its labels and weights.

    What the labels of a graph are called is well known to the reader; a label that is missing (NaN) is left out.

    Raises:
        DataError: If a graph lacks a part of the structure, or holds several structures.
    """
    if isinstance(structure, Atoms):
        return structure
    if absent := [name for name in _STRUCTURE if name not in structure]:
        raise DataError(f"{origin} has no '{absent[0]}'", f"a graph of a structure has {', '.join(_STRUCTURE)}")
    if len(structure[fields.CELL]) != 1:
        raise DataError(
            f"{origin} is a batch of {len(structure[fields.CELL])} structures",
            "take it apart: nequip_like.data.graph.split(batch)",
        )
    arrays = {
        name: structure[name].detach().cpu().numpy()
        for name in (*_STRUCTURE, *_LABELS_AND_WEIGHTS)
        if name in structure
    }
    atoms = Atoms(
        numbers=arrays[fields.ATOMIC_NUMBERS],
        positions=arrays[fields.POSITIONS],
        cell=arrays[fields.CELL][0],
        pbc=arrays[fields.PBC][0],
    )
    for name in _LABELS_AND_WEIGHTS:
        if name in arrays and not bool(structure[name].isnan().all()):
            if fields.field(name).owner == "node":
                atoms.arrays[name] = arrays[name]
            else:
                atoms.info[name] = arrays[name][0]
    return atoms


def check_results(atoms: Atoms, origin: str) -> None:
    """Refuse results of a calculator that belong to another structure than the one that carries them.

    Several ``Atoms`` that share a calculator all show the results of the one that was computed last.

    Raises:
        DataError: Naming the structure and what differs.
    """
    calculator = atoms.calc
    if not getattr(calculator, "results", None) or getattr(calculator, "atoms", None) is None:
        return
    changed = [name for name in calculator.check_state(atoms) if name in _DECIDES]
    if changed:
        raise DataError(
            f"{origin}: the results of its {type(calculator).__name__} belong to another structure, of other "
            f"{' and '.join(changed)}",
            "keep its own labels with each: atoms.calc = SinglePointCalculator(atoms, energy=..., forces=...)",
        )


def choose_frames(title: str, frames: int, index: Index) -> range:
    """Positions of the frames that an index chooses.

    Args:
        title: The file, for messages.
        frames: Number of frames that there are.
        index: Which of them, as ASE writes it: ``":"``, ``"0:100"``, ``"::10"``, ``"-1"``.

    Raises:
        DataError: If the index cannot be understood, or chooses none.

    Example:
        >>> choose_frames("md.xyz", 10, "::4"), choose_frames("md.xyz", 10, -1)
        (range(0, 10, 4), range(9, 10))
    """
    selection = _read_index(index)
    try:
        if isinstance(selection, slice):
            chosen = range(frames)[selection]
        else:
            position = range(frames)[selection]
            chosen = range(position, position + 1)
    except (IndexError, ValueError):  # ValueError: a step of zero
        chosen = range(0)
    if not chosen:
        raise DataError(f"{title}: index '{index}' chooses none of its {frames} frames", "change the index")
    return chosen


def _read_index(index: Index) -> slice | int:
    if isinstance(index, int | slice):
        return index
    try:
        parts = [int(part) if part.strip() else None for part in str(index).split(":")]
    except ValueError:
        parts = []
    if len(parts) == 1 and parts[0] is not None:
        return parts[0]
    if not 2 <= len(parts) <= 3:
        raise DataError(f"index '{index}' cannot be understood", "write start:stop:step, for example ':100' or '::10'")
    return slice(*parts)
