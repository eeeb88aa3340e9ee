"""Metrics that are not this package's, in a metrics manager: their values and states."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from nequip_like.data.loader import is_without_frame
from nequip_like.errors import ConfigError
from nequip_like.metrics.masked import Comparison, Quantity
from nequip_like.metrics.terms import Term


def update(term: Term, quantity: Quantity | None, batch: Comparison, step: bool) -> Tensor | None:
    """Update the metric of a term with a batch.

    Args:
        term: The term, with a metric that is not ours.
        quantity: What it compares; None if it gets whole graphs.
        batch: Prediction and target.
        step: Also compute the value of this batch.

    Returns:
        The value of the batch, float64, shape (); 0 without ``step``; None if no element has a label.
    """
    prediction: Any = batch.prediction
    target: Any = batch.target
    if quantity is not None:
        prediction, target = batch.find_prediction(quantity), batch.find_label(quantity)
        if quantity.ignore_nan or is_without_frame(batch.target):
            valid = ~torch.isnan(target)
            prediction, target = prediction[valid], target[valid]
        if target.numel() == 0:
            return None
    if step:
        return _read_scalar(term, term.metric(prediction, target))
    term.metric.update(prediction, target)
    return torch.zeros((), dtype=torch.float64)


def label_count(quantity: Quantity | None, batch: Comparison) -> Tensor:
    """1 if a metric of a quantity would find a label in the batch, else 0; float64, shape ()."""
    target = None if quantity is None else batch.find_label(quantity)
    if quantity is None or target is None or not (quantity.ignore_nan or is_without_frame(batch.target)):
        return torch.ones((), dtype=torch.float64)
    return (~torch.isnan(target)).any().double()


def compute(term: Term) -> Tensor:
    """Value of a metric that was updated on some process, though perhaps not on this one; float64, shape ()."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*was called before the ``update`` method.*")
        return _read_scalar(term, term.metric.compute())


def _read_scalar(term: Term, value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ConfigError(f"metric '{term.name}' does not give one number", "use a metric with a scalar value")
    return value.reshape(()).double()


def running_state(metrics: Sequence[Metric]) -> dict[str, Any]:
    """Copies of the states, flat: ``foreign_0.total`` and so on."""
    return {
        f"foreign_{index}.{name}": copy.deepcopy(value)
        for index, metric in enumerate(metrics)
        for name, value in metric.metric_state.items()
    }


def set_running_state(metrics: Sequence[Metric], state: Mapping[str, Any]) -> None:
    """Put copies of the states of :func:`running_state` in place."""
    for index, metric in enumerate(metrics):
        metric.reset()  # also forgets a value that was computed
        for name in metric.metric_state:
            setattr(metric, name, copy.deepcopy(state[f"foreign_{index}.{name}"]))
