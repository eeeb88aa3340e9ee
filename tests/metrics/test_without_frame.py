"""A process that has no frame in a step, where a missing label is to be a NaN (``ignore_nan: false``)."""

from __future__ import annotations

import math

import pytest
import torch

from nequip_like.data import fields
from nequip_like.data.loader import NO_FRAME, is_without_frame
from nequip_like.metrics.elementwise import MeanSquaredError
from nequip_like.metrics.manager import MetricsManager


def energies(value: float, index: int) -> dict[str, torch.Tensor]:
    return {
        fields.TOTAL_ENERGY: torch.tensor([[value]], dtype=torch.float64),
        fields.NUM_ATOMS: torch.tensor([3]),
        fields.FRAME_INDEX: torch.tensor([index]),
    }


@pytest.mark.parametrize("weighted", [False, True])
def test_it_counts_for_nothing(weighted: bool) -> None:
    """By the closed form and, with weights, by the metric itself; a label that a frame lacks is still a NaN."""
    manager = MetricsManager(
        [{"metric": MeanSquaredError(), "field": fields.TOTAL_ENERGY, "coeff": 1.0, "name": "e", "ignore_nan": False}]
    )
    weight = {fields.FRAME_WEIGHT: torch.ones(1, 1, dtype=torch.float64)} if weighted else {}
    predicted = energies(2.0, NO_FRAME)
    predicted[fields.TOTAL_ENERGY].requires_grad_()
    missing = energies(math.nan, NO_FRAME) | weight
    manager.update(predicted, energies(1.0, 0) | weight)
    manager.update(predicted, missing)
    assert manager.compute()["e"] == 1.0
    value = manager.step(predicted, missing)["weighted_sum"]
    (gradient,) = torch.autograd.grad(value, predicted[fields.TOTAL_ENERGY], allow_unused=True)
    assert gradient is None or gradient.tolist() == [[0.0]]
    assert math.isnan(manager.step(predicted, energies(math.nan, 0) | weight)["e"].detach())


def test_what_it_is() -> None:
    assert is_without_frame(energies(math.nan, NO_FRAME))
    assert not is_without_frame(energies(math.nan, 0))
    assert not is_without_frame({fields.TOTAL_ENERGY: torch.zeros(1, 1)})
    assert not is_without_frame({fields.FRAME_INDEX: torch.tensor([NO_FRAME, 3])})
