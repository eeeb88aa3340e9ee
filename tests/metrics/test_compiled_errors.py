"""Sums of errors in compiled code: numbers by hand, those of NumPy, and what is left to NumPy."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from nequip_like.data.fields import Graph
from nequip_like.errors import ModelError
from nequip_like.metrics import (
    EnergyForceLoss,
    EnergyForceStressLoss,
    HuberLoss,
    MeanAbsoluteError,
    MeanSquaredError,
    MetricsManager,
    SmoothL1Loss,
)
from nequip_like.metrics.closed_form import BatchErrors
from nequip_like.metrics.compiled import errors
from nequip_like.metrics.compiled.errors import CompiledErrors
from nequip_like.metrics.modifiers import PerAtomModifier
from nequip_like.metrics.terms import WEIGHTED_SUM
from nequip_like.nn.native import compiler
from nequip_like.nn.native.compiler import find_compiler

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")
ORDER_OF_SUMMATION = 1e-14  # NumPy's may be another one some day
METRICS: dict[str, Any] = {
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "huber": lambda: HuberLoss(delta=1.0),
    "smooth_l1": lambda: SmoothL1Loss(beta=2.0),
}


def make_graph(**values: Any) -> Graph:
    return {
        name: torch.tensor(value, dtype=torch.int64 if name == "num_atoms" else torch.float64)
        for name, value in values.items()
    }


def measure(manager: MetricsManager, prediction: Graph, target: Graph) -> CompiledErrors | None:
    terms = manager._closed_terms
    assert terms is not None
    return CompiledErrors.of(terms.compiled, prediction, target)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "total", "gradient"),
    [
        ("mse", 9.25, [12.0, -2.0, 0.0]),
        ("mae", 3.5, [2.0, -2.0, 0.0]),
        ("huber", 2.5 + 0.125, [2.0, -1.0, 0.0]),
        ("smooth_l1", (4.0 + 0.125) / 2.0, [2.0, -0.5, 0.0]),
    ],
)
def test_by_hand(name: str, total: float, gradient: list[float]) -> None:
    """Differences of 3, -1/2 and 0; the gradient is that of twice the sum."""
    manager = MetricsManager([{"metric": METRICS[name], "field": "forces"}])
    measured = measure(manager, make_graph(forces=[[4.0, 0.5, 7.0]]), make_graph(forces=[[1.0, 1.0, 7.0]]))
    assert measured is not None
    assert measured.sums == [total]
    assert measured.counts == [3.0]
    (of_forces,) = measured.differentiate([2.0])
    assert of_forces is not None
    assert of_forces.tolist() == [gradient]


@needs_compiler
def test_labels_that_are_missing_and_energies_per_atom() -> None:
    """Per atom (12 - 8) / 4 is 1, of which 2 * 1 / 4 is the derivative; the other frame has no label."""
    manager = EnergyForceLoss()
    atoms = torch.tensor([4, 2])
    prediction = make_graph(total_energy=[[12.0], [3.0]], forces=[[2.0, 5.0, math.nan]]) | {"num_atoms": atoms}
    labels = make_graph(total_energy=[[8.0], [math.nan]], forces=[[1.0, math.nan, math.nan]]) | {"num_atoms": atoms}
    measured = measure(manager, prediction, labels)
    assert measured is not None
    assert measured.sums == [1.0, 1.0]
    assert measured.counts == [1.0, 1.0]
    of_energy, of_forces = measured.differentiate([1.0, math.inf])
    assert of_energy is not None
    assert of_forces is not None
    assert of_energy.tolist() == [[0.5], [0.0]]
    assert of_forces.tolist() == [[math.inf, 0.0, 0.0]]
    assert measured.differentiate([None, 1.0])[0] is None


def draw(seed: int, atoms: int, missing: bool) -> tuple[Graph, Graph]:
    random = torch.Generator().manual_seed(seed)
    shapes = {"total_energy": (2, 1), "forces": (atoms, 3), "stress": (2, 3, 3)}
    prediction, target = (
        {name: torch.randn(shape, generator=random, dtype=torch.float64) for name, shape in shapes.items()}
        for _ in range(2)
    )
    if missing:
        target["total_energy"][0] = target["forces"][atoms // 2, 1] = target["stress"][1] = math.nan
    numbers = {"num_atoms": torch.tensor([1, max(atoms - 1, 1)])}
    return {name: value.requires_grad_() for name, value in prediction.items()} | numbers, target | numbers


@needs_compiler
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", METRICS)
# Of vectors, of blocks of 128 components, and of their halves.
@pytest.mark.parametrize("atoms", [1, 2, 3, 42, 43, 86, 1000])
def test_numbers_are_those_of_numpy(name: str, atoms: int, missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        {"metric": METRICS[name], "field": field, "coeff": coeff}
        for field, coeff in ((PerAtomModifier("total_energy"), 1.0), ("forces", 0.3), ("stress", 2.0))
    ]
    prediction, target = draw(atoms, atoms, missing)
    both = []
    for _ in range(2):
        manager = MetricsManager(entries)
        value = manager.step(prediction, target)[WEIGHTED_SUM]
        fields = [prediction[field] for field in ("total_energy", "forces", "stress")]
        both.append((manager.running_state(), torch.autograd.grad(value, fields)))
        monkeypatch.setattr(errors, "_load_library", lambda: None)
    (compiled, gradients), (arrays, expected) = both
    torch.testing.assert_close(compiled["sums"], arrays["sums"], rtol=ORDER_OF_SUMMATION, atol=0)
    assert torch.equal(compiled["counts"], arrays["counts"])
    for gradient, other in zip(gradients, expected, strict=True):
        assert torch.equal(gradient, other)


@needs_compiler
@pytest.mark.parametrize("form", ["compiled", "arrays"])
def test_a_gradient_can_be_asked_for_again(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the predictions, as new tensors, and of the labels that there were."""
    if form == "arrays":
        monkeypatch.setattr(errors, "_load_library", lambda: None)
    manager = EnergyForceStressLoss({"stress": 1.0, "forces": 2.0, "total_energy": 1.0})
    prediction, target = draw(0, 5, missing=True)
    value = manager.step(prediction, target)[WEIGHTED_SUM]
    measured = value.grad_fn.errors  # type: ignore[union-attr]
    assert isinstance(measured, BatchErrors)
    fields = [term.modifier.field for term in manager.terms]  # type: ignore[union-attr]
    expected = torch.autograd.grad(value, [prediction[field] for field in fields], retain_graph=True)
    for field in fields:
        del target[field]
    first, second, twice = measured.differentiate(1.0), measured.differentiate(1.0), measured.differentiate(2.0)
    for one, other, double, gradient in zip(first, second, twice, expected, strict=True):
        assert one is not other
        assert torch.equal(one, gradient)
        assert torch.equal(other, gradient)
        assert torch.equal(double, 2.0 * gradient)


