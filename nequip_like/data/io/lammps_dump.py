"""LAMMPS dumps as text: is each frame whole, and does it name its elements?

A dump numbers its types, and ASE takes type 1 for hydrogen; it guesses elements from masses, knows no symbol but in
its own spelling, and reads what is left of a frame that is cut off.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from ase.data import atomic_numbers

from nequip_like.data.labels.components import find_lone_components
from nequip_like.errors import DataError

# Others, such as BOX BOUNDS, TIME and UNITS, end what stands before them.
_ITEM = re.compile(rb"^ITEM: (?:(TIMESTEP|NUMBER OF ATOMS|ATOMS)\b)?.*$", re.MULTILINE)
_ADVICE = (
    "let LAMMPS write it: 'dump 1 all custom 10 FILE id type element x y z fx fy fz' and 'dump_modify 1 element O H', "
    "one symbol for each type; the command rerun does so for a dump that is there already"
)


def check_dump(content: bytes, path: Path) -> list[str]:
    """Check the frames of a dump.

    Args:
        content: The whole file, with one kind of line end.
        path: Its name, for messages.

    Returns:
        Notes: what a user should look at.

    Raises:
        DataError: If a frame is cut off, has an atom twice, or does not name its elements by their symbols.
    """
    items = list(_ITEM.finditer(content))
    frame, atoms = -1, 0
    notes: dict[str, None] = {}
    opened = False
    for i, item in enumerate(items):
        body = content[item.end() + 1 : items[i + 1].start() if i + 1 < len(items) else len(content)]
        if item[1] == b"TIMESTEP":
            if opened:
                raise _cut(path, frame, atoms, 0)
            frame, opened = frame + 1, True
        elif item[1] == b"NUMBER OF ATOMS":
            words = body.split()
            atoms = int(words[0]) if words and words[0].isdigit() else 0
        elif item[1] == b"ATOMS":
            rows = body.rstrip().splitlines()  # empty lines may follow the last row
            columns = item[0].decode("ascii", "replace").split()[2:]
            complete_rows = sum(len(row.split()) >= len(columns) for row in rows)
            if not complete_rows == len(rows) == atoms:
                raise _cut(path, frame, atoms, complete_rows)
            _check_identifiers(columns, rows, f"{path} frame {frame}")
            _check_elements(columns, rows, f"{path} frame {frame}", notes)
            if len(force_columns := sorted({"fx", "fy", "fz"} & set(columns))) < 3:
                notes |= dict.fromkeys(find_lone_components(force_columns))  # ASE's reader drops them
            opened = False
    if opened:
        raise _cut(path, frame, atoms, 0)
    return [f"{path}: {note}" for note in notes]


def _check_identifiers(columns: list[str], rows: list[bytes], origin: str) -> None:
    if "id" not in columns:
        return
    counts = Counter(row.split()[columns.index("id")] for row in rows)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise DataError(
            f"{origin}: {counts[repeated[0]]} of its rows have the id {repeated[0].decode('ascii', 'replace')}",
            "remove the frame, or write the dump again; each atom has an id of its own",
        )


def _check_elements(columns: list[str], rows: list[bytes], origin: str, notes: dict[str, None]) -> None:
    if "element" not in columns:
        substitute = "type" if "type" in columns else "mass" if "mass" in columns else None
        raise DataError(
            f"{origin} does not name its elements: it has the columns {' '.join(columns)}"
            + (f", and no {substitute} says which element it is" if substitute else ""),
            _ADVICE,
        )
    element = columns.index("element")
    for symbol in {row.split()[element].decode("ascii", "replace") for row in rows}:
        if symbol not in atomic_numbers:
            raise DataError(
                f"{origin}: '{symbol}' in its column 'element' is no chemical symbol",
                f"write {symbol.capitalize() if symbol.capitalize() in atomic_numbers else 'symbols such as Cu'}, as "
                "'dump_modify 1 element Cu O' lets LAMMPS do, with one symbol for each type",
            )
    if "type" not in columns:
        return
    kind = columns.index("type")
    pairs = {(words[element], words[kind]) for words in map(bytes.split, rows)}
    if len(pairs) > 1 and {symbol for symbol, _ in pairs} == {b"C"}:
        notes["all its types are carbon (C), which LAMMPS writes where 'dump_modify ... element' was not given"] = None


def _cut(path: Path, frame: int, atoms: int, complete_rows: int) -> DataError:
    return DataError(
        f"{path} frame {frame} is cut off or joined: it says {atoms} atoms, but has {complete_rows} whole rows",
        "remove the frame, or copy the file again",
    )
