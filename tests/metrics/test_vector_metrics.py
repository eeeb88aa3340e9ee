"""Relative error, direction and percentiles: values by hand, missing labels, vectors of length zero, batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nequip_like.data.fields import Graph
from nequip_like.errors import ConfigError
from nequip_like.metrics import (
    AbsoluteErrorQuantile,
    CosineSimilarity,
    EnergyForceMetrics,
    EnergyForceStressMetrics,
    EnergyOnlyMetrics,
    MetricsManager,
    RelativeError,
)
from nequip_like.metrics.distribution import BINS
from nequip_like.training import NequIPLightningModule
from tests.metrics.test_manager import join, random_graphs

NAN = math.nan
TYPES = ["H", "O"]


def tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def forces(predicted: Tensor, labelled: Tensor, types: list[int] | None = None) -> tuple[Graph, Graph]:
    target: Graph = {
        "pos": torch.zeros(len(labelled), 3),
        "num_atoms": torch.tensor([len(labelled)]),
        "atom_types": torch.tensor(types or [0] * len(labelled)),
        "forces": labelled,
    }
    return target | {"forces": predicted}, target


def step(metric: type, predicted: Tensor, labelled: Tensor, **entry: object) -> float:
    manager = MetricsManager([{"field": "forces", "metric": metric, "name": "it", **entry}], TYPES)
    return manager.step(*forces(predicted, labelled))["it"].item()


# --- relative error


def test_relative_error_by_hand() -> None:
    labelled = tensor([3.0, 0.0, 4.0], [0.0, 0.0, 5.0])
    predicted = tensor([3.0, 1.0, 4.0], [0.0, 0.0, 3.0])
    assert step(RelativeError, predicted, labelled) == pytest.approx((1 + 2) / 10)
    # A label of length zero adds to the errors only; one without any component is left out altogether.
    more = torch.cat([labelled, tensor([0.0, 0.0, 0.0], [NAN, NAN, NAN])])
    assert step(RelativeError, torch.cat([predicted, tensor([0.0, 2.0, 0.0], [9.0, 9.0, 9.0])]), more) == 0.5
    assert step(RelativeError, tensor([3.0, 4.0, 9.0]), tensor([3.0, 5.0, NAN])) == pytest.approx(1 / math.sqrt(34))
    assert math.isnan(step(RelativeError, predicted, torch.zeros(2, 3)))
    assert math.isnan(step(RelativeError, predicted, torch.full((2, 3), NAN)))
    assert math.isnan(step(RelativeError, predicted, tensor([NAN, 0.0, 0.0], [1.0, 0.0, 0.0]), ignore_nan=False))


def test_relative_error_does_not_depend_on_the_orientation() -> None:
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    generator = torch.Generator().manual_seed(1)
    predicted, labelled = (torch.randn(7, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    for metric in (RelativeError, CosineSimilarity):
        turned = step(metric, predicted @ rotation, labelled @ rotation)
        assert turned == pytest.approx(step(metric, predicted, labelled), rel=1e-12)


def test_relative_error_can_be_trained_on() -> None:
    manager = MetricsManager([{"field": "forces", "metric": RelativeError, "coeff": 1}])
    prediction, target = forces(tensor([3.0, 0.0, 0.0], [1.0, 1.0, 1.0]), tensor([1.0, 0.0, 0.0], [1.0, 1.0, 1.0]))
    prediction["forces"].requires_grad_()
    manager.step(prediction, target)["weighted_sum"].backward()
    expected = tensor([1.0, 0.0, 0.0], [0.0, 0.0, 0.0]) / (1 + math.sqrt(3))
    assert torch.allclose(prediction["forces"].grad, expected, atol=1e-15)  # type: ignore[arg-type]


# --- direction


def test_cosine_by_hand() -> None:
    labelled = tensor([1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0])
    predicted = tensor([5.0, 0.0, 0.0], [0.0, -1.0, 0.0], [1.0, 0.0, 1.0])
    assert step(CosineSimilarity, predicted, labelled) == pytest.approx((1 - 1 + math.sqrt(0.5)) / 3)
    # No direction: a label of length zero, or one that lacks a component. A prediction of zero counts as 0.
    more = torch.cat([labelled, tensor([0.0, 0.0, 0.0], [1.0, NAN, 0.0], [1.0, 0.0, 0.0])])
    all_predicted = torch.cat([predicted, tensor([1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0])])
    assert step(CosineSimilarity, all_predicted, more) == pytest.approx(math.sqrt(0.5) / 4)
    assert math.isnan(step(CosineSimilarity, predicted, torch.zeros(3, 3)))
    assert step(CosineSimilarity, predicted, predicted) == pytest.approx(1.0, rel=1e-15)


def test_cosine_has_no_coefficient() -> None:
    with pytest.raises(ConfigError, match="of CosineSimilarity larger is better"):
        MetricsManager([{"field": "forces", "metric": CosineSimilarity, "coeff": 1}])


# --- percentiles


def test_percentile_by_hand() -> None:
    errors = torch.arange(1, 21, dtype=torch.float64)  # 95 % of 20 are 19
    metric = AbsoluteErrorQuantile()
    metric.update(errors, torch.zeros(20))
    assert metric.compute().item() == pytest.approx(19.0, rel=1 / 256)
    assert str(metric) == "p95"
    assert str(AbsoluteErrorQuantile(0.999)) == "p99_9"
    half = AbsoluteErrorQuantile(0.5)
    half.update(-errors, torch.zeros(20), weight=torch.tensor([0.0] * 10 + [1.0] * 10))
    assert half.compute().item() == pytest.approx(15.0, rel=1 / 256)
    half.reset()
    half.update(torch.zeros(3), torch.full((3,), NAN))
    assert math.isnan(half.compute().item())
    half.update(torch.zeros(3), torch.zeros(3))
    assert half.compute().item() == 0.0
    assert step(AbsoluteErrorQuantile, tensor([1.0, 2.0, 8.0]), tensor([0.0, 0.0, NAN])) == pytest.approx(
        2, rel=1 / 256
    )
    assert math.isnan(step(AbsoluteErrorQuantile, tensor([1.0, 2.0, 8.0]), torch.full((1, 3), NAN)))


def test_errors_that_are_not_finite_are_not_hidden() -> None:
    for wrong in (math.inf, NAN):
        metric = AbsoluteErrorQuantile(0.5)
        metric.update(tensor(0.1, 0.2, 0.3, wrong), torch.zeros(4))
        assert not math.isfinite(metric.compute().item())
        manager = MetricsManager([{"field": "forces", "metric": AbsoluteErrorQuantile(0.1)}])
        values = manager.step(*forces(tensor([0.1, 0.2, wrong]), torch.zeros(1, 3)))
        assert manager.not_finite(values, manager.in_step) == ["F_p10"]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(1e-11, 1e11), min_size=1, max_size=60),
    st.sampled_from([0.05, 0.5, 0.95, 1.0]),
    st.integers(1, 7),
)
def test_percentile_is_within_its_bound_of_numpy(errors: list[float], q: float, size: int) -> None:
    metric = AbsoluteErrorQuantile(q)
    for start in range(0, len(errors), size):
        part = tensor(*errors[start : start + size])
        metric.update(part, torch.zeros_like(part))
    expected = np.quantile(errors, q, method="inverted_cdf")
    assert metric.compute().item() == pytest.approx(expected, rel=1 / 256)
    whole = AbsoluteErrorQuantile(q)
    whole.update(tensor(*errors), torch.zeros(len(errors), dtype=torch.float64))
    assert whole.compute().item() == metric.compute().item()


@pytest.mark.parametrize("q", [0.0, 1.5, -0.1, True, "0.9", NAN])
def test_wrong_shares(q: float) -> None:
    with pytest.raises(ConfigError, match="q of AbsoluteErrorQuantile"):
        AbsoluteErrorQuantile(q)


def test_a_percentile_cannot_be_trained_on(make_potential) -> None:
    term = {"field": "forces", "metric": AbsoluteErrorQuantile, "coeff": 1}
    assert MetricsManager([term]).has_weighted_sum  # as metrics of a validation it may be followed
    with pytest.raises(ConfigError, match=r"^loss has 'F_p95', which cannot be trained on"):
        NequIPLightningModule(make_potential(), loss=MetricsManager([term]))


# --- all of them in managers

NAMES = {
    EnergyOnlyMetrics: {"per_atom_energy_p95"},
    EnergyForceMetrics: {
        *("per_atom_energy_p95", "forces_p95", "forces_relative", "forces_cosine"),
        *(f"per_type_forces_{metric}{kind}" for metric in ("rmse", "mae") for kind in ("", "_H", "_O")),
    },
    EnergyForceStressMetrics: {"stress_p95", "per_atom_stress_rmse", "per_atom_stress_mae"},
}
NAMES[EnergyForceStressMetrics] |= NAMES[EnergyForceMetrics]


@pytest.mark.parametrize("preset", NAMES)
def test_extended_names(preset) -> None:
    plain, extended = preset(type_names=TYPES), preset(type_names=TYPES, extended=True)
    assert set(extended.log_names) - set(plain.log_names) == NAMES[preset]
    assert {name: coeff for name, coeff in extended.coeffs.items() if coeff} == {
        name: coeff for name, coeff in plain.coeffs.items() if coeff
    }


@pytest.mark.parametrize("size", [1, 3, 7])
def test_extended_values_do_not_depend_on_the_batch_size(size: int) -> None:
    pairs = random_graphs(14, seed=5)
    whole, manager = (EnergyForceStressMetrics(type_names=TYPES, extended=True) for _ in range(2))
    expected = whole.step(*join(pairs))
    for start in range(0, 14, size):
        manager.update(*join(pairs[start : start + size]))
    kept = manager.running_state()
    for name, value in manager.compute().items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-12), name
    one = EnergyForceStressMetrics(type_names=TYPES, extended=True)
    one.set_running_state(kept)
    assert one.compute() == manager.compute()
    manager.reset()
    assert {name for name, value in manager.compute().items() if math.isnan(value.item())} == set(expected)


def test_stress_per_atom() -> None:
    prediction, target = forces(torch.zeros(4, 3), torch.zeros(4, 3))
    for graph in (prediction, target):
        graph |= {"total_energy": torch.zeros(1, 1), "stress": torch.zeros(1, 3, 3)}
    prediction["stress"] = torch.full((1, 3, 3), 2.0)
    values = EnergyForceStressMetrics(type_names=TYPES, extended=True).step(prediction, target)
    assert values["per_atom_stress_rmse"].item() == values["per_atom_stress_mae"].item() == 0.5
    assert values["stress_p95"].item() == pytest.approx(2.0, rel=1 / 256)


def test_percentile_by_species() -> None:
    term = {"field": "forces", "metric": AbsoluteErrorQuantile(1.0), "per_type": True, "name": "it"}
    manager = MetricsManager([term], TYPES)
    pair = forces(tensor([1.0] * 3, [4.0] * 3, [2.0] * 3), torch.zeros(3, 3), [0, 1, 0])
    values = {name: value.item() for name, value in manager.step(*pair).items()}
    assert values == pytest.approx({"it": 3.0, "it_H": 2.0, "it_O": 4.0}, rel=1 / 256)
    assert manager.running_state()["bins 0"].shape == (2, BINS)


def test_rmse_is_a_root_at_the_very_end() -> None:
    """Batches with a mean square of 1 and of 9: the root of 5, not the mean of 1 and 3."""
    manager = EnergyForceMetrics()
    for error in (1.0, 3.0):
        prediction, target = forces(torch.full((2, 3), error), torch.zeros(2, 3))
        for graph in (prediction, target):
            graph["total_energy"] = torch.zeros(1, 1)
        manager.update(prediction, target)
    assert manager.compute()["forces_rmse"].item() == pytest.approx(math.sqrt(5), rel=1e-15)
