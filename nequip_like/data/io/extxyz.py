"""Extended XYZ files as text: is each frame whole, and does the file say each thing once?

ASE's reader stops at an empty line, takes the last of two equal keys, drops columns that ``Properties`` does not name,
believes any number of atoms, takes an apostrophe for the begin of a quotation, any text for periodic along all three
vectors, and one triangle of a stress for the whole. What it would pass over in silence is found here, before it reads.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from nequip_like.data.io.extxyz_columns import check_doubles, count_columns
from nequip_like.data.labels.values import check_symmetric
from nequip_like.errors import DataError

_KEY = re.compile(r"""(?:^|\s)([^\s="'{}\[\]]+)\s*=\s*("(?:\\.|[^"\\])*"|'[^']*'|\{[^}]*\}|\[[^\]]*\]|\S*)""")
_SPELT_EXACTLY = ("Lattice", "Properties", "pbc")
_NO_CELL_KEYS = ("cell", "box", "unit_cell", "unitcell", "lattice_vectors")
# What ASE takes for one value, spaces and equal signs included; a backslash does so for the next character.
_SPAN = re.compile(
    r"""\\.|"(?:\\.|[^"\\])*(?:"|$)|'(?:\\.|[^'\\])*(?:'|$)|\{(?:\\.|[^}\\])*(?:\}|$)|\[(?:\\.|[^\]\\])*(?:\]|$)"""
)
_CLOSES = {"'": "'", '"': '"', "{": "}", "[": "]"}
_DEFAULT_COLUMNS = "species:S:1:pos:R:3"
# One word, or one for each lattice vector. ASE takes any other text for periodic along all three.
_PBC = tuple(
    re.compile(rf"{opening}\s*{word}(?:[\s,]+{word}[\s,]+{word})?\s*{closing}")
    for opening, word, closing in (
        ("", "(?:T|F|[Tt]rue|TRUE|[Ff]alse|FALSE)", ""),
        ("", r"[01](?:\.0*)?", ""),
        (r"_JSON \[", "(?:true|false|0|1)", r"\]"),
    )
)


def check_text(text: str, path: Path, first_frame: int = 0, first_line: int = 0) -> list[str]:
    """Check the lines of an extended XYZ file.

    Args:
        text: The whole file, or some frames of it, with one kind of line end.
        path: Its name, for messages.
        first_frame: Number of the first frame.
        first_line: Number of lines before the text.

    Returns:
        Notes: what stands in the file and is not read.

    Raises:
        DataError: If a frame is cut off or misaligned, columns are missing or named twice, a key stands twice or in
            another spelling, naming frame and line.
    """
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    notes: dict[str, tuple[int, int]] = {}
    line, frame = 0, first_frame
    while line < len(lines):
        number = first_line + line + 1  # as editors count
        atoms = _read_number_of_atoms(lines[line], number, frame, path)
        origin = f"{path} frame {frame}"
        if line + 2 + atoms > len(lines):
            raise DataError(
                f"{origin} is cut off: it says {atoms} atoms (line {number}), but the file ends after "
                f"{max(len(lines) - line - 2, 0)} of them",
                "remove the last frame, or copy the file again",
            )
        for note in _check_frame(lines[line + 1], lines[line + 2 : line + 2 + atoms], origin, number + 1):
            first, count = notes.get(note, (frame, 0))
            notes[note] = (first, count + 1)
        line += 2 + atoms
        for _ in range(3):  # cell vectors, as the program ADF writes them
            if line < len(lines) and lines[line].lstrip().startswith("VEC"):
                line += 1
        frame += 1
    return [f"{path}: {note} ({count} frames, first: frame {first})" for note, (first, count) in notes.items()]


def _read_number_of_atoms(text: str, number: int, frame: int, path: Path) -> int:
    text = text.strip()
    if not text:
        raise DataError(
            f"{path}: line {number} is empty, but more follows, which would not be read",
            f"remove the line; frame {frame} must begin there with its number of atoms",
        )
    if not (text.isascii() and text.isdigit()) or int(text[:19]) == 0:
        excerpt = text if len(text) <= 40 else text[:40] + "..."
        raise DataError(
            f"{path}: line {number} is {excerpt!r}, where frame {frame} must begin with its number of atoms",
            "give an extended XYZ file; if it is one, the number of atoms of the frame before is wrong",
        )
    return int(text[:19])


def _check_frame(comment: str, rows: list[str], origin: str, line: int) -> list[str]:
    """Check one frame; gives what is not read."""
    pairs = _KEY.findall(comment)
    names = [name for name, _ in pairs]
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise DataError(f"{origin}: the key '{repeated}' stands twice in line {line}", "keep one of them")
    for name in names:
        for exact in _SPELT_EXACTLY:
            if name.lower() == exact.lower() and name != exact:
                raise DataError(f"{origin}: '{name}' in line {line} would not be read", f"write {exact}=...")
    values = dict(pairs)
    _check_quotes(comment, origin, line)
    _check_pbc(values, origin, line)
    _check_stress(values, origin)
    properties = values.get("Properties", _DEFAULT_COLUMNS).strip("\"'{}[]")
    declared = count_columns(properties, origin)
    notes = []
    if "Lattice" not in values and (cell := next((name for name in _NO_CELL_KEYS if name in values), None)):
        notes.append(f"'{cell}' is not read as a cell, which has to be called Lattice")
    extra = False
    for i, row in enumerate(rows):
        columns = len(row.split())
        if columns < declared:
            raise DataError(
                f"{origin}: the row of atom {i} (line {line + 1 + i}) has {columns} columns, but Properties names "
                f"{declared}",
                "repair the row, or the columns in Properties=...",
            )
        extra = extra or columns > declared
    check_doubles(properties, rows, origin)
    if extra:
        notes.append("its rows have more columns than Properties names; the rest is not read")
    return notes


def _check_pbc(values: dict[str, str], origin: str, line: int) -> None:
    """Refuse a spelling that ASE would take for ``T T T``."""
    text = values.get("pbc")
    if text is None or any(pattern.fullmatch(_strip_quotes(text)) for pattern in _PBC):
        return
    raise DataError(
        f"{origin}: pbc={text} in line {line} cannot be understood",
        'write pbc="T T T", or F for a lattice vector along which it is not periodic, such as pbc="T F F"',
    )


def _check_stress(values: dict[str, str], origin: str) -> None:
    """Refuse a stress of which ASE would take one triangle, and lose what the other says."""
    if "stress" not in values:
        return
    try:
        numbers = [float(word) for word in re.findall(r"[^\s,]+", _strip_quotes(values["stress"]))]
    except ValueError:
        return  # ASE refuses what are not nine numbers
    if len(numbers) != 9:
        return
    check_symmetric(np.array(numbers).reshape(3, 3), f"{origin}: 'stress'")


def _strip_quotes(value: str) -> str:
    """A value without the quotes or brackets around it."""
    return value[1:-1] if len(value) > 1 and _CLOSES.get(value[0]) == value[-1] else value


def _check_quotes(comment: str, origin: str, line: int) -> None:
    """Refuse a quotation that begins within a value, or never ends, and hides the keys after it.

    ASE begins one at each quote or bracket, wherever it stands: ``name=5'-GMP energy=-1`` has no energy.
    """
    for span in _SPAN.finditer(comment):
        text, begin = span[0], span.start()
        inside = begin > 0 and not comment[begin - 1].isspace() and comment[begin - 1] != "="
        if text[0] == "\\":
            hides = text[1:].isspace() and "=" in comment[begin:]
        else:
            ends = len(text) > 1 and text[-1] == _CLOSES[text[0]]
            hides = "=" in text and (inside or not ends)
        if hides:
            start = max(comment.rfind(space, 0, begin) for space in " \t") + 1
            word = comment[start:].split()[0]
            name, equals, value = word.rpartition("=")
            value = value.removeprefix(text[0]).replace("\\", "\\\\")
            quoted = f"'{value}'" if '"' in value else f'"{value}"'
            hidden = [name for name, _ in _KEY.findall(comment[begin:])]
            raise DataError(
                f"{origin}: the {text[0]} in {word} (line {line}) joins it with what follows, so that "
                f"{', '.join(hidden) or 'that'} would not be read",
                f"write {name}{equals}{quoted}",
            )
