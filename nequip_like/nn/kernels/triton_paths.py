"""What the Triton code needs of the paths of a table, and how they are put into groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from e3nn.o3 import wigner_3j
from torch import float64

from nequip_like.nn.kernels.paths import Path, PathTable

_ZERO = 1e-12


@dataclass(frozen=True)
class Tile:
    """What one program works on.

    Attributes:
        channels: Channels at once, a power of two.
        edges: Edges at once, a power of two.
        rows: Largest number of results (2l+1 for each path) that a group of paths accumulates.
    """

    channels: int
    edges: int
    rows: int


class Term(NamedTuple):
    """One Clebsch-Gordan coefficient: component i of the source, j of the harmonic, k of the result."""

    i: int
    j: int
    k: int
    value: float


@dataclass(frozen=True)
class CodePath:
    """A path with what the code needs of it.

    Attributes:
        number: Its place in the table.
        source: Index of the source irrep.
        width: Its number of channels.
        kind: Index of the result's kind.
        channels: Number of channels of that kind, of all paths together.
        offset: First channel of this path within the kind.
        weight: First weight of this path.
        scale: Factor of all coefficients, taken out so that most of them become 1 or -1.
        terms: Coefficients; ``j`` counts from the first of all harmonics.
    """

    number: int
    source: int
    width: int
    kind: int
    channels: int
    offset: int
    weight: int
    scale: float
    terms: tuple[Term, ...]

    @property
    def rows(self) -> list[int]:
        """Components of the result that are not always zero."""
        return sorted({term.k for term in self.terms})

    @property
    def columns(self) -> list[int]:
        """Components of the source that matter."""
        return sorted({term.i for term in self.terms})

    @property
    def harmonics(self) -> list[int]:
        """Harmonics that matter."""
        return sorted({term.j for term in self.terms})

    @property
    def entries(self) -> list[tuple[int, int]]:
        """Places ``(k, i)`` of the matrix that an edge's harmonics and the coefficients give."""
        return sorted({(term.k, term.i) for term in self.terms})


def paths_of(table: PathTable) -> list[CodePath]:
    """The paths in the order of the table."""
    kinds = list(table.paths_of_kind)
    filled = dict.fromkeys(kinds, 0)
    result, weight = [], 0
    for number, path in enumerate(table.paths):
        entry, kind = table.features[path.source], kinds.index(path.kind)
        width, channels = entry.mul, table.irreps_out[kind].mul
        scale, terms = _scaled_terms(entry.ir.l, path)
        result.append(CodePath(number, path.source, width, kind, channels, filled[path.kind], weight, scale, terms))
        filled[path.kind] += width
        weight += width
    return result


def _scaled_terms(degree: int, path: Path) -> tuple[float, tuple[Term, ...]]:
    """Coefficients of a path from a source of ``degree``, and the size that is the most frequent among them."""
    coupling = wigner_3j(degree, path.degree, path.kind.l, dtype=float64) * math.sqrt(path.kind.dim)
    places = (coupling.abs() > _ZERO).nonzero().tolist()
    values = [float(coupling[i, j, k]) for i, j, k in places]
    sizes = [abs(value) for value in values]
    scale = max(sizes, key=lambda size: sum(math.isclose(size, other, rel_tol=_ZERO) for other in sizes))
    terms = (
        Term(i, path.degree**2 + j, k, _one_or(value / scale)) for (i, j, k), value in zip(places, values, strict=True)
    )
    return scale, tuple(terms)


def _one_or(value: float) -> float:
    return math.copysign(1.0, value) if math.isclose(abs(value), 1.0, rel_tol=_ZERO) else value


def groups_of_paths(table: PathTable, tile: Tile) -> list[list[int]]:
    """Paths behind each other that together have at most ``tile.rows`` results."""
    return _in_groups([[number] for number in range(len(table.paths))], table, tile)


def groups_of_sources(table: PathTable, tile: Tile) -> list[list[int]]:
    """The same without cutting through the paths of a source; sources without paths are left out."""
    of_source = [[n for n, p in enumerate(table.paths) if p.source == s] for s in range(len(table.features))]
    return _in_groups([numbers for numbers in of_source if numbers], table, tile)


def _in_groups(units: list[list[int]], table: PathTable, tile: Tile) -> list[list[int]]:
    groups: list[list[int]] = []
    filled = tile.rows
    for unit in units:
        size = sum(table.paths[number].kind.dim for number in unit)
        if not groups or filled + size > tile.rows:
            groups.append([])
            filled = 0
        groups[-1] += unit
        filled += size
    return groups
