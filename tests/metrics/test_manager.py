"""The metrics manager: values by hand, masks, weights, types, coefficients, states and several processes."""

from __future__ import annotations

import copy
import gc
import io
import itertools
import math
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError, DataError, ModelError
from nequip_like.metrics.distribution import AbsoluteErrorQuantile, CosineSimilarity, RelativeError
from nequip_like.metrics.elementwise import (
    HuberLoss,
    MaximumAbsoluteError,
    MeanAbsoluteError,
    MeanSquaredError,
    RootMeanSquaredError,
    StratifiedHuberForceLoss,
)
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.modifiers import CallableModifier, MappedFieldModifier, PerAtomModifier
from tests.processes import run_side_by_side

EXACT = 1e-12
TYPES = ["H", "O"]


def entries() -> list[dict[str, Any]]:
    """One of each kind."""
    return [
        {"field": PerAtomModifier("total_energy"), "metric": MeanSquaredError, "coeff": 1},
        {"field": "total_energy", "metric": RootMeanSquaredError, "coeff": 1},
        {"field": "forces", "metric": MeanSquaredError, "coeff": 1},
        {"field": "forces", "metric": MaximumAbsoluteError, "coeff": 1},
        {"field": "stress", "metric": HuberLoss(delta=0.1), "coeff": 1},
        {"field": "stress", "metric": MaximumAbsoluteError},
        {"field": "forces", "metric": MeanAbsoluteError, "per_type": True, "coeff": 1},
        {"field": "forces", "metric": MaximumAbsoluteError, "per_type": True, "name": "worst", "coeff": 1},
        {"field": "forces", "metric": StratifiedHuberForceLoss({0.5: 0.1, 1.0: 0.2})},
    ]


