"""Equivariant features, and the operations that act on each irrep apart: linear maps, gates.

Features of shape ``irreps`` are a list with one tensor ``(atoms, 2l+1, multiplicity)`` for each entry of
``irreps``. Channels are innermost: a linear map is one matrix product, and elementwise work runs over contiguous
memory. (e3nn holds the same numbers as one flat row, multiplicity before 2l+1; ``from_flat``/``to_flat`` translate.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from nequip_like.nn.activations import normalized_activation

Features = list[Tensor]


def from_flat(flat: Tensor, irreps: Irreps) -> Features:
    """Split e3nn's flat layout ``(atoms, irreps.dim)`` into features.

    Example:
        e3nn has the components of one channel side by side; here the channels are innermost:

        >>> flat = torch.tensor([[1.0, 2.0, 10.0, 11.0, 12.0, 20.0, 21.0, 22.0]])
        >>> [part.tolist() for part in from_flat(flat, Irreps("2x0e + 2x1o"))]
        [[[[1.0, 2.0]]], [[[10.0, 20.0], [11.0, 21.0], [12.0, 22.0]]]]
    """
    parts = torch.split(flat, [entry.dim for entry in irreps], dim=-1)
    return [
        part.reshape(len(flat), entry.mul, entry.ir.dim).transpose(1, 2)
        for part, entry in zip(parts, irreps, strict=True)
    ]


def to_flat(features: Features) -> Tensor:
    """Join features into e3nn's flat layout ``(atoms, irreps.dim)``."""
    return torch.cat([part.transpose(1, 2).flatten(1) for part in features], dim=-1)


class _PerKindMap(nn.Module):
    """One block of weights for each output irrep that the input has, too.

    Args:
        irreps_in: Input irreps; each kind at most once.
        irreps_out: Output irreps; each kind at most once. A kind that the input lacks comes out as zeros.
        between: Dimensions of a block between its input and output channels.
        dtype: Element type of the weights.

    Attributes:
        holds_stacks: That each weight is a stack of matrices from its first dimension to its last, for optimizers that
            act on matrices.
    """

    holds_stacks = True

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, between: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        kinds = [entry.ir for entry in irreps_in]
        self.sources = [kinds.index(entry.ir) if entry.ir in kinds else None for entry in irreps_out]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(irreps_in[source].mul, *between, entry.mul, dtype=dtype))
            for source, entry in zip(self.sources, irreps_out, strict=True)
            if source is not None
        )

    def _map(self, features: Features, apply: Callable[[Tensor, Tensor], Tensor]) -> Features:
        """Apply ``apply(part, block)`` for each output irrep; the block is scaled by its fan-in."""
        weights = iter(self.weights)
        outputs = []
        for source, entry in zip(self.sources, self.irreps_out, strict=True):
            if source is None:
                outputs.append(features[0].new_zeros(len(features[0]), entry.ir.dim, entry.mul))
                continue
            weight = next(weights)
            fan_in = math.prod(weight.shape[:-1])
            outputs.append(apply(features[source], weight / math.sqrt(fan_in)))
        return outputs


class Linear(_PerKindMap):
    """Equivariant linear map: each output irrep mixes the channels of the input irrep of the same kind.

    Weights are drawn from a unit normal and divided by the square root of the fan-in when applied, as in e3nn
    (``path_normalization="element"``), so that parameters mean the same in both.

    Args:
        irreps_in: Input irreps; each kind at most once.
        irreps_out: Output irreps; each kind at most once. A kind that the input lacks comes out as zeros.
        dtype: Element type of the weights.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, dtype: torch.dtype) -> None:
        super().__init__(irreps_in, irreps_out, (), dtype)

    def forward(self, features: Features) -> Features:
        """Map features of ``irreps_in`` to features of ``irreps_out``."""
        return self._map(features, torch.matmul)


class SelfConnection(_PerKindMap):
    """Linear map whose matrix depends on the species: the self-connection of NequIP.

    NequIP writes it as the tensor product of features with the species embedding ``a`` (Batzner et al. 2022, Methods).
    Contracting embedding and weights first gives one small matrix for each species, and no outer product over atoms.

    Args:
        irreps_in: Input irreps; each kind at most once.
        irreps_out: Output irreps; each kind at most once.
        embedding_dim: Width of the species embedding.
        dtype: Element type of the weights.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, embedding_dim: int, dtype: torch.dtype) -> None:
        super().__init__(irreps_in, irreps_out, (embedding_dim,), dtype)

    def forward(self, features: Features, embedding: Tensor, atom_types: Tensor) -> Features:
        """Apply to each atom the matrix of its species.

        Args:
            features: Features of ``irreps_in``.
            embedding: Species embedding table, shape (types, embedding_dim).
            atom_types: Type of each atom, shape (atoms,).
        """

        def apply(part: Tensor, weight: Tensor) -> Tensor:
            return _apply_per_type(part, torch.einsum("ta,uaw->tuw", embedding, weight), atom_types)

        return self._map(features, apply)


