"""Error metrics whose states are float64 sums and counts.

An epoch value is computed from the sum over all valid elements and their number, so it depends neither on how the
data fell into batches nor on how many processes there were. What a batch adds (:meth:`ErrorMetric.partial`) is a pure,
differentiable function without host synchronisation; what a sum and a count mean (:meth:`ErrorMetric.finalize`) is
another. :class:`~nequip_like.metrics.manager.MetricsManager` calls these two directly; used alone, the classes
are ordinary torchmetrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torchmetrics import Metric

from nequip_like.errors import ConfigError
from nequip_like.metrics.masked import Labels, Residuals, sum_rows_by_group
from nequip_like.metrics.strata import read_positive, sort_strata

Edges = Literal["above", "last"]


def mean_of(total: Tensor, count: Tensor) -> Tensor:
    """Mean, elementwise over vectors of sums and counts; NaN where the count is zero."""
    return total / count


def root_mean_of(total: Tensor, count: Tensor) -> Tensor:
    """Square root of the mean; its gradient is zero (not NaN) where the mean is zero."""
    mean = total / count
    zero = mean == 0
    return torch.where(zero, 0.0, torch.sqrt(torch.where(zero, 1.0, mean)))


def sum_of(total: Tensor, count: Tensor) -> Tensor:
    """The sum itself."""
    return total


def maximum_of(total: Tensor, count: Tensor) -> Tensor:
    """The maximum itself; NaN where the count is zero."""
    return torch.where(count > 0, total, math.nan)


class ErrorMetric(Metric):
    """Base class: a mean (or sum) over elements of some function of the error.

    A subclass gives :meth:`errors`, which must map a zero difference to zero, a ``finalizer`` and an ``abbreviation``.
    What it divides by (:meth:`counts`) is known from the labels alone. One value for each row instead of each element
    is what :class:`nequip_like.metrics.distribution.RowMetric` is for.

    Args:
        ignore_nan: Leave out elements whose target is NaN (a missing label). Otherwise NaN targets propagate.
        **kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If the class has no :meth:`errors`, or, with the first batch, if these have another shape.

    Example:
        An atom without a label (NaN) is left out; the mean is over components, not over atoms:

        >>> nan = math.nan
        >>> target = torch.tensor([[0.0, 0.0, 0.0], [nan, nan, nan]])
        >>> total, count = MeanAbsoluteError().partial(torch.tensor([[0.3, 0.0, 0.0], [9.0, 9.0, 9.0]]), target)
        >>> round(total.item(), 6), count.item()
        (0.3, 3.0)
    """

    is_differentiable = True
    higher_is_better = False
    full_state_update = False
    abbreviation: ClassVar[str] = ""
    accumulates: ClassVar[Literal["sum", "max"]] = "sum"
    own_counts: ClassVar[bool] = False  # whether it divides by something else than the number of valid elements
    per_row: ClassVar[bool] = False  # whether `errors` gives one value for each row, not one for each element
    total: Tensor
    count: Tensor

    def __init__(self, ignore_nan: bool = True, **kwargs: object) -> None:
        super().__init__(**kwargs)
        if type(self).errors is ErrorMetric.errors:
            raise ConfigError(
                f"the metric {type(self).__name__} has no method errors",
                "define errors(self, residuals), which gives one value for each component",
            )
        self.ignore_nan = ignore_nan
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx=self.accumulates)
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @property
    def finalizer(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The elementwise function from sums and counts to values."""
        return mean_of

    def errors(self, residuals: Residuals) -> Tensor:
        """Error of each element, shape of ``residuals.difference``, unweighted; zero where the difference is zero."""
        raise NotImplementedError

    def compute_errors(self, residuals: Residuals) -> Tensor:
        """The same, refused in another shape: their sum would be divided by the number of something else."""
        return residuals.check_errors(self.errors(residuals), type(self).__name__, self.per_row)

    @property
    def is_linear(self) -> bool:
        """Whether the value is the sum, over parts of a batch, of what each adds to it."""
        return self.accumulates == "sum" and self.finalizer in (mean_of, sum_of)

    def reduce(self, residuals: Residuals) -> Tensor:
        """Weighted sum of the errors over all elements, shape ()."""
        return residuals.weighted(self.compute_errors(residuals)).sum()

    def reduce_by(self, residuals: Residuals, index: Tensor, size: int) -> Tensor:
        """Weighted sums by group: ``index`` of shape (rows,) -> shape (size,)."""
        return sum_rows_by_group(residuals.weighted(self.compute_errors(residuals)), index, size)

    def counts(self, labels: Labels) -> Tensor:
        """What the sum is divided by, shape (): the number of valid elements, or the sum of their weights."""
        return labels.count

    def counts_by(self, labels: Labels, index: Tensor, size: int) -> Tensor:
        """The same by group: ``index`` of shape (rows,) -> shape (size,)."""
        return labels.counts_by(index, size)

    def partial(
        self, prediction: Tensor, target: Tensor, weight: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What a batch adds to the states: a pure, differentiable function without host synchronisation.

        Args:
            prediction: Shape (rows, ...).
            target: Shape (rows, ...).
            weight: Weight of each row, shape (rows,) or (rows, 1).
            mask: True where an element counts, shape (rows,) or that of ``target``.

        Returns:
            The sum of the (weighted) errors and the number of valid elements (the sum of their weights), both of
            shape () and float64. Masked elements have gradient exactly zero.

        Raises:
            DataError: If shapes do not match.
        """
        labels = Labels.of(target, weight, mask, self.ignore_nan)
        return self.reduce(Residuals.of(prediction, labels)), self.counts(labels)

    def finalize(self, total: Tensor, count: Tensor) -> Tensor:
        """Value of a sum and a count; NaN for means and maxima over nothing."""
        return self.finalizer(total, count)

    def update(
        self, prediction: Tensor, target: Tensor, weight: Tensor | None = None, mask: Tensor | None = None
    ) -> None:
        """Add a batch to the states; arguments as in :meth:`partial`. An empty batch changes nothing."""
        total, count = self.partial(prediction, target, weight, mask)
        self.total = torch.maximum(self.total, total) if self.accumulates == "max" else self.total + total
        self.count = self.count + count

    def compute(self) -> Tensor:
        """Value over everything seen; NaN (for means and maxima) if there was no valid element."""
        return self.finalize(self.total, self.count)

    def __str__(self) -> str:
        """Abbreviation used in the names of logged values."""
        return self.abbreviation


class MeanAbsoluteError(ErrorMetric):
    """Mean over elements of abs(prediction - target), in the field's unit.

    Example:
        >>> metric = MeanAbsoluteError()
        >>> metric.update(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0]))
        >>> metric.compute().item()
        2.0
    """

    abbreviation = "mae"

    def errors(self, residuals: Residuals) -> Tensor:
        """Absolute error of each element."""
        return residuals.difference.abs()


class MeanSquaredError(ErrorMetric):
    """Mean over elements of (prediction - target)^2, in the field's unit squared.

    Example:
        One force that is wrong by 3 eV/Angstrom in x: 9 over the three components.

        >>> MeanSquaredError()(torch.tensor([[3.0, 0.0, 0.0]]), torch.zeros(1, 3)).item()
        3.0
    """

    abbreviation = "mse"

    def errors(self, residuals: Residuals) -> Tensor:
        """Squared error of each element."""
        return residuals.difference.square()


class RootMeanSquaredError(MeanSquaredError):
    """Square root of the mean squared error, in the field's unit. Its gradient at zero error is zero.

    Example:
        Two forces, one of them wrong by (3, 3, 3): the root of 27 / 6.

        >>> prediction = torch.tensor([[3.0, 3.0, 3.0], [0.0, 0.0, 0.0]])
        >>> round(RootMeanSquaredError()(prediction, torch.zeros(2, 3)).item(), 4)
        2.1213

        Over batches the squares are added up first: the root of (9 + 0 + 0) / 3, where the mean of both roots is 1.5.

        >>> metric = RootMeanSquaredError()
        >>> metric.update(torch.tensor([3.0]), torch.tensor([0.0]))
        >>> metric.update(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]))
        >>> round(metric.compute().item(), 4)
        1.7321
    """

    abbreviation = "rmse"

    @property
    def finalizer(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Root of the mean."""
        return root_mean_of


