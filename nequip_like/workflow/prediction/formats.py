"""Formats of predictions: what each run of structures adds to a stream, and the file that the streams become."""

from __future__ import annotations

import csv
import io
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from ase.data import chemical_symbols

from nequip_like.data import fields
from nequip_like.data.bulk.structures import Remarks, StructureArrays
from nequip_like.errors import ConfigError, did_you_mean
from nequip_like.report.comment_line import column_type, format_annotations, format_column
from nequip_like.report.extxyz_frame import ASE_NAMES, format_key
from nequip_like.whole_files import output_errors, written_whole
from nequip_like.workflow.prediction.lmdb_rows import build_database, format_row

_OWN = {*ASE_NAMES.values(), *fields.UNCERTAINTIES.values()}
_COPIED = 1 << 20  # bytes at a time


@dataclass(frozen=True)
class PredictedBatch:
    """A batch of structures with what was predicted of it.

    Attributes:
        structures: Structures.
        chosen: Which of them the batch has.
        first: Number of its first structure among all that are read, broken ones, too.
        values: Predicted fields by name, of all structures or atoms of the batch.
    """

    structures: StructureArrays
    chosen: range
    first: int
    values: Mapping[str, np.ndarray]

    @property
    def counts(self) -> np.ndarray:
        """Number of atoms of each structure."""
        return self.structures.counts[self.chosen.start : self.chosen.stop]

    @property
    def atoms(self) -> slice:
        """Its atoms among those of the structures."""
        before = int(self.structures.counts[: self.chosen.start].sum())
        return slice(before, before + int(self.counts.sum()))


class PredictionFormat(ABC):
    """A format.

    Args:
        names: The fields that are predicted.
        several: Whether structures are of several files.

    Attributes:
        keeps_remarks: Whether it holds what the input's frames held beside their structure.
    """

    keeps_remarks = False

    def __init__(self, names: Sequence[str], several: bool = False) -> None:
        self.names, self.several = list(names), several

    @abstractmethod
    def list_begins(self) -> dict[str, bytes]:
        """Name of each stream, and what stands at its begin."""

    @abstractmethod
    def format_batch(self, batch: PredictedBatch) -> dict[str, bytes]:
        """What a batch adds to each stream."""

    @abstractmethod
    def build(self, locate: Callable[[str], Path], target: Path, frames: int) -> None:
        """Make the file of the streams.

        Args:
            locate: Gives the file of a stream.
            target: Where it shall be.
            frames: Number of structures.
        """


class _TextFormat(PredictionFormat):
    """One stream, which is the file."""

    def list_begins(self) -> dict[str, bytes]:
        return {"text": b""}

    def build(self, locate: Callable[[str], Path], target: Path, frames: int) -> None:
        with output_errors(target):
            locate("text").replace(target)  # it is on the disk already


class CsvFormat(_TextFormat):
    """A line for each structure: ``index,energy,energy_per_atom,natoms``; uncertainties where there are some.

    Of several files the last columns are ``file,frame``: the file, and the number of the structure in it.
    """

    def list_begins(self) -> dict[str, bytes]:
        """The names of the columns."""
        columns = ["index", "energy", "energy_per_atom", "natoms"]
        if fields.ENERGY_UNCERTAINTY in self.names:
            columns.append(fields.ENERGY_UNCERTAINTY)
        if fields.FORCES_UNCERTAINTY in self.names:
            columns.append(f"largest_{fields.FORCES_UNCERTAINTY}")
        if self.several:
            columns += ["file", "frame"]
        return {"text": format_csv([columns])}

    def format_batch(self, batch: PredictedBatch) -> dict[str, bytes]:
        """Lines."""
        energies, counts = batch.values[fields.TOTAL_ENERGY][:, 0], batch.counts
        indices = range(batch.first, batch.first + len(counts))
        columns: list[Sequence[Any]] = [indices, energies.tolist(), (energies / counts).tolist(), counts.tolist()]
        if fields.ENERGY_UNCERTAINTY in self.names:
            columns.append(batch.values[fields.ENERGY_UNCERTAINTY][:, 0].tolist())
        if fields.FORCES_UNCERTAINTY in self.names:
            largest = np.linalg.norm(batch.values[fields.FORCES_UNCERTAINTY], axis=1)
            columns.append(np.maximum.reduceat(largest, np.cumsum(counts) - counts).tolist())
        if self.several:
            columns += zip(*map(batch.structures.place, batch.chosen), strict=True)
        return {"text": format_csv(zip(*columns, strict=True))}


