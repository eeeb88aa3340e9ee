"""The closed form of the usual losses on a CPU: values, sums and gradients that the metrics have under autograd."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nequip_like.data.fields import Graph
from nequip_like.metrics import (
    EnergyForceLoss,
    EnergyForceStressLoss,
    FieldLoss,
    HuberLoss,
    MeanSquaredError,
    MetricsManager,
    StratifiedHuberForceLoss,
)
from nequip_like.metrics.closed_form import BatchErrors
from nequip_like.metrics.compiled import errors
from nequip_like.metrics.terms import WEIGHTED_SUM
from nequip_like.nn.native.compiler import find_compiler

ROUNDING = 1e-12
SIZES = (3, 1, 4, 2)
LOSSES: dict[str, Any] = {
    "mse": lambda: EnergyForceLoss({"total_energy": 1.0, "forces": 3.0}),
    "stress": EnergyForceStressLoss,
    "mae": lambda: EnergyForceStressLoss(function="mae"),
    "huber": lambda: EnergyForceStressLoss(function="huber", delta=0.7),
    "smooth_l1": lambda: EnergyForceLoss(function="smooth_l1", per_atom_energy=False),
    "weights": lambda: EnergyForceLoss(weights={"total_energy": 10.0, "forces": 100.0}),
    "one field twice": lambda: FieldLoss({"total_energy": 1.0, "per_atom_energy": 2.0, "per_atom_stress": 3.0}),
    "observed": lambda: EnergyForceLoss({"forces": 1.0}),
    "ignore_nan": lambda: EnergyForceLoss(ignore_nan={"total_energy": False}),
}
GAPS = ("none", "some", "all forces", "all")


def draw(seed: int, gaps: str = "none") -> tuple[Graph, Graph]:
    """Prediction and labels; of some gaps, an energy and the forces on an atom are missing, and a component."""
    random = torch.Generator().manual_seed(seed)
    shapes = {"total_energy": (len(SIZES), 1), "forces": (sum(SIZES), 3), "stress": (len(SIZES), 3, 3)}
    target, prediction = (
        {name: torch.randn(shape, generator=random, dtype=torch.float64) for name, shape in shapes.items()}
        for _ in range(2)
    )
    if gaps == "some":
        target["total_energy"][1] = target["forces"][2] = target["forces"][4, 1] = target["stress"][0] = math.nan
        prediction["stress"][0] = math.nan  # as of a structure without a cell
    elif gaps != "none":
        for name in ("forces",) if gaps == "all forces" else shapes:
            target[name].fill_(math.nan)
    atoms = {"num_atoms": torch.tensor(SIZES), "batch": torch.repeat_interleave(torch.tensor(SIZES))}
    return {name: value.requires_grad_() for name, value in prediction.items()} | atoms, target | atoms


def take_plain_path(manager: MetricsManager) -> MetricsManager:
    plain = copy.deepcopy(manager)
    plain._closed_terms = None
    return plain


def differentiate(value: Tensor, prediction: Graph, **options: Any) -> list[Tensor]:
    fields = [prediction[name] for name in ("total_energy", "forces", "stress")]
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True, **options}
    return list(torch.autograd.grad(value, fields, **options))


def assert_same(first: list[Tensor], second: list[Tensor]) -> None:
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=ROUNDING, atol=ROUNDING, equal_nan=True)


@pytest.fixture(params=["compiled", "arrays"], autouse=True)
def _form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums in compiled code, and by NumPy."""
    if request.param == "arrays":
        monkeypatch.setattr(errors, "_load_library", lambda: None)
    elif find_compiler() is None:
        pytest.skip("there is no C compiler")


@pytest.fixture(params=LOSSES)
def loss(request: pytest.FixtureRequest) -> MetricsManager:
    manager: MetricsManager = LOSSES[request.param]()
    assert manager._closed_terms is not None
    return manager


@pytest.mark.parametrize("gaps", GAPS)
def test_values_sums_and_gradients_are_those_of_autograd(loss: MetricsManager, gaps: str) -> None:
    plain = take_plain_path(loss)
    for seed in range(3):
        prediction, target = draw(seed, gaps)
        values, expected = loss.step(prediction, target), plain.step(prediction, target)
        assert list(values) == list(expected)
        assert_same(list(values.values()), list(expected.values()))
        assert torch.equal(loss.in_step, plain.in_step)
        for name, value in expected.items():
            if values[name].requires_grad:
                assert_same(differentiate(values[name], prediction), differentiate(value, prediction))
            elif value.requires_grad:  # an observed term; autograd's graph ends before the prediction
                assert not any(gradient.count_nonzero() for gradient in differentiate(value, prediction))
        assert torch.equal(loss.label_counts(target), plain.label_counts(target))
    for name, state in plain.running_state().items():
        assert_same([loss.running_state()[name]], [state])
    assert_same(list(loss.compute().values()), list(plain.compute().values()))


