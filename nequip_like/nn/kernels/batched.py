"""The convolution with one batched matrix product for each source irrep instead of a loop over paths."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nequip_like.nn.features import Features
from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.scatter import gather_rows, sum_rows


class BatchedConvolution(nn.Module):
    """Same mathematics as :class:`~nequip_like.nn.kernels.reference.ReferenceConvolution`, fewer and larger operations.

    For one source irrep of degree l1 with paths p, the harmonics of an edge and the Clebsch-Gordan coefficients give
    one matrix with rows (p, m_out) and columns m_in, which turns the neighbour's features into the messages of all its
    paths at once. Messages are weighted, summed over the neighbours, and only then cut into paths.
    """

    def __init__(self, table: PathTable, dtype: torch.dtype) -> None:
        super().__init__()
        self.table = table
        self.blocks: list[_Block] = []
        start = 0
        for source, entry in enumerate(table.features):
            paths = [(i, path) for i, path in enumerate(table.paths) if path.source == source]
            if not paths:
                continue
            columns = []
            for _, path in paths:
                # (m_in, m_harmonic, m_out), padded to all harmonics: one product with all of them serves each path.
                padded = torch.zeros(entry.ir.dim, (table.l_max + 1) ** 2, path.kind.dim, dtype=torch.float64)
                padded[:, path.degree**2 : (path.degree + 1) ** 2] = table.coupling(path)
                columns.append(padded)
            joined = torch.cat(columns, dim=2)  # (m_in, harmonics, rows)
            name = f"coupling_{source}"
            self.register_buffer(name, joined.permute(1, 2, 0).flatten(1).to(dtype), persistent=False)
            owner = torch.repeat_interleave(
                torch.arange(len(paths)), torch.tensor([path.kind.dim for _, path in paths])
            )
            self.register_buffer(f"path_of_row_{source}", owner, persistent=False)
            self.blocks.append(
                _Block(source, entry.mul, entry.ir.dim, [i for i, _ in paths], [p.kind.dim for _, p in paths], start)
            )
            start += len(paths) * entry.mul

    def forward(
        self, features: Features, harmonics: Tensor, weights: Tensor, centre: Tensor, neighbour: Tensor
    ) -> Features:
        """Sum the weighted products over the neighbours of each atom; arguments as in the reference."""
        atoms, edges = len(features[0]), len(centre)
        results: dict[int, Tensor] = {}
        for block in self.blocks:
            rows = sum(block.dims)
            stop = block.start + len(block.paths) * block.width
            weight = weights[:, block.start : stop].reshape(edges, len(block.paths), block.width)
            source = gather_rows(features[block.source], neighbour)
            matrices = (harmonics @ getattr(self, f"coupling_{block.source}")).view(edges, rows, block.dim)
            # For a scalar source the matrix has one column: the product is an outer product.
            message = matrices * source if block.dim == 1 else torch.bmm(matrices, source)
            message = message * weight[:, getattr(self, f"path_of_row_{block.source}")]
            summed = sum_rows(message, centre, atoms)
            for index, part in zip(block.paths, summed.split(block.dims, dim=1), strict=True):
                results[index] = part
        return [torch.cat([results[i] for i in indices], dim=-1) for indices in self.table.paths_of_kind.values()]


class _Block:
    """The paths of one source irrep."""

    def __init__(self, source: int, width: int, dim: int, paths: list[int], dims: list[int], start: int) -> None:
        self.source = source
        self.width = width
        self.dim = dim
        self.paths = paths
        self.dims = dims
        self.start = start