def random_graphs(count: int, seed: int = 0, missing: float = 0.3) -> list[tuple[Graph, Graph]]:
    """Predictions and targets of small structures, some of which lack labels and all of which have weights."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    pairs = []
    for _ in range(count):
        atoms = int(torch.randint(1, 5, (1,), generator=generator))
        target: Graph = {
            "pos": normal(atoms, 3),
            "num_atoms": torch.tensor([atoms]),
            "atom_types": torch.randint(0, 2, (atoms,), generator=generator),
            "frame_weight": torch.rand(1, 1, dtype=torch.float64, generator=generator) + 0.1,
            "atom_weight": torch.rand(atoms, 1, dtype=torch.float64, generator=generator),
            "total_energy": normal(1, 1),
            "forces": normal(atoms, 3),
            "stress": normal(1, 3, 3),
        }
        labels = ("total_energy", "forces", "stress")
        prediction = target | {key: target[key] + normal(*target[key].shape) for key in labels}
        for key in labels:
            if torch.rand(1, generator=generator) < missing:
                target[key] = torch.full_like(target[key], math.nan)
        pairs.append((prediction, target))
    return pairs


def join(pairs: list[tuple[Graph, Graph]]) -> tuple[Graph, Graph]:
    return collate([pair[0] for pair in pairs]), collate([pair[1] for pair in pairs])


def simple(**kwargs: Any) -> MetricsManager:
    return MetricsManager([{"field": "forces", "metric": MeanSquaredError, "coeff": 1, **kwargs}], type_names=TYPES)


def forces(errors: list[float], types: list[int] | None = None) -> tuple[Graph, Graph]:
    """A molecule whose force labels are zero and whose predicted forces are (error, error, error)."""
    atoms = len(errors)
    target: Graph = {
        "pos": torch.zeros(atoms, 3),
        "num_atoms": torch.tensor([atoms]),
        "atom_types": torch.tensor(types or [0] * atoms),
        "forces": torch.zeros(atoms, 3, dtype=torch.float64),
    }
    return target | {"forces": torch.tensor(errors, dtype=torch.float64)[:, None].repeat(1, 3)}, target


# --- values


def test_what_several_metrics_compare_is_evaluated_once() -> None:
    """Twice here: for those that leave NaN labels out, and for the one whose frames count the same."""
    calls = []

    def doubled(graph: Graph) -> Tensor:
        calls.append(graph)
        return 2 * graph["forces"]

    field = CallableModifier(doubled, given_owner="node")
    metrics = [{"field": field, "metric": metric} for metric in (MeanAbsoluteError, MeanSquaredError)]
    manager = MetricsManager(
        [*metrics, {"field": CallableModifier(doubled, "", "node"), "metric": RootMeanSquaredError},
         {"field": field, "metric": MeanAbsoluteError, "average": "frames", "name": "by_frames"}]
    )  # fmt: skip
    prediction, target = forces([1.0, 3.0])
    values = manager.step(prediction, target)
    assert [value.item() for value in values.values()] == [4.0, 20.0, math.sqrt(20.0), 4.0]
    assert [graph is prediction for graph in calls] == [True, False, True, False]


def test_step_by_hand() -> None:
    manager = MetricsManager(
        [
            {"field": "total_energy", "metric": MeanAbsoluteError, "coeff": 3},
            {"field": PerAtomModifier("total_energy"), "metric": MeanSquaredError, "coeff": 1},
            {"field": "forces", "metric": RootMeanSquaredError},
        ]
    )
    prediction, target = forces([1.0, 2.0, 2.0])
    target["total_energy"] = torch.tensor([[-10.0]])
    prediction["total_energy"] = torch.tensor([[-4.0]])
    step = manager(prediction, target)
    assert {key: value.item() for key, value in step.items()} == pytest.approx(
        {"E_mae": 6.0, "per_atom_E_mse": 4.0, "F_rmse": math.sqrt(3.0), "weighted_sum": 0.75 * 6 + 0.25 * 4}
    )
    assert all(value.dtype == torch.float64 and value.shape == () for value in step.values())
    assert manager.coeffs == {"E_mae": 0.75, "per_atom_E_mse": 0.25, "F_rmse": None}
    assert manager.compute().keys() == step.keys()
    assert manager.describe()[1] == ("per_atom_E_mse", "total_energy per atom", "MeanSquaredError", 0.25)
    assert manager.required_fields() == {"total_energy", "forces"}


@pytest.mark.parametrize("size", [1, 3, 16])
def test_epoch_values_do_not_depend_on_the_batch_size(size: int) -> None:
    pairs = random_graphs(16)
    whole = MetricsManager(entries(), TYPES)
    expected = whole.step(*join(pairs))
    manager = MetricsManager(entries(), TYPES)
    for start in range(0, 16, size):
        function = manager.step if start % 2 else manager.update
        function(*join(pairs[start : start + size]))
    result = manager.compute()
    assert result.keys() == expected.keys()
    for name, value in result.items():
        assert value.item() == pytest.approx(expected[name].item(), abs=EXACT, rel=EXACT), name
        assert not value.requires_grad
    manager.reset()
    manager.update(*join(pairs))
    assert manager.compute()["weighted_sum"].item() == pytest.approx(result["weighted_sum"].item(), abs=EXACT)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=3), st.integers(0, 1000))
def test_batch_split_invariance(cuts: list[int], seed: int) -> None:
    pairs = random_graphs(6, seed)
    one, many = MetricsManager(entries(), TYPES), MetricsManager(entries(), TYPES)
    one.update(*join(pairs))
    bounds = [0, *sorted(cuts), 6]
    for start, stop in itertools.pairwise(bounds):
        if start < stop:
            many.update(*join(pairs[start:stop]))
    expected = one.compute()
    for name, value in many.compute().items():
        assert value.item() == pytest.approx(expected[name].item(), abs=EXACT, rel=EXACT, nan_ok=True), name
    assert one.missing_terms() == many.missing_terms()


def test_standalone_metrics_agree() -> None:
    prediction, target = join(random_graphs(8))
    step = MetricsManager(entries(), TYPES).step(prediction, target)
    weight = target["atom_weight"] * target["frame_weight"][target["batch"]]
    for metric, name in ((MeanSquaredError(), "F_mse"), (MaximumAbsoluteError(), "F_max_ae")):
        metric.update(prediction["forces"], target["forces"], weight)
        assert metric.compute().item() == pytest.approx(step[name].item(), abs=EXACT)


# --- missing labels


def test_missing_labels_leave_the_loss_finite() -> None:
    manager = MetricsManager(
        [
            {"field": "total_energy", "metric": RootMeanSquaredError, "coeff": 1},
            {"field": "forces", "metric": MeanSquaredError, "coeff": 3},
        ]
    )
    prediction, target = forces([2.0])
    prediction["total_energy"] = torch.full((1, 1), math.nan, dtype=torch.float64, requires_grad=True)
    target["total_energy"] = torch.full((1, 1), math.nan)
    prediction["forces"].requires_grad_()
    step = manager.step(prediction, target)
    assert math.isnan(step["E_rmse"].item())
    assert step["weighted_sum"].item() == 3.0  # 0.75 * 4: the other coefficient is not scaled up
    with torch.autograd.set_detect_anomaly(True):
        step["weighted_sum"].backward()
    assert prediction["total_energy"].grad.tolist() == [[0.0]]  # type: ignore[union-attr]
    assert prediction["forces"].grad.tolist() == [[1.0, 1.0, 1.0]]  # type: ignore[union-attr]
    epoch = manager.compute()
    assert math.isnan(epoch["E_rmse"].item())
    assert epoch["weighted_sum"].item() == 3.0
    assert manager.missing_terms() == ["E_rmse"]


def test_nothing_valid_at_all() -> None:
    manager = simple()
    prediction, target = forces([2.0, 1.0])
    target["forces"] = torch.full((2, 3), math.nan)
    prediction["forces"].requires_grad_()
    loss = manager.step(prediction, target)["weighted_sum"]
    loss.backward()
    assert loss.item() == 0.0
    assert prediction["forces"].grad.abs().sum() == 0  # type: ignore[union-attr]
    assert math.isnan(manager.compute()["weighted_sum"].item())  # it must not look like the best epoch
    assert manager.missing_terms() == ["F_mse"]
    manager.update(*forces([2.0]))
    assert manager.compute()["F_mse"].item() == 4.0
    assert manager.missing_terms() == []


def test_nan_labels_propagate_on_request() -> None:
    manager = simple(ignore_nan=False)
    prediction, target = forces([2.0, 1.0])
    target["forces"][0, 0] = math.nan
    assert math.isnan(manager.step(prediction, target)["weighted_sum"].item())
    assert math.isnan(simple(metric=MeanSquaredError(ignore_nan=False)).step(prediction, target)["F_mse"].item())


def test_non_finite_predictions_propagate() -> None:
    prediction, target = forces([math.nan, 1.0])
    for metric in (MeanSquaredError, RootMeanSquaredError, MaximumAbsoluteError):
        manager = simple(metric=metric)
        assert math.isnan(manager.step(prediction, target)["weighted_sum"].item())
        manager.update(*forces([1.0]))
        assert math.isnan(manager.compute()["weighted_sum"].item())


def test_observed_terms_do_not_touch_loss_or_gradient() -> None:
    manager = MetricsManager(
        [
            {"field": "forces", "metric": MeanSquaredError, "coeff": 1},
            {"field": MappedFieldModifier("double", "forces"), "metric": MeanSquaredError},
        ]
    )
    prediction, target = forces([2.0])
    prediction["forces"].requires_grad_()
    prediction["double"] = prediction["forces"] * math.nan
    step = manager.step(prediction, target)
    assert math.isnan(step["double_mse"].item())
    assert step["weighted_sum"].item() == 4.0
    step["weighted_sum"].backward()
    assert torch.isfinite(prediction["forces"].grad).all()  # type: ignore[arg-type]


def test_absent_fields_and_shapes() -> None:
    prediction, target = forces([1.0])
    with pytest.raises(DataError, match=r"metric 'F_mse' needs 'forces'.*\n.*key_mapping"):
        simple().step(prediction, {key: value for key, value in target.items() if key != "forces"})
    with pytest.raises(ModelError, match=r"metric 'F_mse' needs 'forces', which the model"):
        simple().update({}, target)
    with pytest.raises(DataError, match=r"metric 'F_mse': the prediction has shape \(1, 2\)"):
        simple().update({"forces": torch.zeros(1, 2)}, target)
    with pytest.raises(DataError, match="no 'atom_types'"):
        simple(per_type=True).update({"forces": torch.zeros(1, 3)}, {"forces": torch.zeros(1, 3)})


# --- types


def test_types_of_water() -> None:
    # Two H with squared errors 1, one O with 16: flat mean 6, mean over types 8.5.
    prediction, target = forces([1.0, 1.0, 4.0], [0, 0, 1])
    assert simple().step(prediction, target)["F_mse"].item() == 6.0
    step = simple(per_type=True).step(prediction, target)
    assert {key: value.item() for key, value in step.items()} == {
        "F_mse": 8.5,
        "F_mse_H": 1.0,
        "F_mse_O": 16.0,
        "weighted_sum": 8.5,
    }
    worst = simple(per_type=True, metric=MaximumAbsoluteError, per_type_coeffs={"O": 1, "H": 3})
    step = worst.step(prediction, target)
    assert (step["F_max_ae_H"].item(), step["F_max_ae_O"].item(), step["F_max_ae"].item()) == (1.0, 4.0, 1.75)


def test_absent_types_are_left_out_of_the_mean() -> None:
    manager = simple(per_type=True, per_type_coeffs={"H": 1, "O": 3})
    prediction, target = forces([2.0])
    prediction["forces"].requires_grad_()
    step = manager.step(prediction, target)
    assert step["F_mse"].item() == 4.0
    assert math.isnan(step["F_mse_O"].item())
    step["weighted_sum"].backward()
    torch.testing.assert_close(prediction["forces"].grad, torch.full((1, 3), 4 / 3, dtype=torch.float64))
    assert manager.compute()["F_mse"].item() == 4.0
    manager.update(*forces([1.0], [1]))
    assert manager.compute()["F_mse"].item() == (4 + 3 * 1) / 4
    target["forces"] = torch.full((1, 3), math.nan)
    manager.reset()
    assert manager.step(prediction, target)["weighted_sum"].item() == 0.0


# --- weights


def test_weights_of_frames_and_atoms() -> None:
    manager = MetricsManager(
        [
            {"field": "total_energy", "metric": MeanAbsoluteError, "coeff": 1},
            {"field": "forces", "metric": MeanAbsoluteError, "per_type": True, "coeff": 1},
            {"field": "forces", "metric": MeanSquaredError},
        ],
        type_names=TYPES,
    )
    target = {
        "pos": torch.zeros(3, 3),
        "num_atoms": torch.tensor([1, 2]),
        "batch": torch.tensor([0, 1, 1]),
        "atom_types": torch.tensor([0, 0, 1]),
        "frame_weight": torch.tensor([[1.0], [3.0]]),
        "atom_weight": torch.tensor([[1.0], [1.0], [2.0]]),
        "total_energy": torch.zeros(2, 1),
        "forces": torch.zeros(3, 3),
    }
    prediction = target | {
        "total_energy": torch.tensor([[4.0], [8.0]]),
        "forces": torch.tensor([1.0, 2.0, 3.0])[:, None].repeat(1, 3),
    }
    step = manager.step(prediction, target)
    assert step["E_mae"].item() == (4 + 3 * 8) / 4
    assert step["F_mae_H"].item() == (1 + 3 * 2) / 4
    assert step["F_mae_O"].item() == 3.0
    assert step["F_mse"].item() == pytest.approx((1 + 3 * 4 + 6 * 9) / 10)
    del target["frame_weight"]
    assert manager.step(prediction, target)["F_mse"].item() == pytest.approx((1 + 4 + 2 * 9) / 4)


def test_weights_of_single_labels() -> None:
    manager = MetricsManager(
        [
            {"field": "total_energy", "metric": MeanAbsoluteError, "coeff": 1},
            {"field": "forces", "metric": MeanSquaredError, "coeff": 1},
        ]
    )
    target = {
        "pos": torch.zeros(3, 3),
        "num_atoms": torch.tensor([1, 2]),
        "batch": torch.tensor([0, 1, 1]),
        "frame_weight": torch.tensor([[1.0], [2.0]]),
        "total_energy_weight": torch.tensor([[3.0], [0.5]]),
        "forces_weight": torch.tensor([[1.0], [4.0]]),
        "total_energy": torch.zeros(2, 1),
        "forces": torch.zeros(3, 3),
    }
    prediction = target | {
        "total_energy": torch.tensor([[4.0], [8.0]]),
        "forces": torch.tensor([1.0, 2.0, 3.0])[:, None].repeat(1, 3),
    }
    step = manager.step(prediction, target)
    assert step["E_mae"].item() == pytest.approx((3 * 4 + 1 * 8) / 4)
    assert step["F_mse"].item() == pytest.approx((1 + 8 * 4 + 8 * 9) / 17)
    del target["frame_weight"]
    assert manager.step(prediction, target)["E_mae"].item() == pytest.approx((3 * 4 + 0.5 * 8) / 3.5)


def test_weights_need_an_owner() -> None:
    def norm(graph: Graph) -> Tensor:
        return graph["forces"].norm(dim=1)

    prediction, target = forces([1.0, 2.0])
    assert simple(field=norm).step(prediction, target)["norm_mse"].item() == pytest.approx((3 + 12) / 2)
    target["atom_weight"] = torch.tensor([[1.0], [0.0]])
    with pytest.raises(ConfigError, match="CallableModifier"):
        simple(field=norm).step(prediction, target)
    owned = CallableModifier(norm, given_owner="node")
    assert simple(field=owned).step(prediction, target)["norm_mse"].item() == pytest.approx(3.0)


def test_edges_take_the_weight_of_their_frame() -> None:
    target = {
        "pos": torch.zeros(2, 3),
        "batch": torch.tensor([0, 1]),
        "frame_weight": torch.tensor([[1.0], [3.0]]),
        "edge_index": torch.tensor([[0, 1], [0, 1]]),
        "edge_vectors": torch.zeros(2, 3),
    }
    prediction = target | {"edge_vectors": torch.tensor([[1.0] * 3, [2.0] * 3])}
    assert simple(field="edge_vectors").step(prediction, target)["edge_vectors_mse"].item() == (1 + 3 * 4) / 4


# --- coefficients and configuration


def test_set_coeffs() -> None:
    manager = MetricsManager(entries(), TYPES)
    manager.set_coeffs({"F_mse": 3, "E_rmse": 1.0})
    assert {name: coeff for name, coeff in manager.coeffs.items() if coeff} == {"F_mse": 0.75, "E_rmse": 0.25}
    step = manager.step(*join(random_graphs(4)))
    expected = 0.75 * step["F_mse"] + 0.25 * step["E_rmse"]
    assert step["weighted_sum"].item() == pytest.approx(expected.item(), abs=EXACT)
    with pytest.raises(ConfigError, match="did you mean 'F_mse'"):
        manager.set_coeffs({"F_mes": 1})
    for wrong in (-1, math.nan, math.inf, True, "1"):
        with pytest.raises(ConfigError, match="coefficient of 'F_mse'"):
            manager.set_coeffs({"F_mse": wrong})  # type: ignore[dict-item]
    assert manager.coeffs["F_mse"] == 0.75
    manager.set_coeffs({"F_mse": 0.0})
    assert not manager.has_weighted_sum
    assert "weighted_sum" not in manager.step(*join(random_graphs(4)))


def test_coefficients_are_saved() -> None:
    manager = MetricsManager(entries(), TYPES)
    manager.set_coeffs({"F_mse": 3, "E_rmse": 1})
    stream = io.BytesIO()
    torch.save(manager.state_dict(), stream)
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    assert list(state) == ["_extra_state"]
    restored = MetricsManager(entries(), TYPES)
    restored.load_state_dict(state)
    assert restored.coeffs == manager.coeffs
    with pytest.raises(ConfigError, match="checkpoint"):
        simple().load_state_dict(state)


MSE = {"field": "forces", "metric": MeanSquaredError}


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([], "one or more"),
        (MSE, "list"),
        ([3], "mapping"),
        ([MSE | {"coef": 1}], "did you mean 'coeff'"),
        ([{"field": "forces"}], "no 'metric'"),
        ([MSE | {"metric": {"_target_": "nowhere"}}], "instantiate"),
        ([MSE | {"metric": "mse"}], "'mse'"),
        ([MSE | {"metric": dict}], "makes a dict"),
        ([{"metric": MeanSquaredError}], "no 'field'"),
        ([MSE | {"field": "force"}], "did you mean 'forces'"),
        ([MSE, MSE], "two metrics are named 'F_mse'"),
        ([MSE | {"per_type": True}, MSE | {"name": "F_mse_H"}], "two metrics are named 'F_mse_H'"),
        ([MSE | {"name": "weighted_sum"}], "reserved"),
        ([MSE | {"coeff": -1}], "coefficient of 'F_mse' is -1"),
        ([MSE | {"per_type_coeffs": {"H": 1, "O": 1}}], "add per_type: true"),
        ([MSE | {"per_type": True, "field": "stress"}], "does not belong to atoms"),
        ([MSE | {"per_type": True, "metric": torchmetrics.MeanSquaredError}], "per_type"),
        ([MSE | {"per_type": True, "per_type_coeffs": {"H": 1}}], "lacks O"),
        ([MSE | {"per_type": True, "per_type_coeffs": {"H": 1, "O": 0}}], "larger than 0"),
    ],
)
def test_refused(metrics: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MetricsManager(metrics, type_names=TYPES)


def test_type_names() -> None:
    with pytest.raises(ConfigError, match="give type_names"):
        MetricsManager([MSE | {"per_type": True}])
    with pytest.raises(ConfigError, match="twice"):
        MetricsManager([MSE], type_names=["H", "H"])


def test_instances_are_copied() -> None:
    metric = HuberLoss(delta=2.0)
    manager = MetricsManager([{"field": "forces", "metric": metric}])
    metric.delta = 7.0
    assert manager.terms[0].metric.delta == 2.0


# --- states


def test_states_stay_float64_and_are_no_buffers() -> None:
    manager = MetricsManager(entries(), TYPES)
    pairs = join(random_graphs(4))
    manager.update(*pairs)
    before = manager.compute()
    for changed in (manager.half(), manager.to("cpu", torch.float32), copy.deepcopy(manager)):
        assert not list(changed.buffers())
        assert {name: value.item() for name, value in changed.compute().items()} == pytest.approx(
            {name: value.item() for name, value in before.items()}, abs=0.0, rel=0.0, nan_ok=True
        )
    assert {value.device.type for value in manager.to("meta").running_state().values()} == {"meta"}


def test_inference_mode_leaves_training_possible() -> None:
    manager = simple()
    with torch.inference_mode():
        manager.update(*forces([1.0]))
        manager.compute()
        manager.reset()
        manager.set_coeffs({"F_mse": 2})
    prediction, target = forces([2.0])
    prediction["forces"].requires_grad_()
    manager.step(prediction, target)["weighted_sum"].backward()
    assert manager.compute()["F_mse"].item() == 4.0


# --- metrics that are not ours


class Ratio(torchmetrics.Metric):
    """Gets whole graphs."""

    full_state_update = False
    value: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("value", torch.tensor(0.0), "sum")
        self.add_state("count", torch.tensor(0.0), "sum")

    def update(self, prediction: Graph, target: Graph) -> None:
        self.value += (prediction["forces"] - target["forces"]).abs().sum()
        self.count += len(target["atom_types"])

    def compute(self) -> Tensor:
        return self.value / self.count


def test_foreign_metrics() -> None:
    manager = MetricsManager(
        [
            {"field": "forces", "metric": torchmetrics.MeanSquaredError, "coeff": 1, "name": "foreign"},
            {"field": "forces", "metric": MeanSquaredError, "coeff": 1},
            {"metric": Ratio(), "coeff": 2},
        ]
    )
    prediction, target = forces([1.0, 3.0])
    target["forces"][0] = math.nan
    step = manager.step(prediction | {"forces": prediction["forces"].nan_to_num()}, target)
    assert step["foreign"].item() == step["F_mse"].item() == 9.0
    manager.reset()
    one, two = forces([1.0, 3.0]), forces([2.0])
    one[0]["forces"].requires_grad_()
    step = manager.step(*one)
    assert (step["foreign"].item(), step["Ratio"].item()) == (5.0, 6.0)
    assert step["weighted_sum"].item() == (5 + 5 + 2 * 6) / 4
    step["weighted_sum"].backward()
    assert one[0]["forces"].grad[0, 0].item() == pytest.approx(1 / 4 * 2 * (2 / 6) + 1 / 2 / 2)  # type: ignore[index]
    manager.update(*two)
    epoch = manager.compute()
    assert epoch["foreign"].item() == epoch["F_mse"].item() == pytest.approx(14 / 3)
    assert epoch["Ratio"].item() == 6.0
    manager.reset()
    assert math.isnan(manager.compute()["foreign"].item())
    assert manager.missing_terms() == ["foreign", "F_mse", "Ratio"]
    nothing = forces([1.0])[0] | {"forces": torch.full((1, 3), math.nan)}
    assert math.isnan(
        MetricsManager([{"field": "forces", "metric": torchmetrics.MeanSquaredError}])
        .step(forces([1.0])[0], nothing)["F_MeanSquaredError"]
        .item()
    )


def test_foreign_metrics_say_that_they_use_no_weights() -> None:
    manager = MetricsManager([{"field": "forces", "metric": torchmetrics.MeanSquaredError}])
    prediction, target = forces([1.0])
    target["atom_weight"] = torch.ones(1, 1)
    with pytest.warns(UserWarning, match="does not use the weights"):
        manager.update(prediction, target)


def test_foreign_metrics_must_be_scalar() -> None:
    vector = torchmetrics.MeanSquaredError(num_outputs=3)
    manager = MetricsManager([{"field": "forces", "metric": vector, "ignore_nan": False}])
    with pytest.raises(ConfigError, match="one number"):
        manager.step(*forces([1.0, 2.0]))
    manager.update(*forces([1.0, 2.0]))
    with pytest.raises(ConfigError, match="one number"):
        manager.compute()


# --- several processes


class Scaled(nn.Module):
    """Predicts parameter * label-independent features."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, prediction: Graph) -> Graph:
        return prediction | {key: self.scale * prediction[key] for key in ("total_energy", "forces", "stress")}


