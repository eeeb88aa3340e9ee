"""The convolution by its name in a config."""

from __future__ import annotations

import torch
from torch import nn

from nequip_like.nn.kernels.batched import BatchedConvolution
from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.kernels.reference import ReferenceConvolution


def convolution(name: str, table: PathTable, dtype: torch.dtype) -> nn.Module:
    """The kernel of a name: "reference", or "batched", which is also what "auto" and "fused" use off the CPU."""
    return ReferenceConvolution(table) if name == "reference" else BatchedConvolution(table, dtype)
