"""The convolution in one pass over the edges, as Triton kernels made for the model's own paths. For GPUs.

See :mod:`nequip_like.nn.kernels.triton_source` for the code and its derivatives. No edge's message is written to
memory, and nothing waits for the GPU: edges may come in any order, since sorting them gives row pointers on the device.

The kernels were tested in Triton's interpreter on a CPU and compiled for GPUs; they have not run on a GPU yet
(docs/reference/gpu.md).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nequip_like.errors import ModelError
from nequip_like.nn.features import Features
from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.kernels.triton_paths import Tile, groups_of_paths, groups_of_sources
from nequip_like.nn.kernels.triton_source import source_code
from nequip_like.nn.native.cache import use_cache_folder
from nequip_like.whole_files import output_errors, written_whole

# How Triton builds a program: one warp; products and sums in one instruction (its default until version 3.9).
OPTIONS = {"num_warps": 1, "enable_fp_fusion": True}
_LANES = 32


def tile_of(table: PathTable, dtype: torch.dtype) -> Tile:
    """Sizes of a program's work: fewest instructions for an edge without spilled registers (docs/reference/gpu.md)."""
    widest = max((entry.mul for entry in table.features), default=1)
    channels = min(_LANES, 1 << (widest - 1).bit_length())
    single = dtype == torch.float32
    return Tile(channels=channels, edges=4 if single else 2, rows=12 if single else 8)


