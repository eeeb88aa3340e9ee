"""Radial functions of an edge: cutoffs for each pair of species, Bessel basis, smooth envelope."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from nequip_like.arguments import Range, check
from nequip_like.errors import ConfigError

# The envelope is smooth from p = 2 on.
CutoffPower = Annotated[float, Range(low=2)]
PairCutoffs = Mapping[str, float | Mapping[str, float]]


def pair_cutoff_table(cutoffs: PairCutoffs | None, type_names: Sequence[str], cutoff: float) -> Tensor:
    """Cutoff of each ordered pair (centre, neighbour), shape (types, types), Angstrom.

    Args:
        cutoffs: ``{centre: radius}`` or ``{centre: {neighbour: radius}}``; what is not named has ``cutoff``.
        type_names: The model's species.
        cutoff: The largest cutoff.

    Raises:
        ConfigError: For an unknown species, or a radius that is not within (0, cutoff].

    Example:
        Rows are centres, columns neighbours; what is not named has the largest cutoff:

        >>> pair_cutoff_table({"H": {"H": 2.0, "O": 3.0}}, ["H", "O"], cutoff=5.0).tolist()
        [[2.0, 3.0], [5.0, 5.0]]
    """
    table = torch.full((len(type_names), len(type_names)), float(cutoff), dtype=torch.float64)
    for centre, entry in (cutoffs or {}).items():
        row = _find_type(centre, type_names)
        pairs = entry.items() if isinstance(entry, Mapping) else [(name, entry) for name in type_names]
        for neighbour, radius in pairs:
            if isinstance(radius, bool) or not isinstance(radius, int | float) or not 0 < radius <= cutoff:
                raise ConfigError(
                    f"per_edge_type_cutoff of {centre}-{neighbour} is {radius}",
                    f"give a radius in Angstrom above 0 and at most r_max = {cutoff}",
                )
            table[row, _find_type(neighbour, type_names)] = float(radius)
    return table


def _find_type(name: str, type_names: Sequence[str]) -> int:
    if name not in type_names:
        raise ConfigError(
            f"per_edge_type_cutoff names '{name}', which is not a species of the model",
            f"the model's species are {', '.join(type_names)}",
        )
    return list(type_names).index(name)


class PolynomialEnvelope(nn.Module):
    """Smooth step from 1 at x = 0 to 0 at x = 1, with two vanishing derivatives there.

    ``u(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)`` (Gasteiger et al. 2020, DimeNet, eq. 8).

    Args:
        p: Exponent, at least 2. Larger values keep the function near 1 for longer.

    Example:
        >>> PolynomialEnvelope(p=6)(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)).tolist()
        [1.0, 0.85546875, 0.0]
    """

    def __init__(self, p: float = 6.0) -> None:
        super().__init__()
        check("polynomial_cutoff_p", p, CutoffPower)
        self.p = float(p)

    def forward(self, x: Tensor) -> Tensor:
        """Envelope of the scaled distance ``x = r / cutoff``, any shape."""
        return self.polynomial(x) * (x < 1.0)

    def polynomial(self, x: Tensor) -> Tensor:
        """The polynomial of the envelope, also beyond its end; below zero, where no edge is, with ``|x|^p``."""
        p = self.p
        power = x.abs() ** p
        return 1.0 - power * ((p + 1.0) * (p + 2.0) / 2.0 - x * (p * (p + 2.0)) + (x * x) * (p * (p + 1.0) / 2.0))


class RadialEmbedding(nn.Module):
    """Bessel basis times envelope of each edge's scaled length.

    ``B_n(x) = 2 pi / cutoff^2 * sin(w_n pi x) / (pi x) * u(x)`` with ``w_n = 1..N``; with one cutoff this is
    ``2 / cutoff * sin(n pi r / cutoff) / r * u`` (Batzner et al. 2022, Methods).

    Args:
        num_bessels: Number N of basis functions.
        trainable: Whether the frequencies ``w_n`` are trained.
        envelope: The smooth cutoff.
        cutoff: Largest cutoff, Angstrom.
        dtype: Element type of the output; the functions are evaluated in float64.

    Example:
        At the cutoff and beyond it every function is zero:

        >>> basis = RadialEmbedding(4, trainable=False, envelope=PolynomialEnvelope(), cutoff=5.0, dtype=torch.float64)
        >>> basis(torch.tensor([0.3, 1.0, 1.1], dtype=torch.float64)).count_nonzero(dim=1).tolist()
        [4, 0, 0]
    """

    def __init__(
        self, num_bessels: int, trainable: bool, envelope: PolynomialEnvelope, cutoff: float, dtype: torch.dtype
    ) -> None:
        super().__init__()
        frequencies = torch.arange(1, num_bessels + 1, dtype=torch.float64)
        if trainable:
            self.frequencies = nn.Parameter(frequencies)
        else:
            self.register_buffer("frequencies", frequencies)
        self.envelope = envelope
        self.factor = 2.0 * math.pi / cutoff**2
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Embed scaled lengths ``r / cutoff``, shape (edges,), float64; gives (edges, num_bessels) in ``dtype``."""
        return self._basis(x, self.envelope(x)).to(self.dtype)

    def continued(self, x: Tensor) -> Tensor:
        """The same in float64, going on smoothly beyond the cutoff and below zero, as a spline wants it."""
        return self._basis(x, self.envelope.polynomial(x))

    def _basis(self, x: Tensor, envelope: Tensor) -> Tensor:
        basis = torch.sinc(x.unsqueeze(-1) * self.frequencies) * self.frequencies
        return basis * (self.factor * envelope).unsqueeze(-1)