def test_shares_of_a_step_of_several_batches(loss: MetricsManager) -> None:
    plain = take_plain_path(loss)
    batches = [draw(seed, gaps) for seed, gaps in enumerate(GAPS)]
    counts = torch.stack([loss.label_counts(target) for _, target in batches]).sum(0)
    for prediction, target in batches:
        share, expected = (m.step(prediction, target, counts=counts)[WEIGHTED_SUM] for m in (loss, plain))
        assert_same([share], [expected])
        assert_same(differentiate(share, prediction), differentiate(expected, prediction))


def test_gradients_of_several_values_add_up(loss: MetricsManager) -> None:
    prediction, target = draw(0)
    gradients = []
    for manager in (loss, take_plain_path(loss)):
        values = [value for value in manager.step(prediction, target).values() if value.requires_grad]
        gradients.append(differentiate(torch.stack(values).square().sum(), prediction))
    assert_same(*gradients)


@pytest.mark.parametrize("gaps", GAPS)
def test_second_derivatives_are_those_of_autograd(loss: MetricsManager, gaps: str) -> None:
    prediction, target = draw(0, gaps)
    seconds = []
    for manager in (loss, take_plain_path(loss)):
        value = manager.step(prediction, target)[WEIGHTED_SUM]
        first = differentiate(value, prediction, create_graph=True)
        norm = torch.stack([gradient.square().sum() for gradient in first]).sum()
        seconds.append(first + (differentiate(norm, prediction) if norm.requires_grad else []))
    assert_same(*seconds)


def test_coefficients_of_the_moment_count() -> None:
    loss = EnergyForceLoss()
    prediction, target = draw(0)
    loss.set_coeffs({"per_atom_energy_mse": 0.0, "forces_mse": 1.0})
    values = loss.step(prediction, target)
    assert not values["per_atom_energy_mse"].requires_grad
    assert differentiate(values[WEIGHTED_SUM], prediction)[0].count_nonzero() == 0


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_named(loss: MetricsManager, wrong: float) -> None:
    prediction, target = draw(0, "some")
    forces = prediction["forces"].detach().clone()
    forces[0, 0] = wrong
    prediction["forces"] = forces.requires_grad_()
    for manager in (loss, take_plain_path(loss)):
        values = manager.step(prediction, target)
        detached = {name: value.detach() for name, value in values.items()}
        bad = [name for name in manager.not_finite(detached, manager.in_step) if name.startswith("forces")]
        assert bad == [name for name in values if name.startswith("forces")]
        if values[WEIGHTED_SUM].requires_grad:
            assert differentiate(values[WEIGHTED_SUM], prediction)[1][2].count_nonzero() == 0  # it has no label


class _TwiceTheError(MeanSquaredError):
    """A class that is derived, with other errors."""

    def errors(self, residuals: Any) -> Tensor:
        return 2.0 * super().errors(residuals)


@pytest.mark.parametrize(
    "entry",
    [
        {"metric": _TwiceTheError, "field": "forces"},
        {"metric": HuberLoss(reduction="sum"), "field": "forces"},
        {"metric": StratifiedHuberForceLoss({0: 1.0, 1: 0.5}), "field": "forces"},
        {"metric": MeanSquaredError, "field": "forces", "per_type": True},
        {"metric": MeanSquaredError, "field": "forces", "average": "frames"},
        {"metric": MeanSquaredError, "field": "virial"},
        {"metric": MeanSquaredError, "field": lambda graph: graph["forces"]},
    ],
)
def test_unusual_terms_are_left_to_autograd(entry: dict[str, Any]) -> None:
    manager = MetricsManager([entry, {"metric": MeanSquaredError, "field": "total_energy"}], type_names=["H", "C"])
    assert manager._closed_terms is None


def test_unusual_batches_are_left_to_autograd() -> None:
    terms = EnergyForceLoss()._closed_terms
    prediction, target = draw(0)
    assert BatchErrors.of(terms, prediction, target) is not None
    unusual = {
        "weight": {"frame_weight": torch.ones(len(SIZES), 1, dtype=torch.float64)},
        "shape": {"forces": target["forces"][:-1]},
        "type": {"forces": target["forces"].float()},
        "device": {"forces": target["forces"].to("meta")},
    }
    for change in unusual.values():
        assert BatchErrors.of(terms, prediction, {**target, **change}) is None
    del target["forces"]
    assert BatchErrors.of(terms, prediction, target) is None


def test_predictions_of_float32_give_the_same_to_their_precision(loss: MetricsManager) -> None:
    prediction, target = draw(0)
    rounded = {
        name: value.detach().float().requires_grad_() if value.is_floating_point() else value
        for name, value in prediction.items()
    }
    values, expected = loss.step(rounded, target), loss.step(prediction, target)
    for value, other in zip(values.values(), expected.values(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-6)
    pairs = zip(
        differentiate(values[WEIGHTED_SUM], rounded), differentiate(expected[WEIGHTED_SUM], prediction), strict=True
    )
    for gradient, other in pairs:
        torch.testing.assert_close(gradient.double(), other, rtol=1e-6, atol=1e-6)
