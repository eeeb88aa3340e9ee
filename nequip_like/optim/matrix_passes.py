"""Steps of SOAP and Muon in C for all matrices of a model, each in one call.

Products of a few dozen rows take microseconds: in torch's batches a third of the time is reading and writing of what
lies between them, and LAPACK's QR is made for larger ones.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from nequip_like.nn.native.addresses import list_addresses
from nequip_like.optim.compiled_passes import SUFFIXES, can_be_passed, load_passes, write_units
from nequip_like.optim.matrices import Matrices, count_matrices


class MuonOptions(ctypes.Structure):
    """The structure ``Muon`` of matrix_passes.c, field by field; see :class:`~nequip_like.optim.muon.MuonAndAdamW`."""

    _fields_ = [
        *((name, ctypes.c_double) for name in ("momentum", "nesterov", "a", "b", "c", "least_norm")),
        ("steps", ctypes.c_int64),
    ]


class SoapOptions(ctypes.Structure):
    """The structure ``Soap`` of matrix_passes.c, field by field; see :class:`~nequip_like.optim.soap.SOAPAndAdamW`."""

    _fields_ = [*((name, ctypes.c_double) for name in ("b1", "b2", "epsilon")), ("interval", ctypes.c_int64)]


class _Matrices(ctypes.Structure):
    _fields_ = [
        ("parameters", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("counts", "rows", "columns", "firsts", "weights", "gradients")),
        ("rate", ctypes.c_double),
        ("decay", ctypes.c_double),
    ]


def read_matrix_sources() -> tuple[list[str], dict[str, str]]:
    """Translation units, one for each type of numbers, and the file that they include."""
    return write_units("matrix_passes.c")


@functools.cache
def _load_library() -> ctypes.CDLL | None:
    """The compiled passes, tried once; None if torch has to do it."""
    return load_passes(read_matrix_sources(), "matrices")


class _Layout:
    """Integers of C about parameters of given shapes, and room for each thread to work in.

    Args:
        sizes: Count, rows, columns and number of the first matrix of each parameter.
        dtype: Of the numbers.
        threads: Number of threads.
    """

    def __init__(self, sizes: tuple[tuple[int, int, int, int], ...], dtype: torch.dtype, threads: int) -> None:
        array = ctypes.c_int64 * len(sizes)
        self.integers = [array(*column) for column in zip(*sizes, strict=True)]
        self.longest = max(max(rows, columns) for _, rows, columns, _ in sizes)
        # Four of a matrix' own shape, two squares of its longer side, and two rows.
        self.room = max(
            4 * rows * columns + 2 * max(rows, columns) ** 2 + 2 * max(rows, columns) for _, rows, columns, _ in sizes
        )
        self.work = torch.empty(threads, self.room, dtype=dtype)
        self.orders = torch.empty(threads, self.longest, dtype=torch.int64)


# A model's shapes are the same at each step.
_lay_out = functools.lru_cache(maxsize=64)(_Layout)


@dataclass(frozen=True)
class MatrixPasses:
    """The passes for the matrices of some parameters.

    Attributes:
        library: The compiled passes.
        matrices: The parameters, the longest work first: threads end at the same time then.
        threads: Number of threads.
    """

    library: ctypes.CDLL
    matrices: Sequence[Matrices]
    threads: int

    @classmethod
    def of(cls, matrices: Sequence[Matrices]) -> MatrixPasses | None:
        """The passes for parameters; None if torch has to do it.

        They lie on a GPU, have gaps, or are of another type or of several; or there is no compiler.
        """
        if not can_be_passed(
            [tensor for each in matrices for tensor in (each.weight, each.gradient, *_list_tensors(each))]
        ):
            return None
        library = _load_library()
        if library is None:
            return None
        ordered = sorted(matrices, key=_estimate_work, reverse=True)
        return cls(library, ordered, torch.get_num_threads())

    def step_muon(self, options: MuonOptions, scales: Sequence[float], rate: float, decay: float) -> None:
        """A step of Muon; each parameter's updates are scaled."""
        momenta = self._list_state("momentum_buffer")
        layout = self._lay_out()
        self._call(
            *("step_muon", options, layout, rate, decay),
            *((ctypes.c_double * len(scales))(*scales), momenta, _pointer(layout.work), ctypes.c_int64(layout.room)),
        )

    def step_soap(self, options: SoapOptions, rate: float, decay: float) -> None:
        """A step of SOAP for parameters that have begun."""
        steps = (ctypes.c_int64 * len(self.matrices))(*(each.state["step"] - 1 for each in self.matrices))
        names = ("mean", "square", "left", "left_basis", "right", "right_basis")
        layout = self._lay_out()
        self._call(
            *("step_soap", options, layout, rate, decay, steps, *map(self._list_state, names)),
            *(_pointer(layout.orders), ctypes.c_int64(layout.longest)),
            *(_pointer(layout.work), ctypes.c_int64(layout.room)),
        )

    def _list_state(self, name: str) -> Any:
        return list_addresses([each.state.get(name) for each in self.matrices])

    def _lay_out(self) -> _Layout:
        weights = [each.weight for each in self.matrices]
        sizes = tuple(
            (count_matrices(weight), weight.shape[0], weight.shape[-1], each.first)
            for weight, each in zip(weights, self.matrices, strict=True)
        )
        return _lay_out(sizes, weights[0].dtype, self.threads)

    def _call(
        self, name: str, options: ctypes.Structure, layout: _Layout, rate: float, decay: float, *arguments: Any
    ) -> None:
        weights = [each.weight for each in self.matrices]
        lists = list_addresses(weights), list_addresses([each.gradient for each in self.matrices])
        addresses = map(ctypes.addressof, (*layout.integers, *lists))
        matrices = _Matrices(len(weights), *addresses, rate, decay)
        function = getattr(self.library, f"{name}_{SUFFIXES[weights[0].dtype]}")
        function(ctypes.byref(options), ctypes.byref(matrices), *arguments, ctypes.c_int64(self.threads))
        increment_version([*weights, *(tensor for each in self.matrices for tensor in _list_tensors(each))])


def _list_tensors(matrices: Matrices) -> list[Tensor]:
    return [value for value in matrices.state.values() if isinstance(value, Tensor)]


def _estimate_work(matrices: Matrices) -> int:
    rows, columns = matrices.weight.shape[0], matrices.weight.shape[-1]
    return int(rows * columns * (rows + columns))


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
