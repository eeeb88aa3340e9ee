"""What the Triton code needs of the paths of a table, and how they are put into groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from nequip_like.nn.kernels.paths import PathTable, PlacedPath

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


class PathTerm(NamedTuple):
    """One Clebsch-Gordan coefficient: component i of the source, j of the harmonic, k of the result."""

    i: int
    j: int
    k: int
    value: float


@dataclass(frozen=True)
class CodePath(PlacedPath):
    """A path with what the code needs of it.

    Attributes:
        scale: Factor of all coefficients, taken out so that most of them become 1 or -1.
        terms: Coefficients; ``j`` counts from the first of all harmonics.
    """

    scale: float
    terms: tuple[PathTerm, ...]

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
    result = []
    for path, placed in zip(table.paths, table.placed(), strict=True):
        scale, terms = _scale_terms(table.coupling(path), path.degree)
        result.append(CodePath(**vars(placed), scale=scale, terms=terms))
    return result


def _scale_terms(coupling: Tensor, degree: int) -> tuple[float, tuple[PathTerm, ...]]:
    """Coefficients of a path with a harmonic of ``degree``, and the size that is the most frequent among them."""
    places = (coupling.abs() > _ZERO).nonzero().tolist()
    values = [float(coupling[i, j, k]) for i, j, k in places]
    sizes = [abs(value) for value in values]
    scale = max(sizes, key=lambda size: sum(math.isclose(size, entry, rel_tol=_ZERO) for entry in sizes))
    terms = (
        PathTerm(i, degree**2 + j, k, _round_to_one(value / scale))
        for (i, j, k), value in zip(places, values, strict=True)
    )
    return scale, tuple(terms)


def _round_to_one(value: float) -> float:
    return math.copysign(1.0, value) if math.isclose(abs(value), 1.0, rel_tol=_ZERO) else value


def groups_of_paths(table: PathTable, tile: Tile) -> list[list[int]]:
    """Paths behind each other that together have at most ``tile.rows`` results."""
    return _collect_groups([[number] for number in range(len(table.paths))], table, tile)


def groups_of_sources(table: PathTable, tile: Tile) -> list[list[int]]:
    """The same without cutting through the paths of a source; sources without paths are left out."""
    of_source = [[n for n, p in enumerate(table.paths) if p.source == s] for s in range(len(table.features))]
    return _collect_groups([numbers for numbers in of_source if numbers], table, tile)


def _collect_groups(units: list[list[int]], table: PathTable, tile: Tile) -> list[list[int]]:
    groups: list[list[int]] = []
    used_rows = tile.rows
    for unit in units:
        size = sum(table.paths[number].kind.dim for number in unit)
        if not groups or used_rows + size > tile.rows:
            groups.append([])
            used_rows = 0
        groups[-1] += unit
        used_rows += size
    return groups
