"""Sums of the usual errors on a CPU, with the gradient of their means in closed form: one node of autograd's graph.

Of a batch of small molecules, torch needs longer to find its functions than to compute, forwards and once more in
autograd. Here the same sums are made with NumPy, whose functions are found sooner, and nothing is recorded. What is
made of the sums (processes, epochs, means, coefficients) is the manager's, here as elsewhere; the values get their
gradient when they are there.

Only the usual is done here: means of the metrics that are listed, of fields as they are or per atom, without weights.
A class derived from one of these may have other errors and is not meant. Everything else is done by
:mod:`nequip_like.metrics.masked`, whose results these are to rounding; it also says what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.loader import is_without_frame
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


# The sum of the errors, and the derivative of each error with respect to its difference. Tests hold them against the
# metrics' own errors.
_FORMULAS: Mapping[type, tuple[Callable[[Any, Array], float], Callable[[Any, Array], Array]]] = {
    MeanSquaredError: (_sum_squares, _differentiate_square),
    MeanAbsoluteError: (_sum_absolute, _differentiate_absolute),
    HuberLoss: (_sum_huber, _differentiate_huber),
    SmoothL1Loss: (_sum_smooth_l1, _differentiate_smooth_l1),
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
        sum_errors: Gives the sum of the errors, from the metric and the differences.
        differentiate: Gives the derivatives of the errors with respect to these.
    """

    name: str
    field: str
    per_atom: PerAtomModifier | None
    metric: Any
    ignore_nan: bool
    sum_errors: Callable[[Any, Array], float]
    differentiate: Callable[[Any, Array], Array]

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
        return cls(term.name, modifier.field, per_atom, metric, term.ignore_nan, *_FORMULAS[type(metric)])

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


def find_closed_terms(terms: Sequence[Term]) -> list[ClosedTerm]:
    """The terms, if all have a closed form; else none."""
    closed = [closed_term for term in terms if (closed_term := ClosedTerm.of(term)) is not None]
    return closed if len(closed) == len(terms) else []


class BatchErrors:
    """The errors of some terms in one batch.

    Args:
        terms: The terms.
        prediction: What the model predicts.
        target: The labels.

    Attributes:
        totals: Sums of the errors, without a gradient, and numbers of labels, float64, shape (terms,) each; no bins.
    """

    def __init__(self, terms: Sequence[ClosedTerm], prediction: Graph, target: Graph) -> None:
        self._prediction, self._target = prediction, target
        with np.errstate(all="ignore"):  # the guard of a run judges what is not finite, and names its frames
            self._errors = [_TermErrors(term, prediction, target) for term in terms]
        sums = np.array([errors.total for errors in self._errors])
        counts = np.array([errors.count for errors in self._errors])
        self.totals: tuple[Tensor, Tensor, Mapping[int, Tensor]] = torch.from_numpy(sums), torch.from_numpy(counts), {}

    @classmethod
    def of(cls, terms: Sequence[ClosedTerm], prediction: Graph, target: Graph) -> BatchErrors | None:
        """The errors of a batch; None if there are no terms, or if there is something unusual in it."""
        usual = _WEIGHTS.isdisjoint(target) and all(
            _are_usual(prediction.get(term.field), target.get(term.field)) for term in terms
        )
        return cls(terms, prediction, target) if terms and usual else None

    def attach_gradient(
        self, values: dict[str, Tensor], coeffs: Mapping[str, float | None], counts: Tensor, shared: Tensor
    ) -> None:
        """Give the values of the terms that have a coefficient, and their weighted sum, the gradient that they have.

        Args:
            values: Values by name; they are replaced.
            coeffs: Coefficients of the terms.
            counts: What the sums of the terms were divided by in their values, shape (terms,).
            shared: What they were divided by in the weighted sum, shape (terms,).
        """
        rates = [_invert(count) for count in counts.tolist()]
        shares = rates if shared is counts else [_invert(count) for count in shared.tolist()]
        parts: list[_Part] = [
            (errors, rate, coeff * share)
            for errors, rate, share in zip(self._errors, rates, shares, strict=True)
            if (coeff := coeffs[errors.term.name])
        ]
        names = [*(errors.term.name for errors, _, _ in parts), WEIGHTED_SUM]
        predicted = {errors.term.field: self._prediction[errors.term.field] for errors, _, _ in parts}
        attached = _Means.apply(self, parts, [values[name] for name in names], list(predicted), *predicted.values())
        values.update(zip(names, attached, strict=True))

    def differentiate_by_autograd(
        self, parts: Sequence[_Part], of_values: Sequence[Tensor | None], names: Sequence[str]
    ) -> tuple[Tensor, ...]:
        """The gradients of predicted fields as the metrics define them, which can be differentiated again."""
        with torch.enable_grad():
            total = torch.zeros((), dtype=torch.float64)
            for (errors, of_mean, share), of_value in zip(parts, of_values[:-1], strict=True):
                error_sum = errors.term.sum_by_torch(self._prediction, self._target)
                for rate, factor in ((of_mean, of_value), (share, of_values[-1])):
                    total = total if factor is None else total + error_sum * rate * factor
            return torch.autograd.grad(total, [self._prediction[name] for name in names], create_graph=True)


