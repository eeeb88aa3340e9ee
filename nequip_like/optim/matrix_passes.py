"""Steps of SOAP and Muon in C for all matrices of a model, each in one call.

Products of a few dozen rows take microseconds: in torch's batches a third of the time is reading and writing of what
lies between them, and LAPACK's QR is made for larger ones. Python around the call takes a tenth as long as the call,
so what does not change between steps is looked up once.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter, is_, itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from nequip_like.nn.native.addresses import list_addresses
from nequip_like.optim.compiled_passes import SUFFIXES, can_be_passed, load_passes, write_units
from nequip_like.optim.matrices import Matrices
from nequip_like.optim.weight_passes import HeldTensors

# Lanes of the longest vector: rows of what is decomposed are padded to whole vectors, and five vectors lie behind.
_LANES = 16
_get_gradient = attrgetter("grad")


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
    """Translation units, one for each type of numbers, and the files that they include."""
    return write_units("matrix_passes.c", "matrix_products.c")


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

    def __init__(self, sizes: Sequence[tuple[int, int, int, int]], dtype: torch.dtype, threads: int) -> None:
        array = ctypes.c_int64 * len(sizes)
        self.integers = [array(*column) for column in zip(*sizes, strict=True)]
        self.longest = max(max(rows, columns) for _, rows, columns, _ in sizes)
        # Four of a matrix' own shape, two padded squares of its longer side and two rows, and what is left of vectors.
        self.room = 2 * (self.longest + 1) * (self.longest + _LANES) + 6 * _LANES
        self.room += 4 * max(rows * columns for _, rows, columns, _ in sizes)
        self.work = torch.empty(threads, self.room, dtype=dtype)
        self.orders = torch.empty(threads, self.longest, dtype=torch.int64)


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
        self._given: list[Matrices] = []
        self.matrices: list[Matrices] = []
        self._weights: list[Tensor] = []
        self._states: list[dict[str, Any]] = []
        self._getters: list[Any] = []  # of each state, what C is given of it
        self._held = HeldTensors()  # the weights, and that
        self._library: ctypes.CDLL | None = None
        self._addresses: list[Any] = []
        self._layout: _Layout | None = None
        self._gradients: list[Tensor] = []

    def take(self, matrices: Sequence[Matrices]) -> bool:
        """Take parameters for a step, and look at what is another than at the step before.

        Returns:
            False if torch has to do it: they lie on a GPU, have gaps, or are of another type or of several; or there is
            no compiler.
        """
        if not self._are_prepared(matrices):
            self._prepare(matrices)
        gradients = list(map(_get_gradient, self._weights))
        if self._library is None or gradients[0].dtype != self._weights[0].dtype or not can_be_passed(gradients):
            return False
        self._gradients = gradients
        return True

    def _are_prepared(self, matrices: Sequence[Matrices]) -> bool:
        """Whether the parameters and what is kept of them are those of the step before, and their numbers there."""
        if len(matrices) != len(self._given) or not all(map(is_, matrices, self._given)):
            return False
        return self._held.are(self._list_tensors())

    def _list_tensors(self) -> list[Tensor]:
        kept = (get(state) for get, state in zip(self._getters, self._states, strict=True))
        return [*self._weights, *chain.from_iterable(kept)]

    def _prepare(self, matrices: Sequence[Matrices]) -> None:
        self._given, self._layout = list(matrices), None
        self.matrices = sorted(matrices, key=_estimate_work, reverse=True)
        self._weights = [each.weight for each in self.matrices]
        self._states = [each.state for each in self.matrices]
        # Of several names at least, which makes it give a tuple: the first one twice.
        kept = [[self._names[0], *filter(state.__contains__, self._names)] for state in self._states]
        self._getters = [itemgetter(*names) for names in kept]
        self._held = HeldTensors(self._list_tensors())
        self._library = _load_library() if can_be_passed(self._held.tensors) else None
        self._addresses = [list_addresses(self._weights)]
        self._addresses += [list_addresses([state.get(name) for state in self._states]) for name in self._names]

    def step_muon(self, options: MuonOptions, scales: Sequence[float], rate: float, decay: float) -> None:
        """A step of Muon; each parameter's updates are scaled."""
        layout = self._lay_out()
        self._call(
            *("step_muon", options, layout, rate, decay, (ctypes.c_double * len(scales))(*scales)),
            *(*self._addresses[1:], _pointer(layout.work), ctypes.c_int64(layout.room)),
        )

    def step_soap(self, options: SoapOptions, rate: float, decay: float) -> None:
        """A step of SOAP for parameters that have begun."""
        steps = (ctypes.c_int64 * len(self._states))(*[state["step"] - 1 for state in self._states])
        layout = self._lay_out()
        self._call(
            *("step_soap", options, layout, rate, decay, steps, *self._addresses[1:]),
            *(_pointer(layout.orders), ctypes.c_int64(layout.longest)),
            *(_pointer(layout.work), ctypes.c_int64(layout.room)),
        )

    def _lay_out(self) -> _Layout:
        threads = torch.get_num_threads()
        if self._layout is None or len(self._layout.work) != threads:
            sizes = [(each.count, each.weight.shape[0], each.weight.shape[-1], each.first) for each in self.matrices]
            self._layout = _Layout(sizes, self._weights[0].dtype, threads)
        return self._layout

    def _call(
        self, name: str, options: ctypes.Structure, layout: _Layout, rate: float, decay: float, *arguments: Any
    ) -> None:
        gradients = list_addresses(self._gradients)
        places = map(ctypes.addressof, (*layout.integers, self._addresses[0], gradients))
        matrices = _Matrices(len(self._weights), *places, rate, decay)
        function = getattr(self._library, f"{name}_{SUFFIXES[layout.work.dtype]}")
        function(ctypes.byref(options), ctypes.byref(matrices), *arguments, ctypes.c_int64(len(layout.work)))
        increment_version(self._weights)  # the rest is no part of any graph
        self._gradients = []  # they are not to live on


def _estimate_work(matrices: Matrices) -> int:
    rows, columns = matrices.weight.shape[0], matrices.weight.shape[-1]
    return int(rows * columns * (rows + columns))


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
