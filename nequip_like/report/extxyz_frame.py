"""One frame of extended XYZ, with all digits of its numbers, which ASE's own writer cuts to eight decimals."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from ase.data import chemical_symbols
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.report.comment_line import column_type, format_column, quote

# Under which names ASE, and this package, read labels back.
ASE_NAMES = {
    fields.TOTAL_ENERGY: "energy",
    fields.PER_ATOM_ENERGY: "energies",
    fields.FORCES: "forces",
    fields.STRESS: "stress",
}


def format_frame(frame: Graph, columns: Mapping[str, np.ndarray], info: Mapping[str, str]) -> str:
    """One frame. A 3 x 3 matrix is read back by columns, which only matters for the lattice: its rows are vectors.

    Args:
        frame: The structure.
        columns: Values of the atoms by name (atoms, columns).
        info: Values of the structure by name, as text.
    """
    types = [f"{name}:{column_type(column)}:{column.shape[1]}" for name, column in columns.items()]
    comment = [f"Properties={':'.join(['species:S:1', 'pos:R:3', *types])}"]
    comment += [f"{name}={text}" for name, text in info.items()]
    comment.append(f'pbc="{" ".join("FT"[int(axis)] for axis in frame[fields.PBC][0])}"')
    if bool(frame[fields.CELL].any()):
        comment.insert(0, f"Lattice={format_numbers(frame[fields.CELL])}")
    cells = [format_column(column) for column in (frame[fields.POSITIONS].numpy(), *columns.values())]
    lines = [str(len(frame[fields.POSITIONS])), " ".join(comment)]
    for number, *row in zip(frame[fields.ATOMIC_NUMBERS].tolist(), *cells, strict=True):
        lines.append(" ".join([chemical_symbols[number], *(cell for column in row for cell in column)]))
    return "\n".join(lines) + "\n"


def format_numbers(value: Tensor) -> str:
    """One number, or several in quotes."""
    text = " ".join(repr(x) for x in value.flatten().tolist())
    return text if value.numel() == 1 else f'"{text}"'


def format_key(name: str) -> str:
    """A name of the comment line, in quotes where it is more than a word."""
    return name if re.fullmatch(r"[\w.+-]+", name) else quote(name)