def _apply_per_type(features: Tensor, matrices: Tensor, atom_types: Tensor) -> Tensor:
    """Multiply (atoms, m, u) by the matrix (types, u, w) of each atom's type; gives (atoms, m, w)."""
    types, width_in, width_out = matrices.shape
    if types == 1:
        return features @ matrices[0]
    # All species' products at once, then a pick: for few species this is one matrix product and no gather of matrices.
    products = features @ matrices.permute(1, 0, 2).reshape(width_in, types * width_out)
    products = products.reshape(*features.shape[:2], types, width_out)
    pick = atom_types.view(-1, 1, 1, 1).expand(-1, features.shape[1], 1, width_out)
    return products.gather(2, pick).squeeze(2)


class Gate(nn.Module):
    """Nonlinearity that keeps equivariance: scalars pass an activation, other irreps are multiplied by gate scalars.

    The activations are scaled to unit second moment over a unit normal, as in e3nn. The input holds, for each kind,
    the irreps of scalars, gates and gated features merged (``irreps_in``).

    Args:
        scalars: Scalars that pass through their activation.
        gated: Irreps with l > 0, each multiplied by one gate scalar a channel.
        gate: Kind of the gate scalars, even or odd.
        activations: Name of the activation of even ("e") and odd ("o") scalars and gates.
    """

    def __init__(
        self,
        scalars: Irreps,
        gated: Irreps,
        gate: Irrep,
        scalar_activations: dict[str, str],
        gate_activations: dict[str, str],
    ) -> None:
        super().__init__()
        gates = Irreps([(entry.mul, gate) for entry in gated])
        merged = (scalars + gates + gated).sort().irreps.simplify()
        self.irreps_in = merged
        self.irreps_out = (scalars + gated).simplify()
        self.scalar_kinds = [_index(merged, entry.ir) for entry in scalars]
        self.scalar_widths = [entry.mul for entry in scalars]
        self.scalar_names = [scalar_activations["eo"[entry.ir.p < 0]] for entry in scalars]
        self.scalar_functions = [normalized_activation(name) for name in self.scalar_names]
        self.gated_kinds = [_index(merged, entry.ir) for entry in gated]
        self.gated_widths = [entry.mul for entry in gated]
        if gated:
            kind = gates[0].ir
            self.gate_kind = _index(merged, kind)
            self.gate_start = sum(entry.mul for entry in scalars if entry.ir == kind)
            self.gate_name = gate_activations["eo"[kind.p < 0]]
            self.gate_function = normalized_activation(self.gate_name)

    def forward(self, features: Features) -> Features:
        """Map features of ``irreps_in`` to features of ``irreps_out``."""
        outputs = [
            function(features[kind][..., :width])
            for kind, width, function in zip(self.scalar_kinds, self.scalar_widths, self.scalar_functions, strict=True)
        ]
        if not self.gated_kinds:
            return outputs
        gates = self.gate_function(features[self.gate_kind][..., self.gate_start :])
        for kind, gate in zip(self.gated_kinds, gates.split(self.gated_widths, dim=-1), strict=True):
            outputs.append(features[kind] * gate)
        return outputs


def _index(irreps: Irreps, kind: Irrep) -> int:
    return [entry.ir for entry in irreps].index(kind)


def path_exists(irreps_in1: Irreps, irreps_in2: Irreps, kind: Irrep) -> bool:
    """Whether some product of an irrep of ``irreps_in1`` with one of ``irreps_in2`` contains ``kind``.

    Example:
        Two polar vectors make a scalar, an axial vector and a tensor, and no polar vector:

        >>> vector = Irreps("1o")
        >>> [path_exists(vector, vector, Irrep(kind)) for kind in ("0e", "1e", "2e", "1o")]
        [True, True, True, False]
    """
    return any(kind in entry_1.ir * entry_2.ir for entry_1 in irreps_in1 for entry_2 in irreps_in2)


def add(features: Features, update: Sequence[Tensor]) -> Features:
    """Sum of two lists of features of the same irreps."""
    return [part + change for part, change in zip(features, update, strict=True)]
