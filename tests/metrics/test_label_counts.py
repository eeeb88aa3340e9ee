"""A batch cut into parts: with the label counts of the whole, the weighted sums of the parts add up to its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor

from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError
from nequip_like.metrics.distribution import AbsoluteErrorQuantile, CosineSimilarity, RelativeError
from nequip_like.metrics.elementwise import (
    HuberLoss,
    MaximumAbsoluteError,
    MeanAbsoluteError,
    MeanSquaredError,
    RootMeanSquaredError,
    SmoothL1Loss,
)
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.modifiers import PerAtomModifier
from tests.metrics.test_manager import join, random_graphs

TYPES = ["H", "O"]
EXACT = 1e-12


def entries() -> list[dict[str, Any]]:
    """All kinds of terms whose values are sums of shares, and observed ones of every other kind."""
    weighted: list[dict[str, Any]] = [
        {"field": PerAtomModifier("total_energy"), "metric": MeanSquaredError, "coeff": 1},
        {
            "field": "forces",
            "metric": MeanSquaredError,
            "coeff": 2,
            "per_type": True,
            "per_type_coeffs": {"H": 1, "O": 3},
        },
        {"field": "forces", "metric": SmoothL1Loss, "coeff": 1, "average": "frames"},
        {"field": "forces", "metric": RelativeError, "coeff": 1},
        {"field": "forces", "metric": RelativeError, "coeff": 1, "per_type": True, "name": "relative_by_type"},
        {"field": "stress", "metric": HuberLoss(delta=0.3), "coeff": 3},
        {"field": "stress", "metric": HuberLoss(reduction="sum"), "coeff": 0.5, "name": "sum"},
    ]
    observed: list[dict[str, Any]] = [
        {"field": "forces", "metric": metric}
        for metric in (RootMeanSquaredError, MaximumAbsoluteError, CosineSimilarity, AbsoluteErrorQuantile)
    ]
    return [*weighted, *observed, {"field": "forces", "metric": torchmetrics.MeanSquaredError, "name": "foreign"}]


def scaled(pair: tuple[Graph, Graph], scale: Tensor) -> tuple[Graph, Graph]:
    labels = ("total_energy", "forces", "stress")
    return pair[0] | {key: scale * pair[0][key] for key in labels}, pair[1]


@pytest.mark.filterwarnings("ignore:.*does not use the weights")
@pytest.mark.parametrize("size", [1, 2, 5, 12])
@pytest.mark.parametrize("seed", [0, 1])
def test_shares_add_up(size: int, seed: int) -> None:
    pairs = random_graphs(12, seed)
    whole = MetricsManager(entries(), TYPES)
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    expected = whole.step(*scaled(join(pairs), scale))
    expected["weighted_sum"].backward()
    gradient, scale.grad = scale.grad, None

    parts = [join(pairs[start : start + size]) for start in range(0, 12, size)]
    manager, plain = MetricsManager(entries(), TYPES), MetricsManager(entries(), TYPES)
    counts = sum(manager.label_counts(target) for _, target in parts)
    assert isinstance(counts, Tensor)
    assert counts.shape == whole.label_counts(join(pairs)[1]).shape
    total = 0.0
    for part in parts:
        step = manager.step(*scaled(part, scale), counts=counts)
        step["weighted_sum"].backward()
        total += step["weighted_sum"].item()
        without = plain.step(*scaled(part, scale.detach()))
        for name, value in without.items():  # all but the weighted sum are the batch's own
            if name != "weighted_sum":
                assert step[name].item() == pytest.approx(value.item(), abs=0, nan_ok=True), name
        assert torch.equal(manager.in_step, plain.in_step)
    assert total == pytest.approx(expected["weighted_sum"].item(), rel=EXACT)
    assert gradient is not None
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(gradient.item(), rel=EXACT)
    for name, value in plain.compute().items():
        assert manager.compute()[name].item() == pytest.approx(value.item(), abs=0, nan_ok=True), name


def test_counts_are_those_of_the_labels() -> None:
    """Without weights: numbers of elements that have a label, from the target alone, and no state is touched."""
    pairs = random_graphs(6, seed=2)
    for pair in pairs:
        for graph in pair:
            del graph["frame_weight"], graph["atom_weight"]
    target = collate([pair[1] for pair in pairs])
    manager = MetricsManager(
        [
            {"field": "stress", "metric": MeanSquaredError},
            {"field": "forces", "metric": MeanAbsoluteError, "per_type": True},
            {"field": "forces", "metric": torchmetrics.MeanSquaredError},
        ],
        TYPES,
    )
    before = {name: value.clone() for name, value in manager.running_state().items() if isinstance(value, Tensor)}
    labelled = ~torch.isnan(target["forces"])
    expected = [float((~torch.isnan(target["stress"])).sum())]
    expected += [float(labelled[target["atom_types"] == kind].sum()) for kind in (0, 1)]
    assert sorted(manager.label_counts(target).tolist()) == sorted([*expected, 1.0])
    for name, value in before.items():
        assert torch.equal(manager.running_state()[name], value)


@pytest.mark.filterwarnings("ignore:.*does not use the weights")
@pytest.mark.parametrize("metric", [RootMeanSquaredError, MaximumAbsoluteError, torchmetrics.MeanSquaredError])
def test_what_is_no_sum_of_shares(metric: Any) -> None:
    manager = MetricsManager([{"field": "forces", "metric": metric, "coeff": 1, "name": "worst"}])
    pair = join(random_graphs(2, missing=0.0))
    counts = manager.label_counts(pair[1])
    assert not manager.terms[0].is_linear
    with pytest.raises(ConfigError, match=r"the term 'worst' .* of the loss is no mean or sum"):
        manager.step(*pair, counts=counts)
    manager = MetricsManager([{"field": "forces", "metric": MeanSquaredError, "coeff": 1}])
    with pytest.raises(ConfigError, match=r"counts have the shape \(3,\), not \(1,\)"):
        manager.step(*pair, counts=torch.ones(3))
