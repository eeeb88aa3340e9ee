"""Systems of DeePMD-kit: a folder with the types of its atoms and, for each set of frames, arrays of NumPy.

Energies are in eV, lengths in Angstrom. ``virial`` is in eV and minus the derivative of the energy by the strain, which
is minus the stress times the volume, as everywhere in this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from nequip_like.data.io.sets.array_rows import ArrayRows, convert_row
from nequip_like.data.io.sets.frame_sets import FrameSet
from nequip_like.errors import DataError

_SHAPES = {"force": (-1, 3), "virial": (3, 3)}
_MIXED = "real_atom_types"  # types that differ from frame to frame; type.raw is all zeros then


@contextmanager
def open_deepmd(path: Path) -> Iterator[FrameSet]:
    """The frames of a system, set after set.

    Args:
        path: The folder: ``type.raw``, ``type_map.raw``, ``nopbc`` where it is not periodic, and
            ``set.*/{coord,box,energy,force,virial}.npy``.

    Returns:
        One structure after the other, with ``force`` in ``arrays`` and all else in ``info``, each under the name of
        its file.

    Raises:
        DataError: If a file is missing, or does not fit to the others.
    """
    sets = sorted(folder for folder in path.glob("set.*") if folder.is_dir())
    if not sets:
        raise DataError(
            f"{path} has no folder set.000, but only {', '.join(sorted(entry.name for entry in path.iterdir()))}",
            "give a system in DeePMD's npy form: convert .raw files with its raw_to_set.sh",
        )
    types = _read_types(path / "type.raw")
    numbers = _read_numbers(path / "type_map.raw", types)
    is_periodic = not (path / "nopbc").exists()
    counts = []
    for folder in sets:
        with _open_arrays(folder, types, is_periodic) as arrays:
            counts.append(len(arrays["coord"]))
    read_set = partial(_read_set, types=types, numbers=numbers, is_periodic=is_periodic)
    yield FrameSet(sum(counts), partial(_read_sets, sets, counts, read_set))


def _read_sets(
    sets: Sequence[Path], counts: Sequence[int], read_set: Callable[[Path, range], Iterator[Atoms]], frames: range
) -> Iterator[Atoms]:
    first = 0
    for folder, count in zip(sets, counts, strict=True):
        if here := range(max(frames.start - first, 0), min(frames.stop - first, count)):
            yield from read_set(folder, here)
        first += count


def _read_types(path: Path) -> np.ndarray:
    words = path.read_text(errors="replace").split() if path.is_file() else []
    try:
        types = np.array([int(word) for word in words], dtype=np.int64)
    except (ValueError, OverflowError):
        raise DataError(f"{path} holds something else than whole numbers", "write the type of each atom") from None
    if not len(types):
        raise DataError(f"{path} is missing or empty", "write the type of each atom, a number from 0 on, one a line")
    return types


def _read_numbers(path: Path, types: np.ndarray) -> np.ndarray:
    """The atomic number of each type."""
    if not path.is_file():
        kinds = ", ".join(map(str, sorted(set(types.tolist()))))
        raise DataError(
            f"{path.parent} has no type_map.raw, so that nothing says which elements its types ({kinds}) are",
            f"write their symbols in the order of the types, one a line, into {path}: printf 'O\\nH\\n' > {path}",
        )
    symbols = path.read_text(errors="replace").split()
    if unknown := [symbol for symbol in symbols if atomic_numbers.get(symbol, 0) == 0]:
        raise DataError(f"{path}: '{unknown[0]}' is no chemical symbol", "write a symbol for each type, one a line")
    return np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.int64)


@contextmanager
def _open_arrays(folder: Path, types: np.ndarray, is_periodic: bool) -> Iterator[dict[str, ArrayRows]]:
    with ExitStack() as files:
        arrays = {}
        for path in sorted(folder.glob("*.npy")):
            file = files.enter_context(path.open("rb"))
            arrays[path.stem] = ArrayRows(file, path.stat().st_size, str(path))
        _check_set(folder, arrays, len(types), is_periodic)
        yield arrays


def _read_set(
    folder: Path, frames: range, types: np.ndarray, numbers: np.ndarray, is_periodic: bool
) -> Iterator[Atoms]:
    with _open_arrays(folder, types, is_periodic) as arrays:
        rows = {name: array.read_rows(frames) for name, array in arrays.items()}
        boxes, kinds = rows.pop("box", None), rows.pop(_MIXED, None)
        positions, names = rows.pop("coord"), list(rows)
        parts = zip(
            positions,
            repeat(types) if kinds is None else kinds,
            repeat(None) if boxes is None or not is_periodic else boxes,
            zip(*rows.values(), strict=True) if rows else repeat(()),
            strict=False,
        )
        for i, (place, of_frame, box, values) in enumerate(parts, frames.start):
            _check_types(of_frame, numbers, f"{folder} frame {i}")
            atoms = Atoms(numbers=numbers[of_frame], positions=place.reshape(-1, 3))
            if box is not None:
                atoms.set_cell(box.reshape(3, 3))
                atoms.pbc = True
            _add_values(atoms, names, values)
            yield atoms


def _check_set(folder: Path, arrays: dict[str, ArrayRows], atoms: int, is_periodic: bool) -> None:
    """Refuse a set without positions or cells, and arrays whose sizes do not fit to each other."""
    if "coord" not in arrays:
        raise DataError(f"{folder} has no coord.npy", "copy the system again")
    if is_periodic and "box" not in arrays:
        raise DataError(
            f"{folder} has no box.npy, and its system no file nopbc",
            f"for molecules, make an empty file: touch {folder.parent}/nopbc",
        )
    frames = len(arrays["coord"])
    widths = {"coord": 3 * atoms, "force": 3 * atoms, "box": 9, "virial": 9, "energy": 1, _MIXED: atoms}
    for name, rows in arrays.items():
        if not rows.shape or len(rows) != frames:
            raise DataError(
                f"{rows.title} has the shape {rows.shape}, but coord.npy has {frames} frames", "copy the system again"
            )
        width = int(np.prod(rows.shape[1:]))
        if width != widths.get(name, width):
            raise DataError(
                f"{rows.title} has {width} numbers for each frame, but {atoms} atoms in type.raw need {widths[name]}",
                "copy the system again, and look at type.raw",
            )


def _check_types(types: np.ndarray, numbers: np.ndarray, origin: str) -> None:
    if types.dtype.kind not in "iu" or (types < 0).any():
        raise DataError(
            f"{origin}: a type of an atom is no whole number from 0 on: {types.min()}",
            "give systems without padding, each of atoms of one number",
        )
    if types.max() >= len(numbers):
        raise DataError(
            f"{origin}: an atom has the type {types.max()}, but type_map.raw has {len(numbers)} symbols",
            "write a symbol for each type into type_map.raw; the first is that of type 0",
        )


def _add_values(atoms: Atoms, names: Sequence[str], values: Sequence[np.ndarray]) -> None:
    for name, row in zip(names, values, strict=True):
        if name == "force":
            atoms.arrays[name] = row.reshape(_SHAPES[name])
        else:
            atoms.info[name] = convert_row(row.reshape(_SHAPES.get(name, (-1,))))
