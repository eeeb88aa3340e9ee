"""One NequIP layer: message passing by an equivariant convolution, self-connection, gate."""

from __future__ import annotations

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from nequip_like.nn.features import Features, Gate, Linear, SelfConnection, add, path_exists
from nequip_like.nn.kernels import convolution
from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.mlp import ScalarMLP


class InteractionLayer(nn.Module):
    """``x <- gate(W2 sum_j TP(W1 x_j / sqrt(N), Y(r_ij); MLP(r_ij)) + self-connection(x))``.

    This is the interaction block of Batzner et al. 2022, figure 1.

    The normalisation by the average number of neighbours N is that of the *sending* atom's species, as in NequIP.

    Args:
        irreps_in: Features that come in; each kind at most once.
        hidden: Features that are wanted; those that no path reaches are left out.
        l_max: Highest degree of the edge harmonics.
        num_radial: Width of the radial embedding.
        radial_mlp: Depth and width of the radial network.
        embedding_dim: Width of the species embedding.
        self_connection: Whether atoms see their own features.
        resnet: Whether features are added to those that came in, where irreps allow.
        activations: Names of the activations of scalars and of gates, each for even ("e") and odd ("o").
        kernel: Name of the convolution, see :func:`~nequip_like.nn.kernels.convolution`.
        dtype: Element type of weights and features.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        hidden: Irreps,
        l_max: int,
        num_radial: int,
        radial_mlp: tuple[int, int],
        embedding_dim: int,
        self_connection: bool,
        resnet: bool,
        activations: tuple[dict[str, str], dict[str, str]],
        kernel: str,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        harmonics = Irreps.spherical_harmonics(l_max)
        reachable = [entry for entry in hidden if path_exists(irreps_in, harmonics, entry.ir)]
        scalars = Irreps([entry for entry in reachable if entry.ir.l == 0])
        gated = Irreps([entry for entry in reachable if entry.ir.l > 0])
        even, odd = Irrep("0e"), Irrep("0o")
        self.gate = Gate(scalars, gated, even if path_exists(irreps_in, harmonics, even) else odd, *activations)
        self.irreps_in, self.irreps_out = irreps_in, self.gate.irreps_out
        self.resnet = resnet and self.irreps_in == self.irreps_out

        table = PathTable(irreps_in, l_max, self.gate.irreps_in)
        self.linear_in = Linear(irreps_in, irreps_in, dtype)
        self.convolution = convolution(kernel, table, dtype)
        self.radial_mlp = ScalarMLP(num_radial, table.weight_numel, radial_mlp[0], radial_mlp[1], "silu", dtype)
        self.linear_out = Linear(table.irreps_out, self.gate.irreps_in, dtype)
        self.self_connection = (
            SelfConnection(irreps_in, self.gate.irreps_in, embedding_dim, dtype) if self_connection else None
        )

    def forward(
        self,
        features: Features,
        embedding: Tensor,
        atom_types: Tensor,
        sender_norm: Tensor,
        radial: Tensor,
        harmonics: Tensor,
        centre: Tensor,
        neighbour: Tensor,
    ) -> Features:
        """Update the features of all atoms.

        Args:
            features: Features of ``irreps_in``.
            embedding: Species embedding table, shape (types, embedding_dim).
            atom_types: Type of each atom, shape (atoms,).
            sender_norm: 1/sqrt(average number of neighbours) of each atom's species, shape (atoms, 1, 1) or (1, 1, 1).
            radial: Radial embedding of the edges, shape (edges, num_radial).
            harmonics: Spherical harmonics of the edges, shape (edges, (l_max + 1)^2).
            centre: Receiving atom of each edge, shape (edges,).
            neighbour: Sending atom of each edge, shape (edges,).
        """
        sent = [part * sender_norm for part in self.linear_in(features)]
        messages = self.convolution(sent, harmonics, self.radial_mlp(radial), centre, neighbour)
        update = self.linear_out(messages)
        if self.self_connection is not None:
            update = add(update, self.self_connection(features, embedding, atom_types))
        update = self.gate(update)
        return add(features, update) if self.resnet else update