@needs_compiler
def test_what_c_cannot_read_is_left_to_numpy() -> None:
    manager = EnergyForceLoss()
    prediction, target = draw(0, 4, missing=False)
    assert measure(manager, prediction, target) is not None
    unusual: dict[str, Tensor] = {
        "forces": torch.randn(3, 4, dtype=torch.float64).t(),  # with gaps
        "total_energy": torch.nn.Parameter(target["total_energy"]),
        "num_atoms": target["num_atoms"].int(),
    }
    for name, value in unusual.items():
        changed = {**target, name: value}
        assert measure(manager, prediction, changed) is None
    values = manager.step(prediction, {**target, "num_atoms": unusual["num_atoms"]})
    assert torch.equal(values[WEIGHTED_SUM], EnergyForceLoss().step(prediction, target)[WEIGHTED_SUM])


def test_a_factor_is_left_to_numpy() -> None:
    manager = MetricsManager([{"metric": MeanSquaredError, "field": PerAtomModifier("total_energy", factor=1000.0)}])
    assert manager._closed_terms is not None
    assert manager._closed_terms.compiled == ()


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "find_compiler", lambda: None)
    assert errors._load_library.__wrapped__() is None


def test_a_compiler_that_fails_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*sources: object) -> None:
        raise ModelError("no such flag", "take another one")

    monkeypatch.setattr(compiler, "find_compiler", lambda: "cc")
    monkeypatch.setattr(compiler, "compile_library", refuse)
    with pytest.warns(UserWarning, match="summed by NumPy, which is slower: no such flag"):
        assert errors._load_library.__wrapped__() is None


def test_sums_of_an_epoch_in_both_forms() -> None:
    """Batches with weights are not for the closed form; they add up with the others, in any order."""
    (prediction, target), (_, other) = draw(0, 4, missing=False), draw(1, 4, missing=True)
    weighted = {**other, "frame_weight": torch.ones(2, 1, dtype=torch.float64), "batch": torch.tensor([0, 1, 1, 1])}
    first, second = EnergyForceLoss(), EnergyForceLoss()
    first.update(prediction, target)
    kept = first.running_state()
    before = {name: value.clone() for name, value in kept.items()}
    for manager, batches in ((first, (weighted, target)), (second, (target, weighted, target))):
        for batch in batches:
            manager.update(prediction, batch)
    assert first.running_state()["counts"].tolist() == [5.0, 35.0]
    for name, value in first.running_state().items():
        assert torch.equal(value, second.running_state()[name])
        assert torch.equal(kept[name], before[name])  # later batches do not change what was given
    first.reset()
    assert first.running_state()["sums"].tolist() == [0.0, 0.0]
    first.set_running_state(kept)
    first.update(prediction, target)
    assert first.running_state()["sums"].tolist() == (2.0 * before["sums"]).tolist()


def test_values_of_the_step_and_a_copy_of_its_manager() -> None:
    manager = EnergyForceLoss()
    assert manager.step_values is None
    assert manager.in_step.shape == (0,)
    prediction, target = draw(0, 4, missing=False)
    target["total_energy"].fill_(math.nan)
    values = manager.step(prediction, target)
    for same in (manager, copy.deepcopy(manager), pickle.loads(pickle.dumps(manager))):
        assert same.in_step.tolist() == [False, True]
        assert same.step_values is not None
        assert same.step_values.tolist() == [0.0, values["forces_mse"].item()]
        assert torch.equal(same.step(prediction, target)[WEIGHTED_SUM], values[WEIGHTED_SUM])
