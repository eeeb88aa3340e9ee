"""The table of paths of a convolution: which products of features and spherical harmonics there are."""

from __future__ import annotations

from dataclasses import dataclass

from e3nn.o3 import Irrep, Irreps


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


class PathTable:
    """All paths from ``features (x) Y_0..Y_lmax`` into the kinds of ``wanted``.

    Weights of the paths lie behind each other in the order of ``paths``, each ``multiplicity`` of its source wide. The
    result holds each kind once, in sorted order; its channels are those of the kind's paths, in path order. This is
    NequIP's order, so that weights can be exchanged.

    Args:
        features: Irreps of the neighbours' features; each kind at most once.
        l_max: Highest degree of the harmonics; degree l has parity (-1)^l.
        wanted: Irreps whose kinds may come out.
    """

    def __init__(self, features: Irreps, l_max: int, wanted: Irreps) -> None:
        kinds = {entry.ir for entry in wanted}
        self.features = features
        self.l_max = l_max
        self.paths = [
            Path(source, degree, kind)
            for source, entry in enumerate(features)
            for degree in range(l_max + 1)
            for kind in entry.ir * Irrep(degree, (-1) ** degree)
            if kind in kinds
        ]
        found = sorted({path.kind for path in self.paths})
        self.paths_of_kind = {kind: [i for i, path in enumerate(self.paths) if path.kind == kind] for kind in found}
        self.irreps_out = Irreps(
            [(sum(features[self.paths[i].source].mul for i in self.paths_of_kind[kind]), kind) for kind in found]
        )
        self.weight_numel = sum(features[path.source].mul for path in self.paths)
