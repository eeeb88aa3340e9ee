"""The equivariant convolution: one interface, several implementations that agree with each other."""

from __future__ import annotations

import torch
from torch import nn

from nequip_like.nn.kernels.batched import BatchedConvolution
from nequip_like.nn.kernels.cue import CueConvolution
from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.kernels.reference import ReferenceConvolution
from nequip_like.nn.kernels.triton_convolution import TritonConvolution


def convolution(name: str, table: PathTable, dtype: torch.dtype) -> nn.Module:
    """The kernel of a name.

    Args:
        name: "reference", "triton", "cuequivariance" or "batched"; "auto" and "fused", which are about the whole
            network, have "batched" beside it.
        table: The paths.
        dtype: float32 or float64.

    Raises:
        ModelError: If a package that the kernel needs is not installed.
    """
    if name == "reference":
        return ReferenceConvolution(table)
    if name == "triton":
        return TritonConvolution(table, dtype)
    return CueConvolution(table, dtype) if name == "cuequivariance" else BatchedConvolution(table, dtype)