def shares() -> list[list[tuple[Graph, Graph]]]:
    """Five structures for the first process, two without any label of the stress for the second; no weights."""
    parts = [random_graphs(5, seed=3, missing=0.0), random_graphs(2, seed=4, missing=0.0)]
    for _, target in parts[1]:
        target["stress"] = torch.full_like(target["stress"], math.nan)
    for pair in parts[0] + parts[1]:
        for graph in pair:
            del graph["frame_weight"], graph["atom_weight"]
    return parts


def distributed_entries() -> list[dict[str, Any]]:
    more = [
        {"field": "forces", "metric": metric} for metric in (AbsoluteErrorQuantile, RelativeError, CosineSimilarity)
    ]
    of_frames = {"field": "forces", "metric": MeanSquaredError, "average": "frames", "name": "frames", "coeff": 1}
    foreign = {"field": "forces", "metric": torchmetrics.MeanSquaredError, "name": "foreign"}
    return [*entries(), *more, of_frames, foreign]


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=Path(folder, "store").read_text(), rank=rank, world_size=2)
    torch.save(measured(rank), f"{folder}/{rank}.pt")
    # The wrapper has to be gone before its group: its destructor waits for a thread of gloo while it holds the
    # interpreter's lock, which that thread may need to let go of a tensor (torch 2.13), and both wait for ever.
    gc.collect()
    dist.destroy_process_group()


