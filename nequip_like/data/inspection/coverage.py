"""How often each species is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers as number_of
from ase.data import chemical_symbols as symbol_of

from nequip_like.data.fields import Graph
from nequip_like.data.tables.frame_table import FrameTable, tabulate


@dataclass(frozen=True)
class SpeciesCoverage:
    """How often a species is seen: its chemical symbol, and the numbers of frames and of atoms that are of it."""

    symbol: str
    frames: int
    atoms: int


def count_coverage(frames: Sequence[Graph] | FrameTable) -> list[SpeciesCoverage]:
    """Count frames and atoms of each species, by atomic number.

    Args:
        frames: Graphs, or their table.

    Example:
        >>> from ase.build import molecule
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> count_coverage([graph_from_atoms(molecule(name)) for name in ("H2O", "H2")])[0]
        SpeciesCoverage(symbol='H', frames=2, atoms=4)
    """
    table = tabulate(frames)
    in_frames = np.bincount(table.number, minlength=len(symbol_of))
    return [
        SpeciesCoverage(symbol, int(in_frames[number_of[symbol]]), atoms)
        for symbol, atoms in table.count_species().items()
    ]
