"""What ``torch.save`` pickles with: the bytes are torch's, at a third of its Python code for each tensor.

A checkpoint of a small model holds some two hundred tensors of a few kilobytes, so that ``torch.save`` spends half of
its time on asking what kind of tensor each is, and on asking about each number and name whether it is a storage.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import torch
from torch._utils import _rebuild_tensor_v2
from torch.storage import TypedStorage, UntypedStorage

_STORAGES = (TypedStorage, UntypedStorage)
# Quantized and complex numbers, and the latest kinds, torch pickles in other ways.
_DTYPES = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool}


def reduce_tensor(tensor: torch.Tensor) -> Any:
    """What a tensor is pickled as; torch's own answer, without its questions where the tensor is a plain one."""
    plain = (
        tensor.is_cpu
        and tensor.layout is torch.strided
        and tensor.dtype in _DTYPES
        and not tensor.is_neg()
        and not tensor.__dict__
        and tensor._backward_hooks is None
        and torch._C._has_storage(tensor)
    )
    if not plain:
        return tensor.__reduce_ex__(pickle.DEFAULT_PROTOCOL)
    storage = TypedStorage(wrap_storage=tensor.untyped_storage(), dtype=tensor.dtype, _internal=True)
    place = (storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
    return _rebuild_tensor_v2, (*place, tensor.requires_grad, OrderedDict())


class TensorPickler(pickle.Pickler):
    """Pickles plain tensors by :func:`reduce_tensor`; ``torch.save`` derives its own pickler from it."""

    # Of exactly this class: parameters and other derived classes stay torch's business.
    dispatch_table = {torch.Tensor: reduce_tensor}  # noqa: RUF012

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Ask torch only about storages, the only objects that its ``persistent_id`` has an answer for."""
        super().__init_subclass__(**arguments)
        ask_torch = cls.persistent_id

        def persistent_id(self: pickle.Pickler, value: Any) -> Any:
            return ask_torch(self, value) if isinstance(value, _STORAGES) else None

        cls.persistent_id = persistent_id  # type: ignore[method-assign]


# In the shape of the module ``pickle``, as torch.save takes it.
tensor_pickle = SimpleNamespace(__name__="tensor_pickle", Pickler=TensorPickler)