class TritonConvolution(nn.Module):
    """Same mathematics as :class:`~nequip_like.nn.kernels.reference.ReferenceConvolution`, compiled for the table.

    Triton compiles each function when first needed, and keeps it on the disk.

    Args:
        table: The paths.
        dtype: float32 or float64.

    Raises:
        ModelError: If triton is not installed; when first used, if tensors are not on a GPU.
    """

    def __init__(self, table: PathTable, dtype: torch.dtype) -> None:
        super().__init__()
        self.table = table
        self.tile = tile_of(table, dtype)
        self.received_groups = len(groups_of_paths(table, self.tile))
        self.sent_groups = len(groups_of_sources(table, self.tile))
        self.blocks = max(-(-entry.mul // self.tile.channels) for entry in table.features)
        if importlib.util.find_spec("triton") is None:
            raise ModelError(
                "model.kernel is triton, and the package triton is not installed",
                "install it (pip install triton), or write model.kernel=batched",
            )

    @functools.cached_property
    def functions(self) -> ModuleType:
        """The module with the kernels."""
        return _import_source(source_code(self.table, self.tile))

    def __getstate__(self) -> dict[str, Any]:
        """Without the kernels, which cannot be copied; a copy makes them again."""
        return {name: value for name, value in self.__dict__.items() if name != "functions"}

    def forward(
        self, features: Features, harmonics: Tensor, weights: Tensor, centre: Tensor, neighbour: Tensor
    ) -> Features:
        """Sum the weighted products over the neighbours of each atom; arguments as in the reference."""
        if not harmonics.is_cuda and not _is_interpreted():
            raise ModelError(
                f"model.kernel is triton, which runs on GPUs only, and the model is on {harmonics.device.type}",
                "write model.kernel=auto",
            )
        edges = _Edges(len(features[0]), centre, neighbour)
        return list(_Convolution.apply(self, edges, harmonics, weights, *features))

    @property
    def harmonic_parts(self) -> int:
        """Parts in which gradients of harmonics come out of the kernels."""
        return self.blocks * self.received_groups

    def launch(self, name: str, atoms: int, *arguments: Any) -> None:
        """Run one function on tensors (and the number of edges)."""
        groups = self.sent_groups if name.endswith("neighbour") else self.received_groups
        with torch.cuda.device_of(arguments[0]):
            for group in range(groups if atoms > 0 else 0):
                getattr(self.functions, f"{name}_{group}")[(atoms, self.blocks)](*arguments, **OPTIONS)

    def source_gradients(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Where gradients of features go; sources without paths have none."""
        sources = {path.source for path in self.table.paths}
        return [torch.empty_like(x) if s in sources else torch.zeros_like(x) for s, x in enumerate(features)]


def _is_interpreted() -> bool:
    import triton

    return bool(triton.knobs.runtime.interpret)


def _import_source(source: str) -> ModuleType:
    """Import code from a file: Triton reads the source of its functions."""
    key = hashlib.sha256(source.encode()).hexdigest()[:32]
    file = use_cache_folder(lambda folder: _write_module(folder / f"triton_{key}.py", source.encode()))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ModelError(f"cannot import {file}", "write model.kernel=batched")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write_module(file: Path, content: bytes) -> Path:
    """The file with this content; one that was cut short is written again."""
    with output_errors(file):
        if not file.is_file() or file.read_bytes() != content:
            with written_whole(file) as partial:
                partial.write_bytes(content)
    return file


class _Edges:
    """Edges in the order of their centres and in that of their neighbours."""

    def __init__(self, atoms: int, centre: Tensor, neighbour: Tensor) -> None:
        self.atoms, self.count = atoms, len(centre)
        self.received = _sort_edges(atoms, centre, neighbour)
        self.sent = _sort_edges(atoms, neighbour, centre)


def _sort_edges(atoms: int, near_atoms: Tensor, far_atoms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First edge of each atom, edges sorted by ``near_atoms``, and the atom at the other end of each."""
    ordered, order = torch.sort(near_atoms, stable=True)
    row = torch.searchsorted(ordered, torch.arange(atoms + 1, device=near_atoms.device))
    return row, order, far_atoms[order]


def _make_contiguous(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().contiguous() for tensor in tensors]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernel: TritonConvolution, edges: _Edges, harmonics: Tensor, weights: Tensor, *features: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.kernel, ctx.edges = kernel, edges
        ctx.save_for_backward(harmonics, weights, *features)
        harmonics, weights, *parts = _make_contiguous((harmonics, weights, *features))
        outputs = [parts[0].new_empty(edges.atoms, e.ir.dim, e.mul) for e in kernel.table.irreps_out]
        kernel.launch("forward", edges.atoms, *edges.received, *parts, harmonics, weights, *outputs)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *_Gradients.apply(ctx.kernel, ctx.edges, len(gradients), *ctx.saved_tensors, *gradients))


class _Gradients(torch.autograd.Function):
    """First derivatives: of harmonics, weights and features."""

    @staticmethod
    def forward(ctx: Any, kernel: TritonConvolution, edges: _Edges, kinds: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.kernel, ctx.edges, ctx.kinds = kernel, edges, kinds
        ctx.save_for_backward(*tensors)
        harmonics, weights, *features_and_gradients = _make_contiguous(tensors)
        parts, out_gradients = features_and_gradients[:-kinds], features_and_gradients[-kinds:]
        d_weights, d_parts = torch.empty_like(weights), kernel.source_gradients(parts)
        d_harmonics = harmonics.new_empty(kernel.harmonic_parts, *harmonics.shape)
        inputs = (*parts, harmonics, weights, *out_gradients)
        kernel.launch(
            "first_centre", edges.atoms, *edges.received, *inputs, d_harmonics, d_weights, edges.count
        )  # fmt: skip
        kernel.launch("first_neighbour", edges.atoms, *edges.sent, harmonics, weights, *out_gradients, *d_parts)
        return (d_harmonics.sum(0), d_weights, *d_parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        kernel, edges, kinds = ctx.kernel, ctx.edges, ctx.kinds
        harmonics, weights, *features_and_gradients = _make_contiguous(ctx.saved_tensors)
        parts, out_gradients = features_and_gradients[:-kinds], features_and_gradients[-kinds:]
        v_harmonics, v_weights, *v_parts = _make_contiguous(gradients)
        d_weights, d_parts = torch.empty_like(weights), kernel.source_gradients(parts)
        d_harmonics = harmonics.new_empty(kernel.harmonic_parts, *harmonics.shape)
        d_out_gradients = [torch.empty_like(part) for part in out_gradients]
        inputs = (*parts, harmonics, weights, *out_gradients)
        seconds = (*v_parts, v_harmonics, v_weights)
        kernel.launch(
            "second_centre", edges.atoms, *edges.received, *inputs, *seconds, *d_out_gradients, d_harmonics, d_weights,
            edges.count,
        )  # fmt: skip
        sent = (harmonics, weights, *out_gradients, v_harmonics, v_weights, *d_parts)
        kernel.launch("second_neighbour", edges.atoms, *edges.sent, *sent)
        return (None, None, None, d_harmonics.sum(0), d_weights, *d_parts, *d_out_gradients)
