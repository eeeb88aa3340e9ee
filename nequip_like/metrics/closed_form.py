"""Sums of the usual errors on a CPU, with the gradient of their means in closed form: one node of autograd's graph.

Of a batch of small molecules, torch needs longer to find its functions than to compute, forwards and once more in
autograd. Here the same sums are made by one call of C, or with NumPy, whose functions are found sooner, and nothing is
recorded. What is made of the sums (processes, epochs, means, coefficients) is the manager's, here as elsewhere; the
values get their gradient when they are there.

Only the usual is done here: means of the metrics that are listed, of fields as they are or per atom, without weights.
A class derived from one of these may have other errors and is not meant. Everything else is done by
:mod:`nequip_like.metrics.masked`, whose results these are to rounding; it also says what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.loader import is_without_frame
from nequip_like.metrics.accumulator import Totals
from nequip_like.metrics.compiled.errors import ABSOLUTE, HUBER, SMOOTH_L1, SQUARE, CompiledErrors, ErrorTerm
from nequip_like.metrics.elementwise import HuberLoss, MeanAbsoluteError, MeanSquaredError, SmoothL1Loss, mean_of
from nequip_like.metrics.masked import Labels, Residuals
from nequip_like.metrics.modifiers import FieldModifier, PerAtomModifier
from nequip_like.metrics.terms import WEIGHTED_SUM, Term

Array = np.ndarray[Any, np.dtype[np.float64]]

_WEIGHTS = frozenset((fields.FRAME_WEIGHT, fields.ATOM_WEIGHT, *fields.LABEL_WEIGHTS.values()))


def _sum_squares(metric: Any, difference: Array) -> float:
    return float(np.add.reduce(difference * difference, axis=None))


def _differentiate_square(metric: Any, difference: Array) -> Array:
    return 2.0 * difference


def _sum_absolute(metric: Any, difference: Array) -> float:
    return float(np.add.reduce(np.abs(difference), axis=None))


def _differentiate_absolute(metric: Any, difference: Array) -> Array:
    return np.sign(difference)


def _sum_clipped(difference: Array, delta: float) -> float:
    size = np.abs(difference)
    clipped = np.minimum(size, delta)
    return float(np.add.reduce(clipped * (size - 0.5 * clipped), axis=None))


def _sum_huber(metric: HuberLoss, difference: Array) -> float:
    return _sum_clipped(difference, metric.delta)


def _differentiate_huber(metric: HuberLoss, difference: Array) -> Array:
    return difference.clip(-metric.delta, metric.delta)


def _sum_smooth_l1(metric: SmoothL1Loss, difference: Array) -> float:
    return _sum_clipped(difference, metric.beta) / metric.beta


def _differentiate_smooth_l1(metric: SmoothL1Loss, difference: Array) -> Array:
    return difference.clip(-metric.beta, metric.beta) / metric.beta


@dataclass(frozen=True)
class _Formula:
    """Errors of a metric.

    Attributes:
        kind: What they are for C.
        limit: Name of the metric's attribute that says where a parabola goes over into a line; "" if there is none.
        sum_errors: Gives their sum, from the metric and the differences.
        differentiate: Gives the derivative of each with respect to its difference.
    """

    kind: int
    limit: str
    sum_errors: Callable[[Any, Array], float]
    differentiate: Callable[[Any, Array], Array]


# Tests hold them against the metrics' own errors.
_FORMULAS: Mapping[type, _Formula] = {
    MeanSquaredError: _Formula(SQUARE, "", _sum_squares, _differentiate_square),
    MeanAbsoluteError: _Formula(ABSOLUTE, "", _sum_absolute, _differentiate_absolute),
    HuberLoss: _Formula(HUBER, "delta", _sum_huber, _differentiate_huber),
    SmoothL1Loss: _Formula(SMOOTH_L1, "beta", _sum_smooth_l1, _differentiate_smooth_l1),
}


@dataclass(frozen=True)
class ClosedTerm:
    """A term whose errors have a closed form.

    Attributes:
        name: Name of the term.
        field: The field that is compared.
        per_atom: How it is divided by the number of atoms; None if it is not.
        metric: The metric.
        ignore_nan: Leave out elements whose label is NaN.
        formula: Its errors.
    """

    name: str
    field: str
    per_atom: PerAtomModifier | None
    metric: Any
    ignore_nan: bool
    formula: _Formula

    @classmethod
    def of(cls, term: Term) -> ClosedTerm | None:
        """The same, or None if a term has no closed form."""
        metric, modifier = term.metric, term.modifier
        if not isinstance(modifier, FieldModifier) or type(modifier) not in (FieldModifier, PerAtomModifier):
            return None
        is_mean = type(metric) in _FORMULAS and getattr(metric, "finalizer", None) is mean_of
        if not is_mean or term.type_names or term.average != "elements":
            return None
        per_atom = modifier if isinstance(modifier, PerAtomModifier) else None
        return cls(term.name, modifier.field, per_atom, metric, term.ignore_nan, _FORMULAS[type(metric)])

    def describe(self) -> ErrorTerm | None:
        """The same for C; None if it has no code for a term."""
        if self.per_atom is not None and self.per_atom.factor is not None:
            return None  # the difference of two products would be contracted, and rounded differently
        limit = getattr(self.metric, self.formula.limit) if self.formula.limit else 0.0
        return ErrorTerm(self.field, self.formula.kind, limit, self.per_atom is not None, self.ignore_nan)

    def scale(self, values: Array, num_atoms: Array | None) -> Array:
        """What is compared, from the values of the field; or the gradient with respect to these."""
        return values if self.per_atom is None or num_atoms is None else self.per_atom.scale(values, num_atoms)

    def read_num_atoms(self, graph: Graph) -> Array | None:
        """Number of atoms of each graph, shape (graphs,); None where it is not divided by."""
        return None if self.per_atom is None else graph[fields.NUM_ATOMS].numpy()

    def sum_by_torch(self, prediction: Graph, target: Graph) -> Tensor:
        """The sum as the metric defines it, shape ()."""
        compare = self.per_atom or FieldModifier(self.field)
        labels = Labels.of(compare(target), ignore_nan=self.ignore_nan or is_without_frame(target))
        total: Tensor = self.metric.reduce(Residuals.of(compare(prediction), labels))
        return total


@dataclass(frozen=True)
class ClosedTerms:
    """Terms that all have a closed form.

    Attributes:
        terms: The terms.
        compiled: The same for C; empty if it has no code for one of them.
        ignore_nan: Whether all leave out elements whose label is NaN.
    """

    terms: tuple[ClosedTerm, ...]
    compiled: tuple[ErrorTerm, ...]
    ignore_nan: bool

    @classmethod
    def of(cls, terms: Sequence[Term]) -> ClosedTerms | None:
        """The terms, if all have a closed form."""
        closed = [closed_term for term in terms if (closed_term := ClosedTerm.of(term)) is not None]
        described = [error_term for term in closed if (error_term := term.describe()) is not None]
        if len(closed) < len(terms):
            return None
        compiled = tuple(described) if len(described) == len(closed) else ()
        return cls(tuple(closed), compiled, all(term.ignore_nan for term in closed))


class BatchErrors:
    """The errors of some terms in one batch.

    Args:
        terms: The terms.
        prediction: What the model predicts.
        target: The labels.

    Attributes:
        sums: Sum of the errors of each term.
        counts: Number of labels of each term.
    """

    def __init__(self, terms: ClosedTerms, prediction: Graph, target: Graph) -> None:
        self._terms, self._prediction, self._target = terms.terms, prediction, target
        self._errors = _compile_errors(terms, prediction, target) or _ArrayErrors(terms.terms, prediction, target)
        self.sums, self.counts = self._errors.sums, self._errors.counts
        self._parts: list[_Part] = []

    @classmethod
    def of(cls, terms: ClosedTerms | None, prediction: Graph, target: Graph) -> BatchErrors | None:
        """The errors of a batch; None if there are no terms, or if there is something unusual in it."""
        if terms is None or not _WEIGHTS.isdisjoint(target):
            return None
        for term in terms.terms:
            if not _are_usual(prediction.get(term.field), target.get(term.field)):
                return None
        return cls(terms, prediction, target)

    @property
    def totals(self) -> Totals:
        """Sums, without a gradient, and counts, float64, shape (terms,) each; no bins."""
        return torch.tensor(self.sums, dtype=torch.float64), torch.tensor(self.counts, dtype=torch.float64), {}

    def compute_means(self, sums: Sequence[float], counts: Sequence[float]) -> tuple[list[float], dict[str, Tensor]]:
        """Values of the terms, 0 where there is none, and by their names, NaN where there is none.

        Args:
            sums: Sum of the errors of each term: these, or those of all processes.
            counts: Number of labels of each term.
        """
        values = [total / count if count > 0 else 0.0 for total, count in zip(sums, counts, strict=True)]
        named = {
            term.name: torch.scalar_tensor(value if count > 0 else math.nan, dtype=torch.float64)
            for term, value, count in zip(self._terms, values, counts, strict=True)
        }
        return values, named

    def sum_weighted(self, values: Sequence[float], coeffs: Mapping[str, float | None]) -> Tensor:
        """The weighted sum of values of the terms, with the bits that ``torch.dot`` gives it in epochs; shape ()."""
        weighted = [(v, coeff) for term, v in zip(self._terms, values, strict=True) if (coeff := coeffs[term.name])]
        if len(weighted) > 2:  # the order in which it adds up more products is its own business
            return torch.dot(*(torch.tensor(numbers, dtype=torch.float64) for numbers in zip(*weighted, strict=True)))
        total = 0.0
        for value, coeff in weighted:
            total += value * coeff
        return torch.scalar_tensor(total, dtype=torch.float64)

    def attach_gradient(
        self,
        values: dict[str, Tensor],
        coeffs: Mapping[str, float | None],
        counts: Sequence[float],
        shared: Sequence[float],
    ) -> None:
        """Give the values of the terms that have a coefficient, and their weighted sum, the gradient that they have.

        Args:
            values: Values by name; they are replaced.
            coeffs: Coefficients of the terms.
            counts: What the sums of the terms were divided by in their values, of each term.
            shared: What they were divided by in the weighted sum, of each term.
        """
        self._parts = [
            (position, term, _invert(count), coeff * _invert(of_sum))
            for position, (term, count, of_sum) in enumerate(zip(self._terms, counts, shared, strict=True))
            if (coeff := coeffs[term.name])
        ]
        names = [term.name for _, term, _, _ in self._parts]
        names.append(WEIGHTED_SUM)
        attached = _Means.apply(self, [values[name] for name in names], *self._list_predicted())
        values.update(zip(names, attached, strict=True))

    def _list_predicted(self) -> list[Tensor]:
        """The predictions that the values have a gradient with respect to, each once."""
        return list({term.field: self._prediction[term.field] for _, term, _, _ in self._parts}.values())

    def differentiate(self, of_sum: float, of_means: Sequence[float] | None = None) -> list[Tensor]:
        """Gradients of the predictions that have one, in the order in which autograd's node has got them.

        Args:
            of_sum: The gradient with respect to the weighted sum.
            of_means: Those with respect to the values of the terms that have a coefficient; None: 0.
        """
        factors: list[float | None] = [None] * len(self._terms)
        for (position, _, rate, share), of_mean in zip(self._parts, of_means or repeat(0.0), strict=False):
            factors[position] = of_mean * rate + of_sum * share
        gradients: dict[str, Tensor] = {}
        for term, gradient in zip(self._terms, self._errors.differentiate(factors), strict=True):
            if gradient is not None:
                gradients[term.field] = gradients[term.field] + gradient if term.field in gradients else gradient
        return list(gradients.values())

    def differentiate_by_autograd(self, of_values: Sequence[Tensor | None]) -> list[Tensor]:
        """The same as the metrics define them, which can be differentiated again.

        Args:
            of_values: Gradients with respect to the values of the terms that have a coefficient, and to the weighted
                sum; None: 0.
        """
        with torch.enable_grad():
            total = torch.zeros((), dtype=torch.float64)
            for (_, term, rate, share), of_value in zip(self._parts, of_values[:-1], strict=True):
                error_sum = term.sum_by_torch(self._prediction, self._target)
                for part, factor in ((rate, of_value), (share, of_values[-1])):
                    total = total if factor is None else total + error_sum * part * factor
            return list(torch.autograd.grad(total, self._list_predicted(), create_graph=True))


# Position of a term, the term, and the derivatives of its value and of the weighted sum with respect to its sum.
_Part = tuple[int, ClosedTerm, float, float]


def _compile_errors(terms: ClosedTerms, prediction: Graph, target: Graph) -> CompiledErrors | None:
    # In a batch without a frame a label that is NaN is left out, whatever the terms say.
    if not terms.compiled or (not terms.ignore_nan and is_without_frame(target)):
        return None
    return CompiledErrors.of(terms.compiled, prediction, target)


class _ArrayErrors:
    """The errors of some terms in one batch, by NumPy: what ``CompiledErrors`` are by C, to the last bit."""

    def __init__(self, terms: Sequence[ClosedTerm], prediction: Graph, target: Graph) -> None:
        with np.errstate(all="ignore"):  # the guard of a run judges what is not finite, and names its frames
            self._errors = [_TermErrors(term, prediction, target) for term in terms]
        self.sums = [errors.total for errors in self._errors]
        self.counts = [errors.count for errors in self._errors]

    def differentiate(self, factors: Sequence[float | None]) -> list[Tensor | None]:
        """Gradients with respect to the predictions of each term, from those with respect to its sum."""
        with np.errstate(all="ignore"):
            return [
                None if factor is None else torch.from_numpy(errors.compute_gradient(factor))
                for errors, factor in zip(self._errors, factors, strict=True)
            ]


class _TermErrors:
    """The errors of one term in one batch: their sum, and the number of labels."""

    def __init__(self, term: ClosedTerm, prediction: Graph, target: Graph) -> None:
        self.term, self._num_atoms = term, term.read_num_atoms(target)
        same = self._num_atoms is None or prediction[fields.NUM_ATOMS] is target[fields.NUM_ATOMS]
        num_atoms = self._num_atoms if same else term.read_num_atoms(prediction)
        labels = term.scale(target[term.field].numpy(), self._num_atoms)
        self._difference = term.scale(prediction[term.field].detach().numpy(), num_atoms) - labels
        self.total, self.count = term.formula.sum_errors(term.metric, self._difference), float(labels.size)
        self._missing: np.ndarray[Any, np.dtype[np.bool_]] | None = None
        # A sum that is a number has no missing label in it.
        if math.isnan(self.total) and (term.ignore_nan or is_without_frame(target)):
            self._missing = np.isnan(labels)
            self._difference[self._missing] = 0.0
            self.total = term.formula.sum_errors(term.metric, self._difference)
            self.count -= float(self._missing.sum())

    def compute_gradient(self, factor: float) -> Array:
        """Gradient with respect to the predicted field, from that with respect to the sum."""
        gradient = self.term.formula.differentiate(self.term.metric, self._difference)
        gradient *= factor
        if self._missing is not None:
            gradient[self._missing] = 0.0  # even if the factor is not finite
        return self.term.scale(gradient, self._num_atoms)


def _are_usual(predicted: Tensor | None, label: Tensor | None) -> bool:
    if predicted is None or label is None or predicted.shape != label.shape:
        return False
    return predicted.is_cpu and label.is_cpu and predicted.dtype == label.dtype == torch.float64


def _invert(count: float) -> float:
    return 1.0 / count if count > 0 else 0.0


class _Means(torch.autograd.Function):
    """Means of errors and their weighted sum as they are, forwards; the closed form, backwards."""

    @staticmethod
    def forward(ctx: Any, errors: BatchErrors, values: list[Tensor], *predicted: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.errors = errors
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *of_values: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return (None, None, *ctx.errors.differentiate_by_autograd(of_values))
        *of_means, of_sum = (0.0 if gradient is None else gradient.item() for gradient in of_values)
        return (None, None, *ctx.errors.differentiate(of_sum, of_means))


def differentiate_sum(loss: Tensor) -> list[Tensor] | None:
    """What the node that made a weighted sum gives: gradients of the predictions that it was made of, in its order.

    None if the loss is anything else, or if somebody watches its gradient or that of a prediction.
    """
    node: Any = loss.grad_fn
    if not isinstance(node, _NODE) or loss.output_nr != len(node.errors._parts):
        return None
    seen = (loss, *node.errors._list_predicted())
    return None if any(t._backward_hooks or t.retains_grad for t in seen) else node.errors.differentiate(1.0)


_NODE: Any = _Means._backward_cls
