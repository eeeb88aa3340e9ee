"""The table of paths of a convolution: which products of features and spherical harmonics there are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from e3nn.o3 import Irrep, Irreps, wigner_3j
from torch import Tensor, float64


@dataclass(frozen=True)
class Path:
    """One coupling ``(source irrep, l of the harmonic) -> kind``.

    Attributes:
        source: Index of the source's entry in the feature irreps.
        degree: Degree l of the spherical harmonic.
        kind: Irrep of the result.
    """

    source: int
    degree: int
    kind: Irrep


@dataclass(frozen=True)
class PlacedPath:
    """A path with where its numbers lie, for kernels that write code or tables.

    Attributes:
        number: Its place in the table.
        source: Index of the source irrep.
        degree: Degree l of the spherical harmonic.
        width: Channels of the source, and of the path's result.
        kind: Index of the result's kind.
        channels: Channels of that kind, of all paths together.
        offset: First channel of this path within the kind.
        weight: First weight of this path.
    """

    number: int
    source: int
    degree: int
    width: int
    kind: int
    channels: int
    offset: int
    weight: int


class PathTable:
    """All paths from ``features (x) Y_0..Y_lmax`` into the kinds of ``allowed``.

    Weights of the paths lie behind each other in the order of ``paths``, each ``multiplicity`` of its source wide. The
    result holds each kind once, in sorted order; its channels are those of the kind's paths, in path order. This is
    NequIP's order, so that weights can be exchanged.

    Args:
        features: Irreps of the neighbours' features; each kind at most once.
        l_max: Highest degree of the harmonics; degree l has parity (-1)^l.
        allowed: Irreps whose kinds may come out.
    """

    def __init__(self, features: Irreps, l_max: int, allowed: Irreps) -> None:
        kinds = {entry.ir for entry in allowed}
        self.features = features
        self.l_max = l_max
        self.paths = [
            Path(source, degree, kind)
            for source, entry in enumerate(features)
            for degree in range(l_max + 1)
            for kind in entry.ir * Irrep(degree, (-1) ** degree)
            if kind in kinds
        ]
        kinds_out = sorted({path.kind for path in self.paths})
        self.paths_of_kind = {kind: [i for i, path in enumerate(self.paths) if path.kind == kind] for kind in kinds_out}
        self.irreps_out = Irreps(
            [(sum(features[self.paths[i].source].mul for i in self.paths_of_kind[kind]), kind) for kind in kinds_out]
        )
        self.weight_numel = sum(features[path.source].mul for path in self.paths)

    def placed(self) -> list[PlacedPath]:
        """The paths, each with where its channels and weights begin."""
        kinds = list(self.paths_of_kind)
        offsets = [0] * len(kinds)
        result, weight = [], 0
        for number, path in enumerate(self.paths):
            width, kind = self.features[path.source].mul, kinds.index(path.kind)
            channels = self.irreps_out[kind].mul
            result.append(PlacedPath(number, path.source, path.degree, width, kind, channels, offsets[kind], weight))
            offsets[kind] += width
            weight += width
        return result

    def coupling(self, path: Path) -> Tensor:
        """Coefficients (source, harmonic, result), float64: ``sqrt(2l+1)`` of the result times Wigner's 3j symbols."""
        source_degree = self.features[path.source].ir.l
        return wigner_3j(source_degree, path.degree, path.kind.l, dtype=float64) * math.sqrt(path.kind.dim)
