"""Real spherical harmonics in e3nn's basis, by recursion over l.

``Y_l`` is the l part of ``Y_(l-1) (x) Y_1``, contracted with the Clebsch-Gordan coefficients of e3nn and scaled to the
"component" normalisation ``|Y_l|^2 = 2l + 1`` with ``Y_l`` positive along the polar (y) axis. Each step is one small
matrix product; nothing is scripted or compiled, so the first call costs what every call costs.
"""

from __future__ import annotations

import math

import torch
from e3nn.o3 import wigner_3j
from torch import Tensor, nn


class SphericalHarmonics(nn.Module):
    """``Y_0 ... Y_lmax`` of directions.

    Args:
        l_max: Highest degree.

    Example:
        "component" normalisation: the squares of degree l add up to 2l + 1, in any direction.

        >>> harmonics = SphericalHarmonics(2)(torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64))[0]
        >>> [round(part.square().sum().item(), 6) for part in harmonics.split([1, 3, 5])]
        [1.0, 3.0, 5.0]
    """

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        polar = torch.tensor([0.0, math.sqrt(3.0), 0.0], dtype=torch.float64)
        harmonic = polar
        for degree in range(2, l_max + 1):
            coupling = wigner_3j(degree - 1, 1, degree, dtype=torch.float64)
            value = torch.einsum("i,j,ijk->k", harmonic, polar, coupling)
            # Along the polar axis only the middle component, m = 0, is not zero.
            scale = math.sqrt(2 * degree + 1) / value[degree]
            matrix = (coupling * scale).reshape(-1, 2 * degree + 1)
            # These tables follow from l_max alone, so they are not part of a checkpoint.
            self.register_buffer(f"coupling_{degree}", matrix, persistent=False)
            harmonic = value * scale

    def forward(self, unit_vectors: Tensor) -> Tensor:
        """Evaluate for unit vectors (rows, 3); gives (rows, (l_max + 1)^2), ordered by l, then m."""
        parts = [torch.ones_like(unit_vectors[:, :1])]
        if self.l_max >= 1:
            first = math.sqrt(3.0) * unit_vectors
            parts.append(first)
        for degree in range(2, self.l_max + 1):
            outer = (parts[-1].unsqueeze(2) * first.unsqueeze(1)).flatten(1)
            parts.append(outer @ getattr(self, f"coupling_{degree}"))
        return torch.cat(parts, dim=1)

    def differentiate(self, unit_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Values, and derivatives of the polynomials that they are, shape (rows, (l_max + 1)^2, 3).

        These polynomials are defined beyond unit vectors, too; for the derivative on the sphere take off what is along
        the vector.

        Example:
            Y_1 is sqrt(3) times the vector, so its derivative is the same everywhere:

            >>> slopes = SphericalHarmonics(1).differentiate(torch.tensor([[0.6, 0.0, 0.8]]))[1]
            >>> [[round(value, 4) for value in row] for row in slopes[0].tolist()]
            [[0.0, 0.0, 0.0], [1.7321, 0.0, 0.0], [0.0, 1.7321, 0.0], [0.0, 0.0, 1.7321]]
        """
        rows = len(unit_vectors)
        parts = [torch.ones_like(unit_vectors[:, :1])]
        slopes = [unit_vectors.new_zeros(rows, 3, 1)]
        first = math.sqrt(3.0) * unit_vectors
        along = math.sqrt(3.0) * torch.eye(3, dtype=unit_vectors.dtype, device=unit_vectors.device)
        if self.l_max >= 1:
            parts.append(first)
            slopes.append(along.expand(rows, 3, 3))
        for degree in range(2, self.l_max + 1):
            coupling = getattr(self, f"coupling_{degree}")
            outer = parts[-1].unsqueeze(2) * first.unsqueeze(1)
            # The product rule, for each of the three directions.
            moved = slopes[-1].unsqueeze(3) * first[:, None, None, :] + parts[-1][:, None, :, None] * along[:, None, :]
            parts.append(outer.flatten(1) @ coupling)
            slopes.append(moved.flatten(2) @ coupling)
        return torch.cat(parts, dim=1), torch.cat(slopes, dim=2).transpose(1, 2)
