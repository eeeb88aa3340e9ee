"""The convolution by NVIDIA's cuEquivariance, a segmented polynomial made from the model's own paths. For GPUs.

A segment is a run of channels that have one factor in common: one component of one source, the weights of one path, or
one component of what a path gives. In this package's layout, components before channels, segments lie behind each
other in the order in which the library wants them, so that nothing is transposed.

Tested on a CPU with the library's plain implementation; its GPU kernels ("uniform_1d") have not run here
(docs/reference/gpu.md).
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from nequip_like.errors import ModelError
from nequip_like.nn.features import Features
from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.kernels.reference import ReferenceConvolution

_ZERO = 1e-12


class CueConvolution(nn.Module):
    """Same mathematics as :class:`~nequip_like.nn.kernels.reference.ReferenceConvolution`, computed by cuEquivariance.

    On a GPU by the fast kernels of ``cuequivariance-ops-torch``; on a CPU by the plain implementation of
    ``cuequivariance-torch``, which is slow and serves tests.

    Args:
        table: The paths.
        dtype: float32 or float64.

    Raises:
        ModelError: If cuequivariance-torch is not installed; when first used on a GPU, if its kernels are not.
    """

    def __init__(self, table: PathTable, dtype: torch.dtype) -> None:
        super().__init__()
        self.table = table
        self.dtype = dtype
        # Not registered as submodules: their tables are no part of a checkpoint.
        self._products: dict[torch.device, nn.Module] = {}
        _require("cuequivariance_torch", "cuequivariance cuequivariance-torch")

    def __getstate__(self) -> dict[str, Any]:
        """Without what the library built; a copy builds it again."""
        return {**self.__dict__, "_products": {}}

    def forward(
        self, features: Features, harmonics: Tensor, weights: Tensor, centre: Tensor, neighbour: Tensor
    ) -> Features:
        """Sum the weighted products over the neighbours of each atom; arguments as in the reference."""
        if len(centre) == 0:  # the library takes an empty index for none
            return ReferenceConvolution(self.table)(features, harmonics, weights, centre, neighbour)
        atoms = len(features[0])
        product = self._product(harmonics.device)
        flat = torch.cat([part.flatten(1) for part in features], dim=1)
        (summed,) = product(
            [weights, flat, harmonics],
            input_indices={1: neighbour},
            output_indices={0: centre},
            output_shapes={0: weights.new_empty(atoms, 1)},
        )
        parts = summed.split([entry.dim for entry in self.table.irreps_out], dim=1)
        return [
            part.reshape(atoms, entry.ir.dim, entry.mul)
            for part, entry in zip(parts, self.table.irreps_out, strict=True)
        ]

    def _product(self, device: torch.device) -> nn.Module:
        if device not in self._products:
            import cuequivariance_torch

            method = "uniform_1d" if device.type == "cuda" else "naive"
            if method == "uniform_1d":  # without its kernels the library would go on with the slow implementation
                _require("cuequivariance_ops_torch", f"cuequivariance-ops-torch-cu{(torch.version.cuda or '12')[:2]}")
            polynomial = polynomial_of(self.table)
            product = cuequivariance_torch.SegmentedPolynomial(polynomial, method=method, math_dtype=self.dtype)
            self._products[device] = product.to(device)
        return self._products[device]


def _require(module: str, packages: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ModelError(
            f"model.kernel is cuequivariance, and {module} is not installed",
            f"install it (pip install {packages}), or write model.kernel=batched",
        )


def polynomial_of(table: PathTable) -> Any:
    """The convolution of one edge as ``cuequivariance.SegmentedPolynomial`` of weights, features and harmonics.

    All segments have the same number of channels, as the library's GPU kernels want: the largest that divides all
    widths.
    """
    import cuequivariance

    channels = math.gcd(*(entry.mul for entry in table.features))
    product = cuequivariance.SegmentedTensorProduct.from_subscripts("u,u,,u")
    sizes = (table.weight_numel, table.features.dim, None, table.irreps_out.dim)
    for operand, size in enumerate(sizes):
        if size is None:
            product.add_segments(operand, (table.l_max + 1) ** 2 * [()])
        else:
            product.add_segments(operand, size // channels * [(channels,)])
    for weight, source, harmonic, result, value in _monomials(table):
        for start in range(0, weight[1], channels):
            places = ((place + start) // channels for place in (weight[0], source))
            product.add_path(*places, harmonic, (result + start) // channels, c=value)
    operands = product.operands
    return cuequivariance.SegmentedPolynomial(
        operands[:3], operands[3:], [(cuequivariance.Operation([0, 1, 2, 3]), product)]
    )


def _monomials(table: PathTable) -> Iterator[tuple[tuple[int, int], int, int, int, float]]:
    """For each coefficient: the first weight and their number, the places of source, harmonic and result, the value."""
    source_starts, kind_starts = _accumulate_starts(table.features), _accumulate_starts(table.irreps_out)
    for path, placed in zip(table.paths, table.placed(), strict=True):
        coupling = table.coupling(path)
        for i, j, k in (coupling.abs() > _ZERO).nonzero().tolist():
            source = source_starts[placed.source] + i * placed.width
            result = kind_starts[placed.kind] + k * placed.channels + placed.offset
            yield (placed.weight, placed.width), source, placed.degree**2 + j, result, float(coupling[i, j, k])


def _accumulate_starts(irreps: Irreps) -> list[int]:
    return [0, *itertools.accumulate(entry.dim for entry in irreps)]
