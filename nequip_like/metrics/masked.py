"""A prediction beside its labels: which elements count, by how much, and the errors that all metrics share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import batch_index
from nequip_like.data.loader import is_without_frame
from nequip_like.errors import ConfigError, DataError, ModelError
from nequip_like.metrics.modifiers import Average, Modifier


def _expand_to_rows(values: Tensor, target: Tensor) -> Tensor:
    """Append dimensions to ``values`` until it broadcasts along the rows of ``target``."""
    return values.reshape(values.shape + (1,) * (target.dim() - values.dim()))


def _mark_labels(target: Tensor) -> Tensor | None:
    """Which elements are not NaN; None if that is known of all."""
    # On a CPU the question costs less than masks that mask nothing, in the loss and in its gradient. The sum answers it
    # in one operation, but for labels that are infinite.
    if target.device.type == "cpu" and not math.isnan(target.sum().item()):
        return None
    return ~torch.isnan(target)


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
        """Look at labels. No data-dependent shapes; on a GPU no synchronisation.

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
        valid = _mark_labels(target) if ignore_nan else None
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

    def check_errors(self, errors: Any, name: str, per_row: bool = False) -> Tensor:
        """Refuse errors of another shape than that of the differences.

        Args:
            errors: What a metric made of the residuals.
            name: Its class, for messages.
            per_row: Whether it has to be one value for each row, shape (rows,).

        Returns:
            The errors.

        Raises:
            ConfigError: If they have another shape, or are no tensor.
        """
        wanted = self.difference.shape[:1] if per_row else self.difference.shape
        if isinstance(errors, Tensor) and errors.shape == wanted:
            return errors
        gives = f"the shape {tuple(errors.shape)}" if isinstance(errors, Tensor) else type(errors).__name__
        raise ConfigError(
            f"errors of the metric {name} gives {gives}, not the shape {tuple(wanted)}",
            "give one value for each row, without a mean over them"
            if per_row
            else "give one value for each component, without a mean over them; for one value for each row (an atom, a "
            "frame), derive the class from nequip_like.metrics.distribution.RowMetric",
        )

    def weighted(self, errors: Tensor) -> Tensor:
        """Errors of elements times their weights, shape (rows, ...)."""
        return errors if self.labels.weight is None else errors * self.labels.weight


class Quantity:
    """What metrics compare, and which of its elements count; metrics of one quantity share labels and residuals.

    Args:
        name: Name of the first of these metrics, for messages.
        modifier: What is compared.
        ignore_nan: Leave out elements whose label is NaN.
        average: "elements": all count the same. "frames": each frame counts the same, whatever its number of atoms.

    Attributes:
        predicted: Fields that a prediction must have.
        labels: Fields that the data must have.
        owner: What a row belongs to; None if it is not known.
        frame_weights: Fields of the data that weight its frames, as far as they are there.
    """

    def __init__(self, name: str, modifier: Modifier, ignore_nan: bool = True, average: Average = "elements") -> None:
        self.name = name
        self.modifier = modifier
        self.ignore_nan = ignore_nan
        self.average = average
        self.predicted = tuple(modifier.prediction_fields)
        self.labels = tuple(modifier.target_fields)
        self.owner = modifier.owner
        of_labels = sorted(fields.LABEL_WEIGHTS[label] for label in self.labels if label in fields.LABEL_WEIGHTS)
        self.frame_weights = (fields.FRAME_WEIGHT, *of_labels)


