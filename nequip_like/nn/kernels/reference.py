"""The convolution as its definition says, one path after the other: what every faster kernel is checked against."""

from __future__ import annotations

import math

import torch
from e3nn.o3 import wigner_3j
from torch import Tensor, nn

from nequip_like.nn.features import Features
from nequip_like.nn.kernels.paths import PathTable


class ReferenceConvolution(nn.Module):
    """``m_i = sum_j sqrt(2l+1) w_ij CG(x_j, Y(r_ij))`` for each path (Batzner et al. 2022, eq. 4)."""

    def __init__(self, table: PathTable) -> None:
        super().__init__()
        self.table = table

    def forward(
        self, features: Features, harmonics: Tensor, weights: Tensor, centre: Tensor, neighbour: Tensor
    ) -> Features:
        """Sum the weighted products over the neighbours of each atom.

        Args:
            features: Features of all atoms, of ``table.features``.
            harmonics: Spherical harmonics of the edges, shape (edges, (l_max + 1)^2).
            weights: Weight of each path and channel, shape (edges, table.weight_numel).
            centre: Receiving atom of each edge, shape (edges,).
            neighbour: Sending atom of each edge, shape (edges,).

        Returns:
            Features of ``table.irreps_out``.
        """
        atoms = len(features[0])
        widths = [self.table.features[path.source].mul for path in self.table.paths]
        results = []
        for path, weight in zip(self.table.paths, weights.split(widths, dim=1), strict=True):
            entry = self.table.features[path.source]
            coupling = wigner_3j(entry.ir.l, path.degree, path.kind.l, dtype=weights.dtype, device=weights.device)
            harmonic = harmonics[:, path.degree**2 : (path.degree + 1) ** 2]
            message = torch.einsum(
                "eiu,ej,ijk,eu->eku", features[path.source][neighbour], harmonic, coupling, weight
            ) * math.sqrt(path.kind.dim)
            zeros = message.new_zeros(atoms, path.kind.dim, entry.mul)
            results.append(zeros.index_add(0, centre, message))
        return [torch.cat([results[i] for i in indices], dim=-1) for indices in self.table.paths_of_kind.values()]