def format_csv(rows: Iterable[Sequence[Any]]) -> bytes:
    r"""Rows of a table: numbers with all their digits, texts with quotes where they need some.

    Example:
        >>> format_csv([("index", "energy"), (0, -1.5)])
        b'index,energy\n0,-1.5\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


class ExtxyzFormat(_TextFormat):
    """Frames with predictions under ASE's names, all digits, and what the input's frames held beside their labels."""

    keeps_remarks = True

    def format_batch(self, batch: PredictedBatch) -> dict[str, bytes]:
        """Frames."""
        structures, values, atoms = batch.structures, batch.values, batch.atoms
        symbols = [chemical_symbols[number] for number in structures.numbers[atoms].tolist()]
        names = ["species:S:1", "pos:R:3"]
        rows = np.concatenate([structures.positions[atoms], *self._list_columns(values, names)], axis=1).tolist()
        lines = [f"{symbol} {' '.join(map(repr, row))}" for symbol, row in zip(symbols, rows, strict=True)]
        frames: list[str] = []
        end = 0
        for i, (index, count) in enumerate(zip(batch.chosen, batch.counts.tolist(), strict=True)):
            start, end = end, end + count
            remarks = structures.remarks[index] if structures.remarks else Remarks()
            info = dict(remarks.text)
            columns: dict[str, np.ndarray] = {}
            if remarks.values.info or remarks.values.arrays:
                formatted, columns, _ = format_annotations(remarks.values, _OWN, count)
                info |= {format_key(name): text for name, text in formatted.items()}
            comment = self._format_comment(structures, index, values, i, info, names, columns)
            own = lines[start:end]
            for column in columns.values():
                cells = format_column(column)
                own = [f"{line} {' '.join(row)}" for line, row in zip(own, cells, strict=True)]
            frames += [str(count), comment, *own]
        return {"text": ("\n".join(frames) + "\n").encode()}

    @staticmethod
    def _list_columns(values: Mapping[str, np.ndarray], names: list[str]) -> Iterable[np.ndarray]:
        for field, name in ((fields.FORCES, "forces"), (fields.FORCES_UNCERTAINTY, fields.FORCES_UNCERTAINTY)):
            if field in values:
                names.append(f"{name}:R:3")
                yield values[field]

    @staticmethod
    def _format_comment(
        structures: StructureArrays,
        index: int,
        values: Mapping[str, np.ndarray],
        i: int,
        info: Mapping[str, str],
        names: Sequence[str],
        columns: Mapping[str, np.ndarray],
    ) -> str:
        own = [*names, *(f"{name}:{column_type(column)}:{column.shape[1]}" for name, column in columns.items())]
        words = [f"Properties={':'.join(own)}"]
        has_cell = structures.cells[index].any()
        if has_cell:
            words.insert(0, f'Lattice="{_join_numbers(structures.cells[index])}"')
        words.append(f"energy={float(values[fields.TOTAL_ENERGY][i, 0])!r}")
        if fields.ENERGY_UNCERTAINTY in values:
            words.append(f"{fields.ENERGY_UNCERTAINTY}={float(values[fields.ENERGY_UNCERTAINTY][i, 0])!r}")
        if has_cell and fields.STRESS in values and not np.isnan(values[fields.STRESS][i]).all():  # of a volume
            words.append(f'stress="{_join_numbers(values[fields.STRESS][i])}"')
        words += [f"{name}={text}" for name, text in info.items()]
        first, second, third = structures.pbc[index].tolist()
        words.append(f'pbc="{"FT"[first]} {"FT"[second]} {"FT"[third]}"')
        return " ".join(words)


class NpzFormat(PredictionFormat):
    """Arrays by name: ``natoms`` and what is of structures, one row each; what is of atoms, one behind the other."""

    _NAMES = (
        (fields.TOTAL_ENERGY, "energy", ()),
        (fields.PER_ATOM_ENERGY, "energies", ()),
        (fields.FORCES, "forces", (3,)),
        (fields.STRESS, "stress", (3, 3)),
        (fields.ENERGY_UNCERTAINTY, fields.ENERGY_UNCERTAINTY, ()),
        (fields.FORCES_UNCERTAINTY, fields.FORCES_UNCERTAINTY, (3,)),
    )

    def _list_arrays(self) -> dict[str, tuple[str, tuple[int, ...], np.dtype]]:
        """Field, shape of a row and type of each array."""
        own = {name: (field, shape, np.dtype("<f8")) for field, name, shape in self._NAMES if field in self.names}
        integers = np.dtype("<i8")
        return {"natoms": ("", (), integers), "atomic_numbers": ("", (), integers), **own}

    def list_begins(self) -> dict[str, bytes]:
        """No stream has a begin of its own."""
        return dict.fromkeys(self._list_arrays(), b"")

    def format_batch(self, batch: PredictedBatch) -> dict[str, bytes]:
        """Numbers of each array."""
        known = {"natoms": batch.counts, "atomic_numbers": batch.structures.numbers[batch.atoms]}
        return {
            name: np.ascontiguousarray(known[name] if name in known else batch.values[field], dtype).tobytes()
            for name, (field, _, dtype) in self._list_arrays().items()
        }

    def build(self, locate: Callable[[str], Path], target: Path, frames: int) -> None:
        """A zip file of the arrays, which are copied and never in memory."""
        with written_whole(target) as partial, ZipFile(partial, "w", ZIP_STORED) as archive:
            for name, (_, shape, dtype) in self._list_arrays().items():
                # With the time of now two files of the same numbers would differ.
                entry = ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                rows = locate(name).stat().st_size // (dtype.itemsize * int(np.prod(shape)))
                header = {"descr": dtype.str, "fortran_order": False, "shape": (rows, *shape)}
                with archive.open(entry, "w", force_zip64=True) as file, locate(name).open("rb") as numbers:
                    np.lib.format.write_array_header_1_0(file, header)
                    shutil.copyfileobj(numbers, file, _COPIED)


class LmdbFormat(PredictionFormat):
    """Rows of an ASE database in LMDB, with predictions as results of a calculator."""

    def list_begins(self) -> dict[str, bytes]:
        """The rows as they are made."""
        return {"rows": b""}

    def format_batch(self, batch: PredictedBatch) -> dict[str, bytes]:
        """Rows, each with its length before it."""
        structures, ends, first = batch.structures, np.cumsum(batch.counts), batch.atoms.start
        rows = []
        for i, (index, end) in enumerate(zip(batch.chosen, ends.tolist(), strict=True)):
            own = slice(end - int(batch.counts[i]), end)
            atoms = slice(first + own.start, first + end)
            results = {"energy": float(batch.values[fields.TOTAL_ENERGY][i, 0])}
            arrays = {"forces": batch.values[fields.FORCES][own]} if fields.FORCES in batch.values else {}
            if fields.STRESS in batch.values and not np.isnan(batch.values[fields.STRESS][i]).all():
                arrays["stress"] = batch.values[fields.STRESS][i].flat[[0, 4, 8, 5, 2, 1]]  # xx, yy, zz, yz, xz, xy
            pairs = {
                name: float(batch.values[name][i, 0]) for name in (fields.ENERGY_UNCERTAINTY,) if name in batch.values
            }
            rows.append(
                format_row(
                    structures.numbers[atoms],
                    structures.positions[atoms],
                    structures.cells[index],
                    structures.pbc[index],
                    {**results, **arrays},
                    pairs,
                )
            )
        return {"rows": b"".join(rows)}

    def build(self, locate: Callable[[str], Path], target: Path, frames: int) -> None:
        """The database of the rows."""
        with written_whole(target) as partial:
            build_database(locate("rows"), partial, frames)


#: Formats by name, with the suffixes of their files.
FORMATS: dict[str, tuple[type[PredictionFormat], tuple[str, ...]]] = {
    "extxyz": (ExtxyzFormat, (".extxyz", ".xyz")),
    "csv": (CsvFormat, (".csv",)),
    "npz": (NpzFormat, (".npz",)),
    "lmdb": (LmdbFormat, (".aselmdb",)),
}


def choose_format(output: Path, name: str | None) -> str:
    """The name of a format, as it was given or by the suffix of the output.

    Raises:
        ConfigError: If there is no such format, or the suffix is of none or of another one.

    Example:
        >>> choose_format(Path("energies.csv"), None)
        'csv'
    """
    suffix = output.suffix.lower()
    of_suffix = next((known for known, (_, suffixes) in FORMATS.items() if suffix in suffixes), None)
    listed = ", ".join(f"{known} ({'/'.join(suffixes)})" for known, (_, suffixes) in FORMATS.items())
    if name is not None and name not in FORMATS:
        raise ConfigError(f"there is no format '{name}'", f"{did_you_mean(name, FORMATS)}; formats are {listed}")
    if suffix == ".lmdb":
        raise ConfigError(
            f"{output}: a .lmdb file holds pickles, which are not written",
            "write .aselmdb, rows of an ASE database in LMDB, which this package and fairchem read",
        )
    if of_suffix is None and name is None:
        raise ConfigError(f"{output}: the format follows from the suffix", f"formats are {listed}; or give --format")
    if name is not None and of_suffix not in (None, name):
        raise ConfigError(f"{output} is to be of the format {name}, but has the suffix of {of_suffix}", "give one")
    return str(name or of_suffix)


def _join_numbers(array: np.ndarray) -> str:
    return " ".join(map(repr, array.ravel().tolist()))
