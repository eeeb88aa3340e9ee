"""Steps of SOAP and Muon in C for all matrices of a model, each in one call.

Products of a few dozen rows take microseconds: in torch's batches a third of the time is reading and writing of what
lies between them, and LAPACK's QR is made for larger ones.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from nequip_like.nn.native.addresses import list_addresses
from nequip_like.optim.compiled_passes import SUFFIXES, can_be_passed, load_passes, write_units
from nequip_like.optim.matrices import Matrices
from nequip_like.optim.weight_passes import HeldTensors


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


class MatrixPasses:
    """The passes for the matrices of some parameters, step after step.

    Args:
        *names: What the optimizer keeps of a parameter, in the order in which C takes it; a parameter may lack some.

    Attributes:
        matrices: The parameters of a step that is to be taken, the longest work first: threads end at the same time
            then.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._held = HeldTensors()
        self._firsts: list[int] = []
        self._order: list[int] = []
        self._library: ctypes.CDLL | None = None
        self._addresses: list[Any] = []
        self._sizes: tuple[tuple[int, int, int, int], ...] = ()
        self.matrices: list[Matrices] = []

    def take(self, matrices: Sequence[Matrices]) -> bool:
        """Take parameters for a step, and look at what is another than at the step before.

        Returns:
            False if torch has to do it: they lie on a GPU, have gaps, or are of another type or of several; or there is
            no compiler.
        """
        weights = [each.weight for each in matrices]
        kept = [[each.state.get(name) for each in matrices] for name in self._names]
        firsts = [each.first for each in matrices]
        if firsts != self._firsts or not self._held.are(weights, *kept):
            self._held, self._firsts = HeldTensors(weights, *kept), firsts
            self._prepare(matrices)
        ordered = [matrices[i] for i in self._order]
        gradients = [each.gradient for each in ordered]
        if self._library is None or gradients[0].dtype != weights[0].dtype or not can_be_passed(gradients):
            return False
        self.matrices = ordered
        return True

    def _prepare(self, matrices: Sequence[Matrices]) -> None:
        self._library = _load_library() if can_be_passed(self._held.tensors) else None
        self._order = sorted(range(len(matrices)), key=lambda i: _estimate_work(matrices[i]), reverse=True)
        self._addresses = [list_addresses([each[i] for i in self._order]) for each in self._held.lists]
        ordered = [matrices[i] for i in self._order]
        self._sizes = tuple((each.count, each.weight.shape[0], each.weight.shape[-1], each.first) for each in ordered)

    def step_muon(self, options: MuonOptions, scales: Sequence[float], rate: float, decay: float) -> None:
        """A step of Muon; each parameter's updates are scaled."""
        layout = self._lay_out()
        self._call(
            *("step_muon", options, layout, rate, decay, (ctypes.c_double * len(scales))(*scales)),
            *(*self._addresses[1:], _pointer(layout.work), ctypes.c_int64(layout.room)),
        )

    def step_soap(self, options: SoapOptions, rate: float, decay: float) -> None:
        """A step of SOAP for parameters that have begun."""
        steps = (ctypes.c_int64 * len(self.matrices))(*(each.state["step"] - 1 for each in self.matrices))
        layout = self._lay_out()
        self._call(
            *("step_soap", options, layout, rate, decay, steps, *self._addresses[1:]),
            *(_pointer(layout.orders), ctypes.c_int64(layout.longest)),
            *(_pointer(layout.work), ctypes.c_int64(layout.room)),
        )

    def _lay_out(self) -> _Layout:
        return _lay_out(self._sizes, self.matrices[0].weight.dtype, torch.get_num_threads())

    def _call(
        self, name: str, options: ctypes.Structure, layout: _Layout, rate: float, decay: float, *arguments: Any
    ) -> None:
        gradients = list_addresses([each.gradient for each in self.matrices])
        places = map(ctypes.addressof, (*layout.integers, self._addresses[0], gradients))
        matrices = _Matrices(len(self.matrices), *places, rate, decay)
        function = getattr(self._library, f"{name}_{SUFFIXES[layout.work.dtype]}")
        function(ctypes.byref(options), ctypes.byref(matrices), *arguments, ctypes.c_int64(len(layout.work)))
        increment_version([each.weight for each in self.matrices])  # the rest is no part of any graph
        self.matrices = []  # gradients are not to live on


def _estimate_work(matrices: Matrices) -> int:
    rows, columns = matrices.weight.shape[0], matrices.weight.shape[-1]
    return int(rows * columns * (rows + columns))


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
