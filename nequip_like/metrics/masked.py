"""Labels and errors of one field, masked and weighted: what all metrics of that field share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nequip_like.errors import DataError


def _expand_to_rows(values: Tensor, target: Tensor) -> Tensor:
    """Append dimensions to ``values`` until it broadcasts along the rows of ``target``."""
    return values.reshape(values.shape + (1,) * (target.dim() - values.dim()))


def sum_rows_by_group(elements: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum all elements of the rows of each group: (rows, ...) and ``index`` of shape (rows,) -> (size,)."""
    rows = elements if elements.dim() == 1 else elements.flatten(1).sum(1)
    return rows.new_zeros(size).index_add(0, index, rows)


@dataclass(frozen=True, slots=True)
class Labels:
    """Which elements of a label count, and by how much; no prediction is needed to know that.

    Attributes:
        target: The labels, float64, shape (rows, ...).
        valid: Which elements count, shape (rows, ...); None if all do.
        weight: Weight of each element, shape (rows, ...), zero where masked; None if all weights are 1.
        count: Number of valid elements, or the sum of their weights; shape ().
    """

    target: Tensor
    valid: Tensor | None
    weight: Tensor | None
    count: Tensor

    @classmethod
    def of(
        cls, target: Tensor, weight: Tensor | None = None, mask: Tensor | None = None, ignore_nan: bool = True
    ) -> Labels:
        """Look at labels. No data-dependent shapes, no host synchronisation.

        Args:
            target: Shape (rows, ...), in the field's unit.
            weight: Weight of each row, shape (rows,) or (rows, 1). Rows of weight zero are masked.
            mask: True where an element counts, shape (rows,) or that of ``target``.
            ignore_nan: Mask the elements whose target is NaN. Otherwise NaN targets propagate.

        Raises:
            DataError: If there is not one weight for each row.

        Example:
            A row of weight zero is masked like one that is NaN; weights add up once for each element:

            >>> target = torch.tensor([[1.0, 1.0], [2.0, 2.0], [torch.nan, torch.nan]])
            >>> labels = Labels.of(target, weight=torch.tensor([0.5, 0.0, 1.0]))
            >>> labels.valid.tolist(), labels.count.item()
            ([[True, True], [False, False], [False, False]], 1.0)
        """
        target = target.double()
        valid = ~torch.isnan(target) if ignore_nan else None
        if mask is not None:
            mask = _expand_to_rows(mask, target)
            valid = mask.expand_as(target) if valid is None else valid & mask
        if weight is not None:
            if weight.numel() != target.shape[0]:
                raise DataError(f"{weight.numel()} weights for {target.shape[0]} rows", "give one weight per row")
            weight = _expand_to_rows(weight.reshape(-1).double(), target).expand_as(target)
            valid = weight != 0 if valid is None else valid & (weight != 0)
        if valid is None:
            count = target.new_full((), target.numel())
        elif weight is None:
            count = valid.sum(dtype=torch.float64)
        else:
            weight = torch.where(valid, weight, 0.0)
            count = weight.sum()
        return cls(target, valid, weight, count)

    def counts_by(self, index: Tensor, size: int) -> Tensor:
        """Counts (or sums of weights) by group: ``index`` of shape (rows,) -> shape (size,)."""
        elements = self.weight if self.weight is not None else self.valid
        if elements is None:
            elements = torch.ones_like(self.target)
        return sum_rows_by_group(elements.double(), index, size)

    def fill_masked(self) -> Tensor:
        """The labels, with zero where masked, shape (rows, ...)."""
        return self.target if self.valid is None else torch.where(self.valid, self.target, 0.0)

    def row_weight(self) -> Tensor:
        """Weight of each row, shape (rows,): 1 without weights; rows without any valid element have 0."""
        if self.weight is not None:
            return self.weight.flatten(1).amax(1) if self.weight.dim() > 1 else self.weight
        if self.valid is None:
            return self.target.new_ones(self.target.shape[0])
        return (self.valid.flatten(1).any(1) if self.valid.dim() > 1 else self.valid).double()


@dataclass(frozen=True, slots=True)
class Residuals:
    """Masked errors of one field.

    Attributes:
        difference: prediction - target, float64, shape (rows, ...); exactly zero where masked, with zero gradient.
        labels: The labels.

    Example:
        Shapes are never broadcast: energies (2, 1) and (2,) would make four differences.

        >>> Residuals.of(torch.zeros(2, 1), Labels.of(torch.zeros(2)))
        Traceback (most recent call last):
        ...
        nequip_like.errors.DataError: the prediction has shape (2, 1), its label (2,)
          -> both must have the same shape; see the table in nequip_like.data.fields
    """

    difference: Tensor
    labels: Labels

    @classmethod
    def of(cls, prediction: Tensor, labels: Labels) -> Residuals:
        """Compare a prediction with its labels. No data-dependent shapes, no host synchronisation.

        Args:
            prediction: Shape (rows, ...), in the field's unit.
            labels: The labels.

        Raises:
            DataError: If shapes do not match (they are never broadcast against each other).
        """
        if prediction.shape != labels.target.shape:
            raise DataError(
                f"the prediction has shape {tuple(prediction.shape)}, its label {tuple(labels.target.shape)}",
                "both must have the same shape; see the table in nequip_like.data.fields",
            )
        difference = prediction.double() - labels.target
        return cls(difference if labels.valid is None else torch.where(labels.valid, difference, 0.0), labels)

    def weighted(self, errors: Tensor) -> Tensor:
        """Errors of elements times their weights, shape (rows, ...)."""
        return errors if self.labels.weight is None else errors * self.labels.weight