class _TermErrors:
    """The errors of one term in one batch: their sum, and the number of labels."""

    def __init__(self, term: ClosedTerm, prediction: Graph, target: Graph) -> None:
        self.term, self._num_atoms = term, term.read_num_atoms(target)
        same = self._num_atoms is None or prediction[fields.NUM_ATOMS] is target[fields.NUM_ATOMS]
        num_atoms = self._num_atoms if same else term.read_num_atoms(prediction)
        labels = term.scale(target[term.field].numpy(), self._num_atoms)
        self._difference = term.scale(prediction[term.field].detach().numpy(), num_atoms) - labels
        self.total, self.count = term.sum_errors(term.metric, self._difference), float(labels.size)
        self._missing: np.ndarray[Any, np.dtype[np.bool_]] | None = None
        # A sum that is a number has no missing label in it.
        if math.isnan(self.total) and (term.ignore_nan or is_without_frame(target)):
            self._missing = np.isnan(labels)
            self._difference[self._missing] = 0.0
            self.total = term.sum_errors(term.metric, self._difference)
            self.count -= float(self._missing.sum())

    def compute_gradient(self, factor: float) -> Array:
        """Gradient with respect to the predicted field, from that with respect to the sum."""
        gradient = self.term.differentiate(self.term.metric, self._difference)
        gradient *= factor
        if self._missing is not None:
            gradient[self._missing] = 0.0  # even if the factor is not finite
        return self.term.scale(gradient, self._num_atoms)


# The errors of a term, and the derivatives of its value and of the weighted sum with respect to their sum.
_Part = tuple[_TermErrors, float, float]


def _are_usual(predicted: Tensor | None, label: Tensor | None) -> bool:
    if predicted is None or label is None or predicted.shape != label.shape:
        return False
    return predicted.is_cpu and label.is_cpu and predicted.dtype == label.dtype == torch.float64


def _invert(count: float) -> float:
    return 1.0 / count if count > 0 else 0.0


class _Means(torch.autograd.Function):
    """Means of errors and their weighted sum as they are, forwards; the closed form, backwards."""

    @staticmethod
    def forward(
        ctx: Any,
        errors: BatchErrors,
        parts: list[_Part],
        values: list[Tensor],
        names: list[str],
        *predicted: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.errors, ctx.parts, ctx.names = errors, parts, names
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *of_values: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return (None, None, None, None, *ctx.errors.differentiate_by_autograd(ctx.parts, of_values, ctx.names))
        *of_means, of_sum = (0.0 if gradient is None else gradient.item() for gradient in of_values)
        return (None, None, None, None, *_differentiate(ctx.parts, of_means, of_sum, ctx.names))


def _differentiate(
    parts: Sequence[_Part], of_means: Sequence[float], of_sum: float, names: Sequence[str]
) -> list[Tensor]:
    gradients: dict[str, Array] = {}
    with np.errstate(all="ignore"):
        for (errors, of_mean, share), factor in zip(parts, of_means, strict=True):
            gradient, name = errors.compute_gradient(factor * of_mean + of_sum * share), errors.term.field
            gradients[name] = gradients[name] + gradient if name in gradients else gradient
    return [torch.from_numpy(gradients[name]) for name in names]


def differentiate_sum(loss: Tensor) -> list[Tensor] | None:
    """Gradient of a weighted sum by each predicted field that it was made of, in the order of its node's inputs.

    Args:
        loss: What :meth:`BatchErrors.attach_gradient` made.

    Returns:
        None if the loss is anything else, or if somebody watches its gradient or that of one of the fields.
    """
    node: Any = loss.grad_fn
    if not isinstance(node, _NODE) or loss.output_nr != len(node.parts):
        return None
    seen = (loss, *(node.errors._prediction[name] for name in node.names))
    if any(tensor._backward_hooks or tensor.retains_grad for tensor in seen):
        return None
    return _differentiate(node.parts, [0.0] * len(node.parts), 1.0, node.names)


_NODE: Any = _Means._backward_cls
