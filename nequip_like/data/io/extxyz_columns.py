"""The columns of an extended XYZ file: how many there are, and whether each is of the type that its name promises.

ASE's reader takes symbols for numbers and numbers for symbols where ``Properties`` says so, and fails in its own code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ase.data import atomic_numbers

from nequip_like.errors import DataError

_MOST_COLUMNS = 1000
# By name: types that ASE reads right, numbers of columns (empty: any), what to write instead.
_SPECIES = "species:S:1 for symbols, Z:I:1 for atomic numbers"
_STRUCTURE: dict[str, tuple[str, tuple[int, ...], str]] = {
    "species": ("S", (1,), _SPECIES),
    "symbols": ("S", (1,), _SPECIES),
    "Z": ("IS", (1,), _SPECIES),
    "numbers": ("IS", (1,), _SPECIES),
    "pos": ("RIS", (3,), "pos:R:3"),
    "positions": ("RIS", (3,), "pos:R:3"),
    "force": ("RIS", (), "forces:R:3"),
    "forces": ("RIS", (), "forces:R:3"),
    "energies": ("RIS", (), "energies:R:1"),
    "charge": ("RI", (1,), "charge:R:1"),
    "initial_charges": ("RI", (1,), "initial_charges:R:1"),
    "move_mask": ("LIRS", (1, 3), "move_mask:L:1"),
}
_SYNONYMS = (("species", ("species", "symbols", "Z", "numbers")), ("pos", ("pos", "positions")))
_ROUNDING = 1e-3  # Angstrom, or what the file's unit is; some programs write three digits
_TYPES = {"S": "text", "R": "real numbers", "I": "integers", "L": "T or F"}


def count_columns(properties: str, origin: str) -> int:
    """Number of columns that a frame declares.

    Args:
        properties: The value of ``Properties``.
        origin: File and frame, for messages.

    Raises:
        DataError: If it cannot be understood, names a column twice, gives a column another type than its name
            promises, or names the species or positions not at all.
    """
    parts = properties.split(":")
    names, types, counts = parts[::3], parts[1::3], parts[2::3]
    if len(parts) % 3 or not all(count.isascii() and count.isdigit() for count in counts):
        raise DataError(
            f"{origin}: Properties={properties} cannot be understood",
            "write name:type:columns for each, for example species:S:1:pos:R:3:forces:R:3",
        )
    if repeated := next((name for name, count in Counter(names).items() if count > 1), None):
        raise DataError(f"{origin}: Properties names the column '{repeated}' twice", "keep one of them")
    total = sum(min(int(count[:6]), _MOST_COLUMNS + 1) for count in counts)
    if not 0 < total <= _MOST_COLUMNS or any(int(count[:6]) == 0 for count in counts):
        raise DataError(f"{origin}: Properties={properties} cannot be right", "check its numbers of columns")
    for name, kind, count in zip(names, types, counts, strict=True):
        _check_type(name, kind, int(count), origin)
    for needed, synonyms in _SYNONYMS:
        if not set(names) & set(synonyms):
            raise DataError(
                f"{origin}: Properties={properties} does not name the column '{needed}'",
                "write species:S:1:pos:R:3 and what else there is",
            )
    return total


def _check_type(name: str, kind: str, count: int, origin: str) -> None:
    if kind not in _TYPES:
        raise DataError(
            f"{origin}: Properties gives the column '{name}' the type '{kind}'",
            f"write one of {', '.join(f'{letter} ({meaning})' for letter, meaning in _TYPES.items())}",
        )
    types, counts, advice = _STRUCTURE.get(name, (kind, (), ""))
    if kind not in types or (counts and count not in counts):
        raise DataError(f"{origin}: Properties says {name}:{kind}:{count}, which '{name}' cannot be", f"write {advice}")


def check_doubles(properties: str, rows: Sequence[str], origin: str) -> None:
    """Refuse species or positions that stand there twice and differ: ASE's reader takes one of them.

    Args:
        properties: The value of ``Properties``, which :func:`count_columns` accepts.
        rows: The lines of the atoms, with all columns.
        origin: File and frame, for messages.

    Raises:
        DataError: Naming both columns and the first atom.
    """
    parts = properties.split(":")
    columns: dict[str, slice] = {}
    start = 0
    for name, count in zip(parts[::3], parts[2::3], strict=True):
        columns[name] = slice(start, start + int(count))
        start += int(count)
    for quantity, synonyms in _SYNONYMS:
        first, *repeats = [name for name in synonyms if name in columns]
        agree = _is_same_element if quantity == "species" else _is_same_place
        for repeat in repeats:
            for atom, row in enumerate(rows):
                row_words = row.split()
                words_of_first, words_of_repeat = row_words[columns[first]], row_words[columns[repeat]]
                if not agree(words_of_first, words_of_repeat):
                    raise DataError(
                        f"{origin}: '{first}' of atom {atom} is {' '.join(words_of_first)}, but '{repeat}' is "
                        f"{' '.join(words_of_repeat)}",
                        "keep the column that is right",
                    )


def _is_same_element(first: list[str], repeat: list[str]) -> bool:
    return _parse_element(first[0]) == _parse_element(repeat[0])


def _parse_element(word: str) -> int | str:
    """Atomic number of a symbol or number; what is neither as it is, which is refused where it is read."""
    return int(word) if word.isascii() and word.isdigit() else atomic_numbers.get(word.capitalize(), word)


def _is_same_place(first: list[str], repeat: list[str]) -> bool:
    try:
        return all(abs(float(a) - float(b)) <= _ROUNDING for a, b in zip(first, repeat, strict=True))
    except ValueError:
        return True  # what is no number is refused where it is read
