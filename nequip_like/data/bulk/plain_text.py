"""Structures out of plain extended XYZ text, many frames at once.

ASE's reader makes an object of each frame and a number of each word, which takes longer than the network for a small
molecule. Nearly all files are written by programs, frame after frame alike; such text is split once. Whatever is not
plain (:data:`_COMMENT`), or looks wrong in any way, is not read here: the answer is None, and the usual reader says
what is the matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from ase.data import atomic_numbers

from nequip_like.data.bulk.structures import Remarks, StructureArrays
from nequip_like.data.io.structures import SMALLEST_HEIGHT
from nequip_like.data.labels.names import label_of

_VALUE = r"""(?:"[^"'\\{}\[\]=]*"|[^\s"'\\{}\[\],=]+)"""
_PAIR = re.compile(rf"([A-Za-z_][\w.-]*)=({_VALUE})")
_COMMENT = re.compile(rf"\s*(?:[A-Za-z_][\w.-]*={_VALUE}(?:\s+|$))+")
_COLUMNS = re.compile(r"species:S:1:pos:R:3((?::[A-Za-z_]\w*:[RIL]:[1-9])*)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_PBC = {f'"{a} {b} {c}"': (a == "T", b == "T", c == "T") for a in "TF" for b in "TF" for c in "TF"}
_OF_STRUCTURE = frozenset({"Lattice", "Properties", "pbc"})
_MISREAD = frozenset({"lattice", "properties", "pbc", "cell", "box", "unit_cell", "unitcell", "lattice_vectors"})


def read_plain_text(text: str, title: str, first: int, remarks: bool) -> StructureArrays | None:
    """The structures of whole frames of extended XYZ; None if any of them is not plain.

    Args:
        text: The frames.
        title: The file, for messages.
        first: Number of the first frame in it.
        remarks: Whether what frames hold beside is asked for.

    Example:
        >>> text = '''2
        ... Properties=species:S:1:pos:R:3 energy=-31.7 step=7 pbc="F F F"
        ... H 0.0 0.0 0.00
        ... H 0.0 0.0 0.74
        ... '''
        >>> structures = read_plain_text(text, "h2.xyz", 0, remarks=True)
        >>> structures.numbers.tolist(), structures.positions[1].tolist(), structures.remarks[0].text
        ([1, 1], [0.0, 0.0, 0.74], {'step': '7'})
    """
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    line, counts, heads, symbols = 0, [], [], []
    coordinates: list[str] = []
    while line < len(lines):
        head = lines[line].strip()
        atoms = int(head) if head.isdigit() and head.isascii() and len(head) < 9 else 0
        if not atoms or line + 2 + atoms > len(lines):
            return None
        comment = _read_comment(lines[line + 1], remarks)
        if comment is None:
            return None
        width = comment[0]
        words = " ".join(lines[line + 2 : line + 2 + atoms]).split()
        # As many words as the rows have to have; that no row has another's is seen where symbols are no numbers.
        if len(words) != atoms * width:
            return None
        symbols += words[::width]
        coordinates += [word for i in range(1, 4) for word in words[i::width]]
        counts.append(atoms)
        heads.append(comment[1:])
        line += 2 + atoms
    return _assemble(counts, heads, symbols, coordinates, title, first)


def _assemble(
    counts: list[int],
    heads: Sequence[tuple[np.ndarray | None, tuple[bool, bool, bool], Remarks]],
    symbols: list[str],
    coordinates: list[str],
    title: str,
    first: int,
) -> StructureArrays | None:
    numbers = [atomic_numbers.get(symbol, 0) for symbol in symbols]
    if not counts or not all(numbers):
        return None
    try:
        values = np.array(coordinates, dtype=np.float64)
    except ValueError:
        return None
    # Of each frame first all x, then all y, then all z.
    sizes = np.array(counts)
    starts = np.cumsum(sizes) - sizes
    atom = np.arange(len(numbers)) + 2 * starts.repeat(sizes)
    positions = np.stack([values[atom + axis * sizes.repeat(sizes)] for axis in range(3)], axis=1)
    cells = np.array([np.zeros((3, 3)) if cell is None else cell for cell, _, _ in heads])
    pbc = np.array([periodic for _, periodic, _ in heads])
    structures = StructureArrays(
        np.array(numbers), positions, sizes, cells, pbc, title, first, [remark for _, _, remark in heads]
    )
    return structures if structures.is_plain else None


def _read_comment(
    comment: str, remarks: bool
) -> tuple[int, np.ndarray | None, tuple[bool, bool, bool], Remarks] | None:
    """Number of columns, cell, periodicity and remarks of a frame; None if its comment line is not plain."""
    if not _COMMENT.fullmatch(comment):
        return None
    pairs = _PAIR.findall(comment)
    values = dict(pairs)
    if len(values) < len(pairs) or any(_is_special(name) for name in values if name not in _OF_STRUCTURE):
        return None
    width = _count_columns(values.get("Properties", "").strip('"'), remarks)
    if width is None:
        return None
    cell = _read_cell(values["Lattice"]) if "Lattice" in values else None
    periodic = _PBC.get(values["pbc"]) if "pbc" in values else (cell is not None,) * 3
    if periodic is None or (cell is None and ("Lattice" in values or any(periodic))):
        return None
    info = {name: text for name, text in pairs if name not in _OF_STRUCTURE and not _is_label(name)} if remarks else {}
    return width, cell, periodic, Remarks(info)


@lru_cache(maxsize=1024)
def _read_cell(text: str) -> np.ndarray | None:
    """A cell with its vectors as rows; None if it is not nine numbers, or nearly flat."""
    words = text.strip('"').split()
    if len(words) != 9 or not all(map(_NUMBER.fullmatch, words)):
        return None
    cell = np.array(words, dtype=np.float64).reshape(3, 3)
    try:
        heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    except np.linalg.LinAlgError:
        return None
    return cell if heights.min() >= SMALLEST_HEIGHT else None


@lru_cache(maxsize=4096)
def _is_special(name: str) -> bool:
    """Whether a name may say something of the structure: another spelling of a key, or a unit."""
    return name.lower() in _MISREAD or "unit" in name.lower()


@lru_cache(maxsize=4096)
def _is_label(name: str) -> bool:
    return label_of(name) is not None


@lru_cache(maxsize=256)
def _count_columns(properties: str, remarks: bool) -> int | None:
    """Number of columns; None if they are not plain, or hold what is asked for and not a label."""
    match = _COLUMNS.fullmatch(properties)
    if match is None:
        return None
    parts = match[1].split(":")[1:]
    names, counts = parts[::3], parts[2::3]
    structural = {"species", "pos", "symbols", "Z", "numbers", "positions", "move_mask"}
    if len(set(names)) < len(names) or structural & set(names):
        return None
    if remarks and not all(_is_label(name) for name in names):
        return None
    return 4 + sum(map(int, counts))