def measured(rank: int) -> dict[str, Any]:
    prediction, target = join(shares()[rank])
    manager = MetricsManager(distributed_entries(), TYPES)
    model = nn.parallel.DistributedDataParallel(Scaled())
    for _ in range(2):
        model.zero_grad()
        step = manager.step(model(prediction), target)
        (step["weighted_sum"] * 2).backward()
    epoch = manager.compute()
    lonely = MetricsManager(distributed_entries(), TYPES)
    if rank == 0:
        lonely.update(model.module(prediction), target)
    return {
        "step": {name: value.item() for name, value in step.items()},
        "epoch": {name: value.item() for name, value in epoch.items()},
        "lonely": {name: value.item() for name, value in lonely.compute().items()},
        "shares": shares_of_a_step(prediction, target),
        "local": manager.step(model.module(prediction), target, sync=False)["F_mse"].item(),
        "gradient": model.module.scale.grad.item(),
        "missing": manager.missing_terms(),
    }


def shares_of_a_step(prediction: Graph, target: Graph) -> tuple[float, float]:
    """Weighted sum and gradient of a step of two batches, of which this process computes its parts."""
    manager = MetricsManager(linear_entries(), TYPES)
    model, counts = Scaled(), 2 * manager.label_counts(target)
    dist.all_reduce(counts)
    shares = [manager.step(model(prediction), target, counts=counts)["weighted_sum"] for _ in range(2)]
    sum(shares).backward()  # type: ignore[union-attr]
    gradient = model.scale.grad.clone()  # type: ignore[union-attr]
    dist.all_reduce(gradient)
    return sum(share.item() for share in shares), gradient.item()


