"""Errors of all terms of a loss, their sums and their gradients: one call of C for each.

Of a batch of small molecules NumPy, too, needs longer to find its functions than to compute, some fifteen a term.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.nn.native.compiler import compile_or_warn

SQUARE, ABSOLUTE, HUBER, SMOOTH_L1 = range(4)  # kinds of errors, as in errors.c
_FILE = "errors.c"
# O3 makes vectors of loops whose length is known at run time only.
_UNIT = f'#pragma GCC optimize("O3")\n#include "{_FILE}"\n'
_RESULTS = 3  # of a term: sum, number of labels, number of those that are missing


class ErrorTerm(NamedTuple):
    """What C has to know of a term.

    Attributes:
        field: The field that is compared.
        kind: Kind of errors.
        limit: Where a parabola goes over into a line; of the kinds that have one.
        per_atom: Whether values are divided by the number of atoms of their graph.
        skips_nan: Whether a label that is NaN is left out.
    """

    field: str
    kind: int
    limit: float
    per_atom: bool
    skips_nan: bool


class _Term(ctypes.Structure):
    """The structure ``Term`` of errors.c, field by field."""

    _fields_ = [
        ("kind", ctypes.c_int64),
        ("limit", ctypes.c_double),
        ("per_atom", ctypes.c_int64),
        ("skips_nan", ctypes.c_int64),
    ]


def read_error_sources() -> tuple[list[str], dict[str, str]]:
    """The translation unit, and the file that it includes."""
    return [_UNIT], {_FILE: files(__package__).joinpath(_FILE).read_text(encoding="utf-8")}


@functools.cache
def _load_library() -> ctypes.CDLL | None:
    """The compiled functions, tried once; None if they cannot be had, which is said unless there is no compiler."""
    return compile_or_warn(*read_error_sources(), otherwise="errors are summed by NumPy, which is slower")


class ErrorPasses:
    """The functions of C for some terms.

    Args:
        library: The compiled functions.
        terms: The terms.
    """

    def __init__(self, library: ctypes.CDLL, terms: Sequence[ErrorTerm]) -> None:
        self.measure, self.differentiate = library.measure_errors, library.differentiate_errors
        self.terms = [(term.field, term.per_atom) for term in terms]
        self.count = ctypes.c_int64(len(terms))
        self.settings = (_Term * len(terms))(*(_Term(*term[1:]) for term in terms))
        self.batch_type = ctypes.c_int64 * (len(terms) * 7)
        self.total_type = ctypes.c_double * (len(terms) * _RESULTS)
        self.factor_type, self.gradient_type = ctypes.c_double * len(terms), ctypes.c_void_p * len(terms)


# The terms of a loss are the same at each step.
_prepare = functools.lru_cache(maxsize=64)(ErrorPasses)


# Prediction and label of a term, and numbers of atoms of both where values are divided by them.
Compared = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def _list_compared(terms: Sequence[tuple[str, bool]], prediction: Graph, target: Graph) -> list[Compared] | None:
    """What is compared by each term; None if C cannot read some of it."""
    compared: list[Compared] = []
    for field, per_atom in terms:
        predicted, label = prediction[field], target[field]
        if not (type(predicted) is type(label) is Tensor and predicted.is_contiguous() and label.is_contiguous()):
            return None
        if predicted.dim() == 0 or label.requires_grad:
            return None
        of_predicted, of_label = (prediction[fields.NUM_ATOMS], target[fields.NUM_ATOMS]) if per_atom else (None, None)
        for atoms in (of_label,) if of_predicted is of_label else (of_label, of_predicted):
            if atoms is not None and not _are_rows(atoms, predicted.shape[0]):
                return None
        compared.append((predicted, label, of_predicted, of_label))
    return compared


def _are_rows(atoms: Tensor, rows: int) -> bool:
    return atoms.dtype == torch.int64 and atoms.is_cpu and atoms.is_contiguous() and atoms.numel() == rows


class CompiledErrors:
    """The errors of some terms in one batch.

    Args:
        passes: The functions of C for these terms.
        compared: Of each term prediction and label, float64, on the CPU, without gaps, of equal shape (rows, ...), and
            numbers of atoms, shape (rows,).

    Attributes:
        sums: Sum of the errors of each term.
        counts: Number of labels of each term.
    """

    def __init__(self, passes: ErrorPasses, compared: Sequence[Compared]) -> None:
        self._passes, self._compared = passes, compared  # C has the addresses of these tensors
        sizes = [predicted.numel() for predicted, *_ in compared]
        self._differences = torch.empty(sum(sizes), dtype=torch.float64)
        address = self._differences.data_ptr()
        numbers: list[int] = []  # the structures `Batch` of errors.c, one after another
        for (predicted, label, of_predicted, of_label), size in zip(compared, sizes, strict=True):
            rows, atoms = predicted.shape[0], (0, 0)
            if of_predicted is not None and of_label is not None:
                atoms = of_predicted.data_ptr(), of_label.data_ptr()
            numbers += predicted.data_ptr(), label.data_ptr(), *atoms, address, rows, size // rows if rows else 0
            address += size * self._differences.itemsize
        self._batch, self._totals = passes.batch_type(*numbers), passes.total_type()
        passes.measure(passes.count, passes.settings, self._batch, self._totals)
        self.sums: list[float] = self._totals[::_RESULTS]
        self.counts: list[float] = self._totals[1::_RESULTS]

    @classmethod
    def of(cls, terms: tuple[ErrorTerm, ...], prediction: Graph, target: Graph) -> CompiledErrors | None:
        """The errors of a batch; None if there is no compiler, or if there is something in it that C cannot read."""
        library = _load_library()
        if library is None:
            return None
        passes = _prepare(library, terms)
        compared = _list_compared(passes.terms, prediction, target)
        return None if compared is None else cls(passes, compared)

    def differentiate(self, factors: Sequence[float | None]) -> list[Tensor | None]:
        """Gradients with respect to the predictions of each term, from those with respect to its sum.

        Args:
            factors: The latter; None for a term that is not asked for.
        """
        passes = self._passes
        gradients = [
            None if factor is None else torch.empty_like(predicted)
            for factor, (predicted, *_) in zip(factors, self._compared, strict=True)
        ]
        of_sums = passes.factor_type(*[factor or 0.0 for factor in factors])
        places = passes.gradient_type(*[None if gradient is None else gradient.data_ptr() for gradient in gradients])
        passes.differentiate(passes.count, passes.settings, self._batch, self._totals, of_sums, places)
        return gradients
