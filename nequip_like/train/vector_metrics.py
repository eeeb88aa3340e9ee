"""Metrics of whole vectors rather than of their components: relative error and direction."""

from __future__ import annotations

import torch
from torch import Tensor

from nequip_like.train.metrics import ErrorMetric
from nequip_like.train.residuals import Labels, Residuals, sum_rows


def _norms(values: Tensor) -> Tensor:
    """Norm of each row over all its elements: (rows, ...) -> (rows,)."""
    return torch.linalg.vector_norm(values.reshape(len(values), -1), dim=1)


class _RowMetric(ErrorMetric):
    """Base class: a sum over rows (atoms, or structures) divided by another that the labels tell."""

    own_counts = True

    def row_counts(self, labels: Labels) -> Tensor:
        """What each row adds to what is divided by, without its weight, shape (rows,)."""
        raise NotImplementedError

    def reduce(self, residuals: Residuals) -> Tensor:
        """Weighted sum over rows, shape ()."""
        return (self.errors(residuals) * residuals.labels.row_weight()).sum()

    def reduce_by(self, residuals: Residuals, index: Tensor, size: int) -> Tensor:
        """Weighted sums by group: ``index`` of shape (rows,) -> shape (size,)."""
        return sum_rows(self.errors(residuals) * residuals.labels.row_weight(), index, size)

    def counts(self, labels: Labels) -> Tensor:
        """Weighted sum of the counts of rows, shape ()."""
        return (self.row_counts(labels) * labels.row_weight()).sum()

    def counts_by(self, labels: Labels, index: Tensor, size: int) -> Tensor:
        """The same by group: ``index`` of shape (rows,) -> shape (size,)."""
        return sum_rows(self.row_counts(labels) * labels.row_weight(), index, size)


class RelativeError(_RowMetric):
    """Sum over rows of the norm of the error, divided by that of the norm of the label: 0.1 is an error of 10 %.

    Norms are over all components of a row (the vector of an atom, the stress of a structure), so the value does not
    depend on how a structure is turned. Labels of length zero do no harm: they add to the numerator only. Components
    without a label count as zero on both sides. If all labels are zero there is no value (NaN).
    """

    abbreviation = "relative"

    def errors(self, residuals: Residuals) -> Tensor:
        """Norm of the error of each row, shape (rows,)."""
        return _norms(residuals.difference)

    def row_counts(self, labels: Labels) -> Tensor:
        """Norm of the label of each row, shape (rows,)."""
        norms = _norms(labels.known())
        return torch.where(torch.isnan(norms), 1.0, norms)  # with ignore_nan: false, the sum is NaN, and so the value


class CosineSimilarity(_RowMetric):
    """Mean over rows of the cosine of the angle between prediction and label: 1 is the right direction.

    Rows whose label has length zero, or lacks a component, have no direction and are left out. A prediction of length
    zero has the cosine 0.
    """

    abbreviation = "cosine"
    is_differentiable = False
    higher_is_better = True

    def errors(self, residuals: Residuals) -> Tensor:
        """Cosine of each row, shape (rows,); 0 for what is left out."""
        known = residuals.labels.known()
        predicted = (residuals.difference + known).reshape(len(known), -1)
        scale = _norms(predicted) * _norms(known)
        zero = (scale == 0) | (self.row_counts(residuals.labels) == 0)
        cosine = (predicted * known.reshape(len(known), -1)).sum(1) / torch.where(zero, 1.0, scale)
        return torch.where(zero, 0.0, cosine)

    def row_counts(self, labels: Labels) -> Tensor:
        """1 for rows with a direction, else 0; shape (rows,)."""
        has_direction = _norms(labels.known()) != 0
        if labels.valid is not None:
            has_direction = has_direction & labels.valid.reshape(len(labels.target), -1).all(1)
        return has_direction.double()
