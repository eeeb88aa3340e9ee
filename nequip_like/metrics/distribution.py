"""Metrics that need more than a sum of errors: percentiles, cosines, relative errors.

A percentile comes from counts in fixed bins, so that it is the same however the data fell into batches.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nequip_like.errors import ConfigError
from nequip_like.metrics.elementwise import ErrorMetric
from nequip_like.metrics.masked import Labels, Residuals, sum_rows_by_group

# The first 7 bits of a number's fraction and its exponent are its bin: 128 bins for each factor of 2, none of them
# wider than 1/128 of its lower edge. The same integers on every device, where logarithms would differ in the last bit.
_FRACTION_BITS = 7
_SHIFT = 52 - _FRACTION_BITS
_LOWEST, _HIGHEST = -40, 40  # powers of 2: 1e-12 to 1e12, in any unit
_FIRST = (1023 + _LOWEST) << _FRACTION_BITS
BINS = ((_HIGHEST - _LOWEST) << _FRACTION_BITS) + 2  # one below, one above


class AbsoluteErrorQuantile(ErrorMetric):
    """The absolute error that a share of the elements does not exceed, by default 95 %, in the field's unit.

    Errors are counted in bins: the value is within 0.4 % of the smallest error that at least this share of the
    elements (of their weights) does not exceed, and it is exactly the same for any batch size and any number of
    processes. Errors below 1e-12 count as 0. It cannot be trained on.

    Args:
        q: The share, above 0 and at most 1.
        ignore_nan: Leave out elements whose target is NaN.
        **kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If ``q`` is out of range.

    Example:
        Of the errors 1, 2, ..., 20, 95 % are not above 19; the value is that within 0.4 %:

        >>> metric = AbsoluteErrorQuantile(q=0.95)
        >>> metric.update(torch.arange(1.0, 21.0), torch.zeros(20))
        >>> abs(metric.compute().item() / 19 - 1) < 0.004
        True
    """

    is_differentiable = False
    histogram: Tensor

    def __init__(self, q: float = 0.95, ignore_nan: bool = True, **kwargs: object) -> None:
        super().__init__(ignore_nan=ignore_nan, **kwargs)
        if isinstance(q, bool) or not isinstance(q, int | float) or not 0 < q <= 1:
            raise ConfigError(
                f"q of {type(self).__name__} is {q!r}", "give a number above 0 and at most 1, such as 0.95"
            )
        self.q = float(q)
        self.add_state("histogram", torch.zeros(BINS, dtype=torch.float64), dist_reduce_fx="sum")

    @property
    def is_linear(self) -> bool:
        """It is not."""
        return False

    def __str__(self) -> str:
        """``p95`` for 0.95."""
        return f"p{100 * self.q:g}".replace(".", "_")

    def errors(self, residuals: Residuals) -> Tensor:
        """Absolute error of each element."""
        return residuals.difference.abs()

    def reduce(self, residuals: Residuals) -> Tensor:
        """Zero, shape (): the errors are in the bins. NaN if one of them is not finite."""
        return (self.compute_errors(residuals).detach() * 0.0).sum()

    def reduce_by(self, residuals: Residuals, index: Tensor, size: int) -> Tensor:
        """The same by group: ``index`` of shape (rows,) -> shape (size,)."""
        return sum_rows_by_group(self.compute_errors(residuals).detach() * 0.0, index, size)

    def count_in_bins(self, residuals: Residuals, index: Tensor | None = None, size: int = 1) -> Tensor:
        """Numbers of errors (sums of their weights) in the bins.

        Args:
            residuals: The errors.
            index: Group of each row, shape (rows,); None for one group.
            size: Number of groups.

        Returns:
            Shape (size, BINS).
        """
        errors = self.compute_errors(residuals).detach()
        bins = ((errors.contiguous().view(torch.int64) >> _SHIFT) - _FIRST + 1).clamp(0, BINS - 1)
        if index is not None:
            bins = bins + BINS * index.reshape(index.shape + (1,) * (bins.dim() - 1))
        labels = residuals.labels
        weights = labels.weight if labels.weight is not None else labels.valid
        ones = torch.ones_like(errors) if weights is None else weights.double()
        return errors.new_zeros(size * BINS).index_add(0, bins.flatten(), ones.flatten()).view(size, BINS)

    def quantile(self, counts: Tensor) -> Tensor:
        """The value from counts in bins: (groups, BINS) -> (groups,)."""
        # A little less, so that 0.95 of 20 is 19 whatever the rounding.
        level = counts.sum(1, keepdim=True) * (self.q * (1 - 1e-12))
        position = (counts.cumsum(1) < level).sum(1).clamp(max=BINS - 1)
        middle = (((position - 1 + _FIRST) << _SHIFT) | (1 << (_SHIFT - 1))).view(torch.float64)
        values = torch.where(position == BINS - 1, math.inf, middle)
        return torch.where(position == 0, 0.0, values)

    def update(
        self, prediction: Tensor, target: Tensor, weight: Tensor | None = None, mask: Tensor | None = None
    ) -> None:
        """Add a batch to the states; arguments as in :meth:`~nequip_like.metrics.elementwise.ErrorMetric.partial`."""
        labels = Labels.of(target, weight, mask, self.ignore_nan)
        residuals = Residuals.of(prediction, labels)
        self.histogram = self.histogram + self.count_in_bins(residuals)[0]
        self.total = self.total + self.reduce(residuals)
        self.count = self.count + self.counts(labels)

    def compute(self) -> Tensor:
        """Value over everything seen; NaN if there was no valid element."""
        return torch.where(self.count > 0, self.quantile(self.histogram[None])[0] + self.total, math.nan)


def _compute_norms(values: Tensor) -> Tensor:
    """Norm of each row over all its elements: (rows, ...) -> (rows,)."""
    return torch.linalg.vector_norm(values.reshape(len(values), -1), dim=1)


class RowMetric(ErrorMetric):
    """Base class: a sum over rows (atoms, or structures) divided by another that the labels tell.

    A subclass gives ``errors`` of the shape (rows,), and :meth:`row_counts` if its value is no mean over rows. Rows
    without any label are left out.

    Example:
        The mean length of the error of a force; the last atom has no label:

        >>> class ForceError(RowMetric):
        ...     def errors(self, residuals: Residuals) -> Tensor:
        ...         return residuals.difference.norm(dim=-1)
        >>> target = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [torch.nan, torch.nan, torch.nan]])
        >>> ForceError()(torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]), target).item()
        3.0
    """

    own_counts = True
    per_row = True

    def row_counts(self, labels: Labels) -> Tensor:
        """What each row adds to what is divided by, without its weight, shape (rows,); 1 for a mean over rows."""
        return labels.target.new_ones(len(labels.target))

    def reduce(self, residuals: Residuals) -> Tensor:
        """Weighted sum over rows, shape ()."""
        return (self.compute_errors(residuals) * residuals.labels.row_weight()).sum()

    def reduce_by(self, residuals: Residuals, index: Tensor, size: int) -> Tensor:
        """Weighted sums by group: ``index`` of shape (rows,) -> shape (size,)."""
        return sum_rows_by_group(self.compute_errors(residuals) * residuals.labels.row_weight(), index, size)

    def counts(self, labels: Labels) -> Tensor:
        """Weighted sum of the counts of rows, shape ()."""
        return (self.row_counts(labels) * labels.row_weight()).sum()

    def counts_by(self, labels: Labels, index: Tensor, size: int) -> Tensor:
        """The same by group: ``index`` of shape (rows,) -> shape (size,)."""
        return sum_rows_by_group(self.row_counts(labels) * labels.row_weight(), index, size)


class RelativeError(RowMetric):
    """Sum over rows of the norm of the error, divided by that of the norm of the label: 0.1 is an error of 10 %.

    Norms are over all components of a row (the vector of an atom, the stress of a structure), so the value does not
    depend on how a structure is turned. Labels of length zero do no harm: they add to the numerator only. Components
    without a label count as zero on both sides. If all labels are zero there is no value (NaN).

    Example:
        Errors of length 1 and 0 on forces of length 1 and 4:

        >>> prediction = torch.tensor([[2.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
        >>> RelativeError()(prediction, torch.tensor([[1.0, 0.0, 0.0], [0.0, 4.0, 0.0]])).item()
        0.2
    """

    abbreviation = "relative"

    def errors(self, residuals: Residuals) -> Tensor:
        """Norm of the error of each row, shape (rows,)."""
        return _compute_norms(residuals.difference)

    def row_counts(self, labels: Labels) -> Tensor:
        """Norm of the label of each row, shape (rows,)."""
        norms = _compute_norms(labels.fill_masked())
        return torch.where(torch.isnan(norms), 1.0, norms)  # with ignore_nan: false, the sum is NaN, and so the value


class CosineSimilarity(RowMetric):
    """Mean over rows of the cosine of the angle between prediction and label: 1 is the right direction.

    Rows whose label has length zero, or lacks a component, have no direction and are left out. A prediction of length
    zero has the cosine 0.

    Example:
        The right direction counts 1 whatever the length, the opposite one -1; a label of length zero is left out:

        >>> prediction = torch.tensor([[9.0, 0.0, 0.0], [0.0, -1.0, 0.0], [1.0, 1.0, 1.0]])
        >>> CosineSimilarity()(prediction, torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])).item()
        0.0
    """

    abbreviation = "cosine"
    is_differentiable = False
    higher_is_better = True

    def errors(self, residuals: Residuals) -> Tensor:
        """Cosine of each row, shape (rows,); 0 for what is left out."""
        labels = residuals.labels.fill_masked()
        predicted = (residuals.difference + labels).reshape(len(labels), -1)
        scale = _compute_norms(predicted) * _compute_norms(labels)
        zero = (scale == 0) | (self.row_counts(residuals.labels) == 0)
        cosine = (predicted * labels.reshape(len(labels), -1)).sum(1) / torch.where(zero, 1.0, scale)
        return torch.where(zero, 0.0, cosine)

    def row_counts(self, labels: Labels) -> Tensor:
        """1 for rows with a direction, else 0; shape (rows,)."""
        has_direction = _compute_norms(labels.fill_masked()) != 0
        if labels.valid is not None:
            has_direction = has_direction & labels.valid.reshape(len(labels.target), -1).all(1)
        return has_direction.double()
