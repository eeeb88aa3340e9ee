"""The convolution in one pass over the edges, in C made for the model's own paths. For CPUs.

No message of an edge is ever written to memory: the batched form spends most of its time on that. See
:mod:`nequip_like.nn.kernels.c_source` for the code and its derivatives.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nequip_like.errors import ModelError
from nequip_like.nn.features import Features
from nequip_like.nn.kernels.c_source import source_code
from nequip_like.nn.kernels.compiler import compiled
from nequip_like.nn.kernels.paths import PathTable


class FusedConvolution(nn.Module):
    """Same mathematics as :class:`~nequip_like.nn.kernels.reference.ReferenceConvolution`, compiled for the table.

    The library is compiled when first needed, and kept on the disk.

    Args:
        table: The paths.
        dtype: float32 or float64.

    Raises:
        ModelError: When first used, if there is no C compiler, or tensors are not on the CPU.
    """

    def __init__(self, table: PathTable, dtype: torch.dtype) -> None:
        super().__init__()
        self.table = table
        self.dtype = dtype
        self._library: ctypes.CDLL | None = None

    def library(self) -> ctypes.CDLL:
        """The compiled functions."""
        if self._library is None:
            self._library = compiled(source_code(self.table), self.dtype)
        return self._library

    def __getstate__(self) -> dict[str, Any]:
        """Without the library, which cannot be copied; a copy loads it again."""
        return {**self.__dict__, "_library": None}

    def forward(
        self, features: Features, harmonics: Tensor, weights: Tensor, centre: Tensor, neighbour: Tensor
    ) -> Features:
        """Sum the weighted products over the neighbours of each atom; arguments as in the reference."""
        if harmonics.device.type != "cpu":
            raise ModelError("model.kernel is fused, which runs on CPUs only", "write model.kernel=batched")
        if not bool((centre[1:] >= centre[:-1]).all()):
            order = torch.argsort(centre, stable=True)
            harmonics, weights, centre, neighbour = (part[order] for part in (harmonics, weights, centre, neighbour))
        edges = _Edges(len(features[0]), centre, neighbour)
        return list(_Convolution.apply(self, edges, harmonics, weights, *features))


class _Edges:
    """Edges sorted by centre, and the order that sorts them by neighbour."""

    def __init__(self, atoms: int, centre: Tensor, neighbour: Tensor) -> None:
        self.atoms = atoms
        self.centre, self.neighbour = centre.contiguous(), neighbour.contiguous()
        self.row = _first_of_each(self.centre, atoms)
        self.order = torch.argsort(self.neighbour, stable=True)
        self.centre_of_sent = self.centre[self.order]
        self.row_of_sent = _first_of_each(self.neighbour[self.order], atoms)

    @property
    def received(self) -> list[Tensor]:
        return [self.row, self.neighbour]

    @property
    def sent(self) -> list[Tensor]:
        return [self.row_of_sent, self.order, self.centre_of_sent]


def _first_of_each(sorted_index: Tensor, atoms: int) -> Tensor:
    return torch.searchsorted(sorted_index, torch.arange(atoms + 1))


def _call(function: Any, edges: _Edges, *tensors: Tensor) -> None:
    function(ctypes.c_int64(edges.atoms), *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors))


def _contiguous(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().contiguous() for tensor in tensors]


def _like(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [torch.empty_like(tensor) for tensor in tensors]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernel: FusedConvolution, edges: _Edges, harmonics: Tensor, weights: Tensor, *features: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.kernel, ctx.edges = kernel, edges
        ctx.save_for_backward(harmonics, weights, *features)
        harmonics, weights, *parts = _contiguous((harmonics, weights, *features))
        outputs = [parts[0].new_empty(edges.atoms, e.ir.dim, e.mul) for e in kernel.table.irreps_out]
        _call(kernel.library().forward, edges, *edges.received, *parts, harmonics, weights, *outputs)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *_Gradients.apply(ctx.kernel, ctx.edges, len(gradients), *ctx.saved_tensors, *gradients))


class _Gradients(torch.autograd.Function):
    """First derivatives: of harmonics, weights and features."""

    @staticmethod
    def forward(ctx: Any, kernel: FusedConvolution, edges: _Edges, kinds: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.kernel, ctx.edges, ctx.kinds = kernel, edges, kinds
        ctx.save_for_backward(*tensors)
        harmonics, weights, *rest = _contiguous(tensors)
        parts, given = rest[:-kinds], rest[-kinds:]
        d_harmonics, d_weights, *d_parts = _like((harmonics, weights, *parts))
        library = kernel.library()
        _call(library.first_centre, edges, *edges.received, *parts, harmonics, weights, *given, d_harmonics, d_weights)
        _call(library.first_neighbour, edges, *edges.sent, harmonics, weights, *given, *d_parts)
        return (d_harmonics, d_weights, *d_parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        kernel, edges, kinds = ctx.kernel, ctx.edges, ctx.kinds
        harmonics, weights, *rest = _contiguous(ctx.saved_tensors)
        parts, given = rest[:-kinds], rest[-kinds:]
        v_harmonics, v_weights, *v_parts = _contiguous(gradients)
        d_harmonics, d_weights, *d_parts = _like((harmonics, weights, *parts))
        d_given = _like(given)
        inputs = (*parts, harmonics, weights, *given)
        seconds = (*v_parts, v_harmonics, v_weights)
        library = kernel.library()
        _call(library.second_centre, edges, *edges.received, *inputs, *seconds, *d_given, d_harmonics, d_weights)
        _call(
            library.second_neighbour, edges, *edges.sent, harmonics, weights, *given, v_harmonics, v_weights, *d_parts
        )
        return (None, None, None, d_harmonics, d_weights, *d_parts, *d_given)
