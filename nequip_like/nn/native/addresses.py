"""Memory for C: addresses of tensors, and several arrays in one allocation."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_ALIGNMENT = 64  # bytes: a line of the cache, and a register of any processor


def prepare_for_c(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor itself where its numbers lie as C reads them, one after another and of this type; else a copy."""
    if tensor.dtype == dtype and tensor.is_contiguous():
        return tensor
    return tensor.detach().to(dtype).contiguous()


def get_address(tensor: Tensor | None) -> int | None:
    """The address of a tensor, which somebody has to hold; None, which is null in C, for None."""
    return None if tensor is None else tensor.data_ptr()


def list_addresses(tensors: Sequence[Tensor | None]) -> Any:
    """A C array of the addresses of tensors, which somebody has to hold; null for None."""
    return (ctypes.c_void_p * len(tensors))(*[None if tensor is None else tensor.data_ptr() for tensor in tensors])


def allocate_together(sizes: Mapping[str, int], dtype: torch.dtype) -> tuple[Tensor, dict[str, int]]:
    """One tensor that holds several arrays, not cleared, and the address of each; the tensor has to be held.

    Args:
        sizes: Number of elements of each array.
        dtype: Their type.

    Example:
        >>> memory, addresses = allocate_together({"first": 3, "second": 5}, torch.float32)
        >>> addresses["second"] - addresses["first"], len(memory)
        (64, 32)
    """
    elements = _ALIGNMENT // dtype.itemsize
    starts, total = {}, 0
    for name, size in sizes.items():
        starts[name] = total
        total += -(-size // elements) * elements
    memory = torch.empty(total, dtype=dtype)
    address = memory.data_ptr()
    return memory, {name: address + start * dtype.itemsize for name, start in starts.items()}


def view_array(memory: Tensor, address: int, size: int) -> Tensor:
    """One of several arrays in a tensor, shape (size,), by its address.

    Args:
        memory: What :func:`allocate_together` gave.
        address: Where the array begins.
        size: Its number of elements.

    Example:
        >>> memory, addresses = allocate_together({"first": 3, "second": 5}, torch.float32)
        >>> view_array(memory, addresses["second"], 5).fill_(1.0)
        tensor([1., 1., 1., 1., 1.])
        >>> memory[16:21].tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    start = (address - memory.data_ptr()) // memory.itemsize
    return memory[start : start + size]
