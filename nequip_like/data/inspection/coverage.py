"""How often each species is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ase.data import chemical_symbols

from nequip_like.data import fields
from nequip_like.data.fields import Graph


@dataclass(frozen=True)
class SpeciesCoverage:
    """How often a species is seen: its chemical symbol, and the numbers of frames and of atoms that are of it."""

    symbol: str
    frames: int
    atoms: int


def count_coverage(frames: Sequence[Graph]) -> list[SpeciesCoverage]:
    """Count frames and atoms of each species, by atomic number.

    Example:
        >>> import torch
        >>> count_coverage([{"atomic_numbers": torch.tensor(numbers)} for numbers in ([8, 1, 1], [1, 1])])[0]
        SpeciesCoverage(symbol='H', frames=2, atoms=4)
    """
    in_frames: Counter[int] = Counter()
    atoms: Counter[int] = Counter()
    for frame in frames:
        counts = Counter(frame[fields.ATOMIC_NUMBERS].tolist())
        in_frames.update(counts.keys())
        atoms.update(counts)
    return [SpeciesCoverage(chemical_symbols[number], in_frames[number], atoms[number]) for number in sorted(atoms)]