class Comparison:
    """One prediction beside its target: residuals and weights, each computed once however many metrics use it.

    Args:
        prediction: What the model predicts; None if only the labels are looked at.
        target: The labels.
    """

    def __init__(self, prediction: Graph | None, target: Graph) -> None:
        self.prediction = {} if prediction is None else prediction
        self.target = target
        self._labels: dict[Quantity, Labels] = {}
        self._residuals: dict[Quantity, Residuals] = {}
        self._type_counts: dict[Quantity, Tensor] = {}

    def find_prediction(self, quantity: Quantity) -> Tensor:
        """Prediction of a quantity, shape (rows, ...).

        Raises:
            ModelError: If the model does not predict it.
        """
        for key in quantity.predicted:
            if key not in self.prediction:
                raise ModelError(
                    f"metric '{quantity.name}' needs '{key}', which the model does not predict",
                    "remove the metric, or use a model that predicts it",
                )
        return quantity.modifier.of_prediction(self.prediction)

    def find_label(self, quantity: Quantity) -> Tensor:
        """Label of a quantity, shape (rows, ...).

        Raises:
            DataError: If the data do not have it.
        """
        for key in quantity.labels:
            if key not in self.target:
                raise DataError(
                    f"metric '{quantity.name}' needs '{key}', which no frame of this data set has",
                    "remove the metric, or name the label's key in the file (key_mapping)",
                )
        return quantity.modifier.of_target(self.target)

    def find_types(self, name: str) -> Tensor:
        """Index of each atom's type, shape (atoms,).

        Args:
            name: Name of the metric that needs it, for messages.

        Raises:
            DataError: If neither side tells the types.
        """
        for graph in (self.target, self.prediction):
            if fields.ATOM_TYPES in graph:
                return graph[fields.ATOM_TYPES]
        raise DataError(f"metric '{name}' is per type, but the data has no '{fields.ATOM_TYPES}'")

    def weigh_rows(self, quantity: Quantity) -> Tensor | None:
        """Weight of each row, shape (rows,): the atom's times that of its frame; None if the data has no weights.

        Raises:
            ConfigError: If the data has weights, and it is not known what the rows belong to.
        """
        frame, atom = _multiply_weights(self.target, quantity.frame_weights), self.target.get(fields.ATOM_WEIGHT)
        if quantity.owner is None and (frame is not None or atom is not None):
            raise ConfigError(
                f"metric '{quantity.name}': it is not known what its rows belong to, so the data's weights cannot be "
                "applied",
                "wrap the function: CallableModifier(function, given_owner='graph') (or 'node', 'edge')",
            )
        if quantity.owner == "graph":
            return None if frame is None else frame.reshape(-1)
        of_rows = None
        if frame is not None:
            batch = batch_index(self.target)
            if quantity.owner == "edge":
                batch = batch[self.target[fields.EDGE_INDEX][0]]
            of_rows = frame.reshape(-1)[batch]
        if quantity.owner == "edge" or atom is None:
            return of_rows
        return atom.reshape(-1) if of_rows is None else atom.reshape(-1) * of_rows

    def collect_labels(self, quantity: Quantity) -> Labels:
        """Labels of a quantity with their masks and weights."""
        if quantity not in self._labels:
            label, weight = self.find_label(quantity), self.weigh_rows(quantity)
            if quantity.average == "frames":
                weight = _divide_by_frame_size(self.target, weight)
            try:
                ignore_nan = quantity.ignore_nan or is_without_frame(self.target)
                self._labels[quantity] = Labels.of(label, weight, ignore_nan=ignore_nan)
            except DataError as error:
                raise DataError(f"metric '{quantity.name}': {error.message}", error.advice) from None
        return self._labels[quantity]

    def compute_residuals(self, quantity: Quantity) -> Residuals:
        """Residuals of a quantity."""
        if quantity not in self._residuals:
            prediction, labels = self.find_prediction(quantity), self.collect_labels(quantity)
            try:
                self._residuals[quantity] = Residuals.of(prediction, labels)
            except DataError as error:
                raise DataError(f"metric '{quantity.name}': {error.message}", error.advice) from None
        return self._residuals[quantity]

    def count_by_type(self, quantity: Quantity, types: Tensor, size: int) -> Tensor:
        """Counts (or sums of weights) of a quantity of atoms by their type, shape (size,)."""
        if quantity not in self._type_counts:
            self._type_counts[quantity] = self.collect_labels(quantity).counts_by(types, size)
        return self._type_counts[quantity]


def _multiply_weights(graph: Graph, names: Iterable[str]) -> Tensor | None:
    """Product of those weights of frames that a graph has, shape (graphs, 1); None if it has none."""
    product: Tensor | None = None
    for weight in (graph[name] for name in names if name in graph):
        product = weight if product is None else product * weight
    return product


def _divide_by_frame_size(graph: Graph, weight: Tensor | None) -> Tensor:
    """Weights of atoms, shape (atoms,), divided by the number of atoms of their frame."""
    shares = graph[fields.NUM_ATOMS].reshape(-1).double().reciprocal()[batch_index(graph)]
    return shares if weight is None else weight * shares
