"""One prediction beside its target, and what several processes have of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import batch_index
from nequip_like.errors import ConfigError, DataError, ModelError
from nequip_like.metrics.elementwise import ErrorMetric
from nequip_like.metrics.masked import Labels, Residuals
from nequip_like.metrics.modifiers import Modifier
from nequip_like.metrics.terms import Term


def combine_row_weights(graph: Graph, owner: str | None, name: str, labels: Iterable[str] = ()) -> Tensor | None:
    """Weight of each row, shape (rows,): the atom's times that of its frame; None if the data has no weights.

    Args:
        graph: The labels of a batch, with its weights.
        owner: What the rows belong to; None if it is not known.
        name: Name of the metric, for messages.
        labels: Labels that are compared; a frame's own weight of each multiplies that of the frame.
    """
    frame, atom = _multiply_frame_weights(graph, labels), graph.get(fields.ATOM_WEIGHT)
    if owner is None and (frame is not None or atom is not None):
        raise ConfigError(
            f"metric '{name}': it is not known what its rows belong to, so the data's weights cannot be applied",
            "wrap the function: CallableModifier(function, given_owner='graph') (or 'node', 'edge')",
        )
    if owner == "graph":
        return None if frame is None else frame.reshape(-1)
    of_rows = None
    if frame is not None:
        batch = batch_index(graph)
        if owner == "edge":
            batch = batch[graph[fields.EDGE_INDEX][0]]
        of_rows = frame.reshape(-1)[batch]
    if owner == "edge" or atom is None:
        return of_rows
    return atom.reshape(-1) if of_rows is None else atom.reshape(-1) * of_rows


def _multiply_frame_weights(graph: Graph, labels: Iterable[str]) -> Tensor | None:
    """Weights of frames in a comparison of these labels, shape (graphs, 1); None if the data has none."""
    names = [
        fields.FRAME_WEIGHT,
        *sorted(fields.LABEL_WEIGHTS[label] for label in labels if label in fields.LABEL_WEIGHTS),
    ]
    product: Tensor | None = None
    for weight in (graph[name] for name in names if name in graph):
        product = weight if product is None else product * weight
    return product


def divide_by_frame_size(graph: Graph, weight: Tensor | None) -> Tensor:
    """Weights of atoms, shape (atoms,), divided by the number of atoms of their frame."""
    shares = graph[fields.NUM_ATOMS].reshape(-1).double().reciprocal()[batch_index(graph)]
    return shares if weight is None else weight * shares


class Comparison:
    """One prediction beside its target: residuals and weights, each computed once however many metrics use it.

    Args:
        prediction: What the model predicts; None if only the labels are looked at.
        target: The labels.
    """

    def __init__(self, prediction: Graph | None, target: Graph) -> None:
        self.prediction = {} if prediction is None else prediction
        self.target = target
        self._labels: dict[int, Labels] = {}
        self._residuals: dict[int, Residuals] = {}
        self._type_counts: dict[int, Tensor] = {}

    def values(self, term: Term) -> tuple[Tensor, Tensor]:
        """Prediction and label of a term."""
        return self.compute_prediction(term), self.label(term)

    def compute_prediction(self, term: Term) -> Tensor:
        """Prediction of a term."""
        modifier = _require_modifier(term)
        for key in modifier.prediction_fields:
            if key not in self.prediction:
                raise ModelError(
                    f"metric '{term.name}' needs '{key}', which the model does not predict",
                    "remove the metric, or use a model that predicts it",
                )
        return modifier.of_prediction(self.prediction)

    def label(self, term: Term) -> Tensor:
        """Label of a term."""
        modifier = _require_modifier(term)
        for key in modifier.target_fields:
            if key not in self.target:
                raise DataError(
                    f"metric '{term.name}' needs '{key}', which no frame of this data set has",
                    "remove the metric, or name the label's key in the file (data.key_mapping)",
                )
        return modifier.of_target(self.target)

    def collect_labels(self, term: Term, key: int) -> Labels:
        """Labels of a term with their masks and weights; terms with the same key share them."""
        if key not in self._labels:
            label = self.label(term)
            weight = combine_row_weights(
                self.target, _require_modifier(term).owner, term.name, _require_modifier(term).target_fields
            )
            if term.average == "frames":
                weight = divide_by_frame_size(self.target, weight)
            try:
                self._labels[key] = Labels.of(label, weight, ignore_nan=term.ignore_nan)
            except DataError as error:
                raise DataError(f"metric '{term.name}': {error.message}", error.advice) from None
        return self._labels[key]

    def compute_residuals(self, term: Term, key: int) -> Residuals:
        """Residuals of a term; terms with the same key share them."""
        if key not in self._residuals:
            prediction, labels = self.compute_prediction(term), self.collect_labels(term, key)
            try:
                self._residuals[key] = Residuals.of(prediction, labels)
            except DataError as error:
                raise DataError(f"metric '{term.name}': {error.message}", error.advice) from None
        return self._residuals[key]

    def find_types(self, term: Term) -> Tensor:
        """Index of each atom's type, shape (atoms,)."""
        for graph in (self.target, self.prediction):
            if fields.ATOM_TYPES in graph:
                return graph[fields.ATOM_TYPES]
        raise DataError(f"metric '{term.name}' is per type, but the data has no '{fields.ATOM_TYPES}'")

    def count_elements(self, term: Term, metric: ErrorMetric, key: int) -> Sequence[Tensor]:
        """What the sum of a term is divided by, or of each of its types; each of shape ()."""
        labels = self.collect_labels(term, key)
        if not term.type_names:
            return (metric.counts(labels),)
        if metric.own_counts:
            return metric.counts_by(labels, self.find_types(term), len(term.type_names)).unbind()
        if key not in self._type_counts:
            self._type_counts[key] = labels.counts_by(self.find_types(term), len(term.type_names))
        return self._type_counts[key].unbind()


def _require_modifier(term: Term) -> Modifier:
    if term.modifier is None:
        raise ConfigError(f"metric '{term.name}' has no field")
    return term.modifier
