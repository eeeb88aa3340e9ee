"""The convolution by its name in a config."""

from __future__ import annotations

import torch
from torch import nn

from nequip_like.nn.kernels.batched import BatchedConvolution
from nequip_like.nn.kernels.fused import FusedConvolution
from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.kernels.reference import ReferenceConvolution


def convolution(name: str, table: PathTable, dtype: torch.dtype) -> nn.Module:
    """The kernel of a name: "batched", "fused" or "reference"."""
    if name == "reference":
        return ReferenceConvolution(table)
    return FusedConvolution(table, dtype) if name == "fused" else BatchedConvolution(table, dtype)