def linear_entries() -> list[dict[str, Any]]:
    return [
        {"field": "forces", "metric": MeanAbsoluteError, "per_type": True, "coeff": 1},
        {"field": "stress", "metric": MeanSquaredError, "coeff": 2},
        {"field": "forces", "metric": RelativeError, "coeff": 1},
    ]


def test_two_processes(tmp_path: Path) -> None:
    # Over TCP: a file store is deleted by the rank that leaves first, and the other may then wait for ever.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "store").write_text(f"tcp://127.0.0.1:{free.getsockname()[1]}")
    run_side_by_side(work, str(tmp_path))
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    pairs = [pair for share in shares() for pair in share]
    prediction, target = join(pairs)
    model, manager = Scaled(), MetricsManager(distributed_entries(), TYPES)
    expected = manager.step(model(prediction), target)
    expected["weighted_sum"].backward()
    assert manager.missing_terms() == []
    alone_model = Scaled()
    whole = MetricsManager(linear_entries(), TYPES).step(alone_model(prediction), target)["weighted_sum"]
    whole.backward()
    for result in results:
        assert result["shares"][0] == pytest.approx(whole.item(), rel=EXACT)
        assert result["shares"][1] == pytest.approx(alone_model.scale.grad.item(), rel=EXACT)  # type: ignore[union-attr]
    first = MetricsManager(distributed_entries(), TYPES)
    prediction, target = join(pairs[:5])
    first.update(model(prediction), target)
    alone = first.compute()
    for result in results:
        assert result["gradient"] == pytest.approx(model.scale.grad.item(), rel=EXACT)  # type: ignore[union-attr]
        assert result["missing"] == []
        for name, value in expected.items():
            assert result["epoch"][name] == pytest.approx(value.item(), rel=EXACT), name
            assert result["lonely"][name] == pytest.approx(alone[name].item(), rel=EXACT), name
            if name != "foreign":  # its step value is the mean over processes
                assert result["step"][name] == pytest.approx(value.item(), rel=EXACT), name
    assert results[0]["step"] == results[1]["step"]
    assert results[0]["epoch"] == results[1]["epoch"]
    assert results[0]["local"] != results[1]["local"]
