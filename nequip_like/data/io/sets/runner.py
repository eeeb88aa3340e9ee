"""Files ``input.data`` of RuNNer and n2p2: blocks of lines from ``begin`` to ``end``, in Hartree and Bohr."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from ase.io.formats import open_with_compression
from ase.units import Bohr, Hartree

from nequip_like.errors import DataError

_COLUMNS = "x y z element charge energy fx fy fz"
_ADVICE = (
    "repair the line; a frame is 'begin', 'comment', 'lattice' three times or never, 'atom', 'energy', 'charge', 'end'"
)


def read_runner(path: Path) -> Iterator[Atoms]:
    """The frames of an ``input.data``, converted to eV and Angstrom.

    Args:
        path: The file, perhaps packed (``.gz``).

    Returns:
        One structure after the other, with energy and forces as results of a calculator, and charges of atoms in
        ``arrays["charges"]`` where one of them is not zero.

    Raises:
        DataError: If a line is none of the format, or a frame is not whole, naming the line.
    """
    frame: _Frame | None = None
    with (
        open_with_compression(str(path), "rb") as packed,
        io.TextIOWrapper(packed, encoding="utf-8-sig", errors="replace") as file,
    ):
        for line, text in enumerate(file, start=1):
            words = text.split()
            if not words or words[0].startswith("#") or (frame is None and words[0] == "comment"):
                continue
            origin = f"{path} line {line}"
            if words[0] in ("begin", "end") and len(words) > 1:
                raise DataError(
                    f"{origin}: columns of the atoms are declared, {' '.join(words[1:])[:60]!r}, which is not read",
                    f"write the columns {_COLUMNS}, and 'begin' alone",
                )
            if (words[0] == "begin") == (frame is not None):
                where = "within a frame" if frame is not None else "outside of a frame"
                raise DataError(f"{origin}: {words[0][:40]!r} stands {where}", _ADVICE)
            if frame is None:
                frame = _Frame(line)
            elif words[0] == "end":
                yield frame.convert(path)
                frame = None
            else:
                frame.add(words, origin)
    if frame is not None:
        raise DataError(f"{path} is cut off: the frame that begins in line {frame.line} has no 'end'", "copy it again")


@dataclass
class _Frame:
    """What stands in a frame, in Hartree and Bohr."""

    line: int
    numbers: list[int] = field(default_factory=list)
    rows: list[list[float]] = field(default_factory=list)
    cell: list[list[float]] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    charges: list[float] = field(default_factory=list)

    def add(self, words: list[str], origin: str) -> None:
        """Take one line."""
        name, values = words[0], words[1:]
        if name == "comment":
            return
        columns = {"atom": 9, "lattice": 3, "energy": 1, "charge": 1}.get(name)
        if columns is None:
            raise DataError(f"{origin}: {name[:40]!r} is no line of a frame", _ADVICE)
        if len(values) != columns:
            expected = f"atom {_COLUMNS}" if name == "atom" else f"{name} and {columns} numbers"
            raise DataError(f"{origin} has {len(values)} columns after {name!r}, not {columns}", f"write {expected}")
        if name == "atom":
            symbol = values.pop(3)
            if atomic_numbers.get(symbol, 0) == 0:
                raise DataError(f"{origin}: {symbol[:40]!r} is no chemical symbol", f"write atom {_COLUMNS}")
            self.numbers.append(atomic_numbers[symbol])
        numbers = [_read_number(word, origin) for word in values]
        if name == "atom":
            self.rows.append(numbers)
        elif name == "lattice":
            self.cell.append(numbers)
        else:
            (self.energies if name == "energy" else self.charges).extend(numbers)

    def convert(self, path: Path) -> Atoms:
        """The structure, in eV and Angstrom."""
        counts = {"lattice": len(self.cell), "energy": len(self.energies), "charge": len(self.charges)}
        if not self.rows or counts["lattice"] not in (0, 3) or counts["energy"] != 1 or counts["charge"] > 1:
            found = ", ".join(f"{count} of {name}" for name, count in counts.items())
            raise DataError(
                f"{path}: the frame that begins in line {self.line} has {len(self.rows)} lines of atom, {found}",
                "a frame has atoms, 3 lattice vectors or none, one energy and at most one charge",
            )
        atoms = Atoms(numbers=self.numbers, positions=[[x * Bohr for x in row[:3]] for row in self.rows])
        if self.cell:
            atoms.set_cell([[x * Bohr for x in vector] for vector in self.cell])
            atoms.pbc = True
        if any(row[3] for row in self.rows):
            atoms.set_array("charges", [row[3] for row in self.rows], dtype=float)
        if self.charges:
            atoms.info["charge"] = self.charges[0]
        forces = [[f * (Hartree / Bohr) for f in row[5:]] for row in self.rows]
        atoms.calc = SinglePointCalculator(atoms, energy=self.energies[0] * Hartree, forces=forces)
        return atoms


def _read_number(word: str, origin: str) -> float:
    try:
        value = float(word.replace("_", "?"))  # Python takes 1_0 for ten
    except ValueError:
        raise DataError(f"{origin}: {word[:40]!r} is no number", _ADVICE) from None
    if not math.isfinite(value):
        raise DataError(f"{origin}: {word[:40]!r} is not a finite number", _ADVICE)
    return value
