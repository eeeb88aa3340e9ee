"""Pickles of which only the data are taken: numbers, text, containers, arrays of numpy, tensors of torch.

Python's ``pickle`` calls whatever a pickle names. Here it can name a handful of things, and for each there is a
function in this file that makes an array out of bytes and checks that the numbers are there. Objects of the two classes
that atomistic LMDB files hold become bags of their attributes; the classes themselves are never imported.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np

from nequip_like.errors import DataError


class AttributeBag:
    """An object of a class that is not imported: its attributes, as the pickle has them."""

    def __new__(cls, *arguments: Any) -> AttributeBag:
        """Take what the class was made with, and forget it."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("an object has no attributes")
        self.__dict__.update(state)


def load_plain(content: bytes, origin: str) -> Any:
    """Unpickle plain data.

    Args:
        content: The pickle.
        origin: Where it stands, for messages.

    Returns:
        Containers, numbers, text, tensors of torch as arrays, arrays of numpy for :func:`resolve_array`, and
        :class:`AttributeBag`.

    Raises:
        DataError: If the pickle is damaged, or names anything but plain data; the message has the name.

    Example:
        >>> content = load_plain(pickle.dumps({"energy": -1.5, "cell": np.eye(2)}), "a.lmdb entry 0")
        >>> content["energy"], resolve_array(content["cell"]).tolist()
        (-1.5, [[1.0, 0.0], [0.0, 1.0]])
        >>> load_plain(pickle.dumps(print), "a.lmdb entry 0")
        Traceback (most recent call last):
        ...
        nequip_like.errors.DataError: a.lmdb entry 0 names 'builtins.print', which is no data
          -> it could be any code: write the structures as extended XYZ where the file can be trusted
    """
    try:
        return _Unpickler(io.BytesIO(content)).load()
    except DataError as error:
        raise DataError(f"{origin} {error.message}", error.advice) from error
    except Exception as error:  # of a damaged pickle: anything, from IndexError to UnicodeDecodeError
        raise DataError(f"{origin} is damaged: {type(error).__name__}", "write the file again") from error


class _Unpickler(pickle._Unpickler):
    """Python's own form, which is written in Python: that in C makes room for whatever number stands in the pickle."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def persistent_load(self, identifier: Any) -> Any:
        """Kind and key of the numbers of a storage, which follow upon the pickle."""
        _, kind, key, *_ = identifier
        return kind, key

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _BAGS:
            # A class of its own, as a pickle may change what it names.
            return type(name, (AttributeBag,), {})
        try:
            found = _NAMES[module, name]
        except KeyError:
            raise DataError(
                f"names '{module}.{name}', which is no data",
                "it could be any code: write the structures as extended XYZ where the file can be trusted",
            ) from None
        return partial(found) if isinstance(found, type(load_plain)) else found

    def _load_bytearray(self: Any) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    dispatch[pickle.BYTEARRAY8[0]] = _load_bytearray


class _DeclaredType:
    """A type of numpy in the making: numpy's own could be made to take bytes for addresses."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def resolve(self) -> np.dtype:
        if not re.fullmatch(r"[biuf]\d+|[SU]\d+", self.code) or self.order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError("an array is not made of numbers or text")
        return np.dtype(self.order + self.code)


class _DeclaredArray:
    """An array of numpy in the making; :func:`resolve_array` gives it."""

    array: np.ndarray | list[Any]

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, is_fortran, content = state
        # One of objects comes with a list of them, as which it stays.
        is_list = isinstance(content, list)
        self.array = content if is_list else _build_array(content, kind, shape, "F" if is_fortran else "C")


def resolve_array(value: Any) -> Any:
    """A value of a pickle, an array where it was one of numpy; tensors of torch are arrays already."""
    if isinstance(value, _DeclaredArray):
        return value.array
    return value


def _build_type(code: str, *_: Any) -> _DeclaredType:
    return _DeclaredType(code)


def _build_empty(*_: Any) -> _DeclaredArray:
    return _DeclaredArray()


def _build_array(content: Any, kind: _DeclaredType, shape: Any, order: str = "C") -> np.ndarray:
    return np.frombuffer(content, kind.resolve()).reshape(shape, order="F" if order == "F" else "C").copy()


def _build_scalar(kind: _DeclaredType, content: Any) -> Any:
    return _build_array(content, kind, ())[()]


def _build_storage(content: bytes) -> np.ndarray:
    """The numbers of a storage of torch: five pickles, and then their count and bytes.

    It is what ``torch.save`` writes with ``_use_new_zipfile_serialization=False``; ``torch.load``, which a tensor's own
    pickle calls, would run what these pickles name.
    """
    stream = io.BytesIO(content)
    magic, _, _, (kind, key), keys = (_Unpickler(stream).load() for _ in range(5))
    dtype = np.dtype(_STORAGES[kind])
    (count,) = struct.unpack("<q", stream.read(8))
    if magic != _MAGIC or keys != [key] or count < 0:
        raise pickle.UnpicklingError("a tensor is damaged")
    numbers = np.frombuffer(stream.read(), dtype)
    if len(numbers) != count:
        raise pickle.UnpicklingError("a tensor has not as many elements as it says")
    return numbers


def _build_tensor(storage: np.ndarray, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
    width = storage.itemsize
    if math.prod(size) * width > _LARGEST_TENSOR:  # one number may be repeated by a stride of zero
        raise pickle.UnpicklingError("a tensor is too large")
    # numpy refuses what lies outside of the storage.
    strides = tuple(width * step for step in stride)
    return np.ndarray(tuple(size), storage.dtype, storage.data, offset * width, strides).copy()


_LARGEST_TENSOR = 1 << 30  # bytes
_MAGIC = 0x1950A86A20F9469CFC6C  # of files of torch
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUFFER_MODULES = ("numpy.core.numeric", "numpy._core.numeric")
_NAMES: dict[tuple[str, str], Callable[..., Any] | str] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _build_type,
    ("numpy", "ndarray"): "ndarray",  # only ever an argument of what makes an empty one
    **{(module, "_reconstruct"): _build_empty for module in _ARRAY_MODULES},
    **{(module, "scalar"): _build_scalar for module in _ARRAY_MODULES},
    **{(module, "_frombuffer"): _build_array for module in _BUFFER_MODULES},
    ("torch._utils", "_rebuild_tensor_v2"): _build_tensor,
    ("torch.storage", "_load_from_bytes"): _build_storage,
    **{("torch", kind): kind for kind in _STORAGES},
    # Classes that PyTorch Geometric's objects name, and that no attribute which is read is of.
    ("torch_geometric.data.data", "DataEdgeAttr"): "DataEdgeAttr",
    ("torch_geometric.data.data", "DataTensorAttr"): "DataTensorAttr",
}
_BAGS = {("torch_geometric.data.data", "Data"), ("torch_geometric.data.storage", "GlobalStorage")}
