"""Closed forms, masks, weights and gradients of the metric classes."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nequip_like.errors import ConfigError, DataError
from nequip_like.metrics.distribution import RowMetric
from nequip_like.metrics.elementwise import (
    ErrorMetric,
    HuberLoss,
    MaximumAbsoluteError,
    MeanAbsoluteError,
    MeanSquaredError,
    RootMeanSquaredError,
    StratifiedHuberForceLoss,
)
from nequip_like.metrics.masked import Labels, Residuals

NAN = math.nan
EXACT = 1e-12

ALL = [
    MeanAbsoluteError(),
    MeanSquaredError(),
    RootMeanSquaredError(),
    MaximumAbsoluteError(),
    HuberLoss(delta=0.5),
    HuberLoss(reduction="sum", delta=0.5),
    StratifiedHuberForceLoss({0.0: 0.1, 1.0: 0.5}),
]


def tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def value(metric: ErrorMetric, prediction: Tensor, target: Tensor, **kwargs: Tensor) -> float:
    metric.reset()
    metric.update(prediction, target, **kwargs)
    return metric.compute().item()


# Errors in eV/Angstrom: 3, -4, 0, 0.
PREDICTION, TARGET = tensor([3.0, -3.0], [2.0, 5.0]), tensor([0.0, 1.0], [2.0, 5.0])


@pytest.mark.parametrize(
    ("metric", "name", "expected"),
    [
        (MeanAbsoluteError(), "mae", 7 / 4),
        (MeanSquaredError(), "mse", 25 / 4),
        (RootMeanSquaredError(), "rmse", 2.5),
        (MaximumAbsoluteError(), "max_ae", 4.0),
        (HuberLoss(), "huber", (2.5 + 3.5) / 4),
        (HuberLoss(delta=3.5), "huber", (4.5 + 3.5 * (4 - 1.75)) / 4),
        (HuberLoss(delta=100.0), "huber", 12.5 / 4),
        (HuberLoss(reduction="sum"), "huber", 6.0),
        (HuberLoss(delta=3.0), "huber", (4.5 + 3 * 2.5) / 4),
    ],
)
def test_closed_forms(metric: ErrorMetric, name: str, expected: float) -> None:
    assert str(metric) == name
    assert value(metric, PREDICTION, TARGET) == pytest.approx(expected, abs=EXACT)
    assert value(metric, PREDICTION.float(), TARGET.float()) == pytest.approx(expected, abs=1e-6)
    total, count = metric.partial(PREDICTION, TARGET)
    assert metric.finalize(total, count).item() == pytest.approx(expected, abs=EXACT)
    assert total.dtype == count.dtype == torch.float64


def test_stratified_huber() -> None:
    # Norms of the targets, in eV/Angstrom: 0.5 (below all bounds), 1 (exactly at a bound), 5.
    target = tensor([0.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 4.0])
    prediction = target + tensor([2.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, 0.1, 0.0])
    below, at_bound, above = 2.0, 0.5 * (2 - 0.25), 0.25 * (2 - 0.125) + 0.5 * 0.1**2
    metric = StratifiedHuberForceLoss({"2.0": 0.25, "1": 0.5}, reduction="sum")
    assert str(metric) == "stratified_huber"
    assert metric.strata == ((0.0, math.inf), (1.0, 0.5), (2.0, 0.25))
    assert value(metric, prediction, target) == pytest.approx(below + at_bound + above, abs=EXACT)
    mean = StratifiedHuberForceLoss({1: 0.5, 2: 0.25})
    assert value(mean, prediction, target) == pytest.approx((below + at_bound + above) / 9, abs=EXACT)
    one = StratifiedHuberForceLoss({0: 0.5, 1: 0.5}, reduction="sum")
    assert value(one, prediction, target) == pytest.approx(value(HuberLoss("sum", 0.5), prediction, target), abs=EXACT)


def test_stratified_huber_gradient_is_that_of_huber() -> None:
    target = tensor([0.0, 0.0, 0.1], [0.0, 3.0, 4.0])
    prediction = (target + tensor([0.3, 0.0, -2.0], [0.2, 0.7, -2.0])).requires_grad_()
    total, _ = StratifiedHuberForceLoss({0: 0.5, 1: 0.25}, reduction="sum").partial(prediction, target)
    (gradient,) = torch.autograd.grad(total, prediction)
    torch.testing.assert_close(gradient, tensor([0.3, 0.0, -0.5], [0.2, 0.25, -0.25]))


@pytest.mark.parametrize(
    "delta_dict",
    [{}, {0: 0.1}, {"a": 0.1, 1: 0.2}, {0: 0.1, 1: 0.0}, {0: 0.1, 1: -1}, {-1: 0.1, 1: 1}, {1: 0.1, "1.0": 0.2}],
)
def test_stratified_huber_refuses(delta_dict: dict[float | str, float]) -> None:
    with pytest.raises(ConfigError):
        StratifiedHuberForceLoss(delta_dict)


def test_huber_refuses() -> None:
    with pytest.raises(ConfigError, match="reduction 'none'"):
        HuberLoss(reduction="none")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="larger than 0"):
        HuberLoss(delta=0.0)
    with pytest.raises(ConfigError, match="no number"):
        HuberLoss(delta="wide")  # type: ignore[arg-type]


def test_shapes_are_never_broadcast() -> None:
    with pytest.raises(DataError, match=r"\(3,\).*\(3, 1\)"):
        MeanSquaredError().update(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(DataError, match="2 weights for 3 rows"):
        MeanSquaredError().update(torch.zeros(3), torch.zeros(3), weight=torch.ones(2))


def test_weights() -> None:
    # Per row: abs errors (3, 4) and (0, 0), weights 1 and 3: each counts once per component.
    weight = tensor(1.0, 3.0)
    assert value(MeanAbsoluteError(), PREDICTION, TARGET, weight=weight) == pytest.approx(7 / 8, abs=EXACT)
    assert value(MeanSquaredError(), PREDICTION, TARGET, weight=weight) == pytest.approx(25 / 8, abs=EXACT)
    rmse = value(RootMeanSquaredError(), PREDICTION, TARGET, weight=weight[:, None])
    assert rmse == pytest.approx(math.sqrt(25 / 8), abs=EXACT)
    assert value(MaximumAbsoluteError(), PREDICTION, TARGET, weight=weight) == 4.0
    assert value(HuberLoss("sum"), PREDICTION, TARGET, weight=tensor(2.0, 3.0)) == pytest.approx(12.0, abs=EXACT)


def test_weights_of_missing_labels_do_not_count() -> None:
    target = tensor([NAN, 1.0], [2.0, 5.0])
    assert value(MeanAbsoluteError(), PREDICTION, target, weight=tensor(3.0, 1.0)) == pytest.approx(12 / 5, abs=EXACT)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: f"{metric}")
def test_rows_of_weight_zero_are_masked(metric: ErrorMetric) -> None:
    prediction, target = tensor([1.0, 2.0], [NAN, 9.0]).requires_grad_(), tensor([0.0, 0.5], [1.0, 1.0])
    weighted = value(metric, prediction, target, weight=tensor(1.0, 0.0))
    assert weighted == pytest.approx(value(metric, prediction[:1], target[:1]), abs=EXACT)
    metric.finalize(*metric.partial(prediction, target, tensor(1.0, 0.0))).backward()
    assert prediction.grad is not None
    assert prediction.grad[1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: f"{metric}")
def test_nan_targets_are_masked_without_gradient(metric: ErrorMetric) -> None:
    prediction = tensor([1.0, 2.0], [NAN, 5.0]).requires_grad_()
    target = tensor([0.0, 0.5], [NAN, NAN])
    result = metric.finalize(*metric.partial(prediction, target))
    result.backward()
    assert result.item() == pytest.approx(value(metric, prediction[:1], target[:1]), abs=EXACT)
    assert prediction.grad is not None
    assert prediction.grad[1].tolist() == [0.0, 0.0]
    assert prediction.grad[0].abs().sum() > 0


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: f"{metric}")
def test_explicit_masks(metric: ErrorMetric) -> None:
    rows = value(metric, PREDICTION, TARGET, mask=torch.tensor([False, True]))
    assert rows == pytest.approx(value(metric, PREDICTION[1:], TARGET[1:]), abs=EXACT)
    mask = torch.tensor([[True, False], [True, True]])
    total, count = MeanAbsoluteError().partial(PREDICTION, TARGET, mask=mask)
    assert (total.item(), count.item()) == (3.0, 3.0)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: f"{metric}")
@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_non_finite_predictions_propagate(metric: ErrorMetric, bad: float) -> None:
    assert not math.isfinite(value(metric, tensor([1.0, bad]), tensor([0.0, 0.0])))


def test_nan_targets_propagate_on_request() -> None:
    assert math.isnan(value(MeanSquaredError(ignore_nan=False), tensor(1.0, 2.0), tensor(NAN, 2.0)))
    assert math.isnan(value(MaximumAbsoluteError(ignore_nan=False), tensor(1.0, 2.0), tensor(NAN, 2.0)))


def test_root_has_no_nan_gradient_at_zero_error() -> None:
    prediction = tensor(1.0, 2.0).requires_grad_()
    metric = RootMeanSquaredError()
    metric.finalize(*metric.partial(prediction, prediction.detach())).backward()
    assert prediction.grad is not None
    assert prediction.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: f"{metric}")
def test_empty_batches_change_nothing(metric: ErrorMetric) -> None:
    metric.reset()
    metric.update(torch.zeros(0, 2), torch.zeros(0, 2))
    if metric.finalizer.__name__ != "sum_of":
        assert math.isnan(metric.compute().item())
    metric.update(PREDICTION, TARGET)
    before = metric.compute().item()
    metric.update(torch.zeros(0, 2), torch.zeros(0, 2))
    metric.update(PREDICTION, torch.full_like(TARGET, NAN))
    assert metric.compute().item() == before == value(metric, PREDICTION, TARGET)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: f"{metric}")
def test_torchmetrics_forward_gives_the_batch_and_keeps_the_epoch(metric: ErrorMetric) -> None:
    metric.reset()
    assert metric(PREDICTION[:1], TARGET[:1]).item() == pytest.approx(
        metric.finalize(*metric.partial(PREDICTION[:1], TARGET[:1])).item(), abs=EXACT
    )
    metric(PREDICTION[1:], TARGET[1:])
    assert metric.compute().item() == pytest.approx(value(metric, PREDICTION, TARGET), abs=EXACT)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_epoch_values_do_not_depend_on_batches(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 17))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    target = torch.randn(rows, 3, dtype=torch.float64, generator=generator)
    prediction = target + torch.randn(rows, 3, dtype=torch.float64, generator=generator)
    target[torch.rand(rows, generator=generator) < 0.3] = NAN
    weight = torch.rand(rows, dtype=torch.float64, generator=generator)
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=5)))
    for metric in ALL:
        whole = value(metric, prediction, target, weight=weight)
        metric.reset()
        for start, stop in zip([0, *cuts], [*cuts, rows], strict=True):
            metric.update(prediction[start:stop], target[start:stop], weight[start:stop])
        assert metric.compute().item() == pytest.approx(whole, abs=EXACT, rel=EXACT, nan_ok=True)


# --- metrics of a user


class Lengths(ErrorMetric):
    def errors(self, residuals: Residuals) -> Tensor:
        return residuals.difference.norm(dim=-1)


class MeanOfAll(ErrorMetric):
    def errors(self, residuals: Residuals) -> Tensor:
        return residuals.difference.abs().mean()


class NothingReturned(ErrorMetric):
    def errors(self, residuals: Residuals) -> Tensor:
        residuals.difference.abs()  # a return was meant


class LengthsOfRows(RowMetric):
    def errors(self, residuals: Residuals) -> Tensor:
        return residuals.difference.norm(dim=-1)


class ComponentsOfRows(RowMetric):
    def errors(self, residuals: Residuals) -> Tensor:
        return residuals.difference.abs()


@pytest.mark.parametrize(
    ("metric", "gives", "wanted"),
    [
        (Lengths, "the shape (2,)", "(2, 3)"),
        (MeanOfAll, "the shape ()", "(2, 3)"),
        (NothingReturned, "NoneType", "(2, 3)"),
        (ComponentsOfRows, "the shape (2, 3)", "(2,)"),
    ],
)
def test_errors_of_another_shape_are_refused(metric: type[ErrorMetric], gives: str, wanted: str) -> None:
    message = (
        f"errors of the metric {metric.__name__} gives {gives}, not the shape {wanted}\n  -> give one value for each "
    )
    prediction, target = torch.ones(2, 3), torch.zeros(2, 3)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        metric().update(prediction, target)
    residuals = Residuals.of(prediction, Labels.of(target))
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):  # as a term that is per type
        metric().reduce_by(residuals, torch.tensor([0, 1]), 2)


def test_advice_for_one_value_for_each_row_is_followed() -> None:
    with pytest.raises(ConfigError, match=r"derive the class from nequip_like\.metrics\.distribution\.RowMetric$"):
        Lengths().update(torch.ones(2, 3), torch.zeros(2, 3))
    prediction, target = tensor([3.0, 4.0, 0.0], [0.0, 0.0, 1.0], [9.0, 9.0, 9.0]), torch.zeros(3, 3)
    target[2] = NAN
    assert value(LengthsOfRows(), prediction, target) == 3.0
    assert value(LengthsOfRows(), prediction, target, weight=tensor(1.0, 3.0, 1.0)) == 2.0
    residuals = Residuals.of(prediction, Labels.of(target))
    assert LengthsOfRows().reduce_by(residuals, torch.tensor([1, 0, 0]), 2).tolist() == [1.0, 5.0]
    assert LengthsOfRows().counts_by(residuals.labels, torch.tensor([1, 0, 0]), 2).tolist() == [1.0, 1.0]


def test_a_class_without_errors_says_what_it_lacks() -> None:
    class Misnamed(ErrorMetric):
        def error(self, residuals: Residuals) -> Tensor:
            return residuals.difference

    with pytest.raises(ConfigError, match=r"^the metric Misnamed has no method errors\n  -> define errors\(self, "):
        Misnamed()
