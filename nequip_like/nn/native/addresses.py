"""Addresses of tensors for C."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from torch import Tensor


def list_addresses(tensors: Sequence[Tensor | None]) -> Any:
    """A C array of the addresses of tensors, which somebody has to hold; null for None."""
    return (ctypes.c_void_p * len(tensors))(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))