class MaximumAbsoluteError(MeanAbsoluteError):
    """Largest abs(prediction - target) of any valid element, in the field's unit. Weights matter only if they are 0."""

    abbreviation = "max_ae"
    accumulates = "max"

    @property
    def finalizer(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The maximum."""
        return maximum_of

    def reduce(self, residuals: Residuals) -> Tensor:
        """Largest error, shape (); zero for nothing."""
        errors = self.compute_errors(residuals)
        return errors.amax() if errors.numel() else errors.sum()

    def reduce_by(self, residuals: Residuals, index: Tensor, size: int) -> Tensor:
        """Largest error by group: ``index`` of shape (rows,) -> shape (size,); zero for empty groups."""
        errors = self.compute_errors(residuals)
        rows = errors if errors.dim() == 1 else errors.flatten(1).amax(1)
        return rows.new_zeros(size).scatter_reduce(0, index, rows, "amax")


def _compute_huber(difference: Tensor, delta: float | Tensor) -> Tensor:
    """x^2/2 where abs(x) < delta, else delta (abs(x) - delta/2), written with c = min(abs(x), delta)."""
    size = difference.abs()
    clipped = torch.minimum(size, delta) if isinstance(delta, Tensor) else size.clamp(max=delta)
    return clipped * (size - 0.5 * clipped)


class HuberLoss(ErrorMetric):
    """Huber loss of each component: x^2/2 where abs(x) < delta, else delta (abs(x) - delta/2).

    Args:
        reduction: "mean" over all elements, or "sum".
        delta: Where the parabola goes over into a line, in the field's unit.
        ignore_nan: Leave out elements whose target is NaN.
        **kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If ``reduction`` is unknown or ``delta`` is not positive.

    Example:
        0.5^2 / 2 within delta; 1 * (3 - 1/2) beyond it:

        >>> HuberLoss(reduction="sum", delta=1.0)(torch.tensor([0.5, 3.0]), torch.zeros(2)).item()
        2.625
    """

    abbreviation = "huber"

    def __init__(
        self,
        reduction: Literal["mean", "sum"] = "mean",
        delta: float = 1.0,
        ignore_nan: bool = True,
        **kwargs: object,
    ) -> None:
        super().__init__(ignore_nan=ignore_nan, **kwargs)
        if reduction not in ("mean", "sum"):
            raise ConfigError(f"unknown reduction '{reduction}' of {type(self).__name__}", 'write "mean" or "sum"')
        self.reduction = reduction
        self.delta = read_positive(delta, f"delta of {type(self).__name__}")

    @property
    def finalizer(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Mean or sum."""
        return mean_of if self.reduction == "mean" else sum_of

    def errors(self, residuals: Residuals) -> Tensor:
        """Huber loss of each element."""
        return _compute_huber(residuals.difference, self.delta)


class SmoothL1Loss(ErrorMetric):
    """Mean over elements of x^2/(2 beta) where abs(x) < beta, else abs(x) - beta/2: torch.nn.SmoothL1Loss.

    It is the Huber loss with ``delta = beta``, divided by ``beta``.

    Args:
        beta: Where the parabola goes over into a line of slope 1, in the field's unit.
        ignore_nan: Leave out elements whose target is NaN.
        **kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If ``beta`` is not positive.
    """

    abbreviation = "smooth_l1"

    def __init__(self, beta: float = 1.0, ignore_nan: bool = True, **kwargs: object) -> None:
        super().__init__(ignore_nan=ignore_nan, **kwargs)
        self.beta = read_positive(beta, f"beta of {type(self).__name__}")

    def errors(self, residuals: Residuals) -> Tensor:
        """Loss of each element."""
        return _compute_huber(residuals.difference, self.beta) / self.beta


class StratifiedHuberForceLoss(HuberLoss):
    """Huber loss whose delta depends on the norm of the target vector.

    A row belongs to the stratum with the largest lower bound that its norm reaches (``norm >= bound``). If the lowest
    bound is above zero, rows below it get x^2/2 (delta = infinity). Components of a vector whose label is masked count
    as zero in its norm.

    Args:
        delta_dict: Lower bound of the stratum -> its delta, both in the field's unit. Keys may be strings that parse
            as numbers, in any order.
        reduction: "mean" over all components, or "sum".
        edges: Where a norm exactly at a bound belongs: "above", to the stratum that begins there (as in NequIP), or
            "last", to the last stratum, whichever bound it is (as in mlip, whose strata are open intervals).
        ignore_nan: Leave out elements whose target is NaN.
        **kwargs: Options of :class:`torchmetrics.Metric`.

    Raises:
        ConfigError: If a bound is no number, negative or given twice, if a delta is not positive, if there are fewer
            than two strata, or if ``edges`` is something else.

    Example:
        The same error of 1 eV/Angstrom costs less on a larger force: 0.5 with delta 1, 0.1 * (1 - 0.05) with delta 0.1:

        >>> loss = StratifiedHuberForceLoss({0: 1.0, 100: 0.1}, reduction="sum")
        >>> round(loss(torch.tensor([[6.0, 0.0, 0.0]]), torch.tensor([[5.0, 0.0, 0.0]])).item(), 4)
        0.5
        >>> round(loss(torch.tensor([[101.0, 0.0, 0.0]]), torch.tensor([[100.0, 0.0, 0.0]])).item(), 4)
        0.095
    """

    abbreviation = "stratified_huber"

    def __init__(
        self,
        delta_dict: Mapping[float | str, float],
        reduction: Literal["mean", "sum"] = "mean",
        ignore_nan: bool = True,
        edges: Edges = "above",
        **kwargs: object,
    ) -> None:
        super().__init__(reduction, 1.0, ignore_nan, **kwargs)
        if edges not in get_args(Edges):
            raise ConfigError(f"unknown edges '{edges}' of {type(self).__name__}", 'write "above" or "last"')
        self.edges = edges
        self.strata = sort_strata(delta_dict)

    def errors(self, residuals: Residuals) -> Tensor:
        """Huber loss of each component, with the delta of its vector's stratum."""
        norm = torch.linalg.vector_norm(residuals.labels.fill_masked(), dim=-1, keepdim=True)
        delta = torch.full_like(norm, self.strata[0][1])
        for bound, value in self.strata[1:]:
            delta = torch.where(norm >= bound, value, delta)
        if self.edges == "last":
            for bound, _ in self.strata[1:]:
                delta = torch.where(norm == bound, self.strata[-1][1], delta)
        return _compute_huber(residuals.difference, delta)
