"""The schedule that follows a metric: the rule of torch, smoothing, values that are not finite."""

import math
import random

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from nequip_like.optim.schedules.plateau import Plateau


@pytest.mark.parametrize(("patience", "threshold"), [(0, 1e-4), (2, 1e-4), (1, 0.3)])
def test_equal_to_torch(patience, threshold):
    rng = random.Random(0)
    values = [rng.random() for _ in range(40)] + [-1.0, -1.0, 0.5]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, threshold=threshold, eps=0.0)
    ours = Plateau(factor=0.5, patience=patience, threshold=threshold)
    for value in values:
        theirs.step(value)
        ours.follow(value)
        assert ours.share == optimizer.param_groups[0]["lr"]
    assert ours.state.reductions > 1


def test_patience():
    """The best value, two that are let pass, and the third that reduces."""
    plateau, shares = Plateau(factor=0.1, patience=2), []
    for value in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5):
        plateau.follow(value)
        shares.append(plateau.share)
    assert shares == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_smoothing():
    """0.5 * mean + 0.5 * value, which begins at the first value."""
    plateau = Plateau(patience=100, smoothing_factor=0.5)
    means = []
    for value in (4.0, 2.0, 2.0, 6.0):
        plateau.follow(value)
        means.append(plateau.state.smoothed)
    assert means == [4.0, 3.0, 2.5, 4.25]
    assert (plateau.state.best, plateau.state.bad) == (2.5, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(value):
    """They are no improvement, and leave the mean as it is."""
    plateau = Plateau(patience=100, smoothing_factor=0.5)
    for each in (value, 4.0, value, 2.0):
        plateau.follow(each)
    assert (plateau.state.best, plateau.state.bad, plateau.state.smoothed) == (3.0, 0, 3.0)


def test_state_goes_on():
    one, two = Plateau(factor=0.5, patience=0), Plateau(factor=0.5, patience=0)
    for value in (3.0, 4.0):
        one.follow(value)
    two.load_state_dict(one.state_dict())
    for value in (2.0, 5.0, 6.0):
        one.follow(value)
        two.follow(value)
    assert one.state_dict() == two.state_dict() == {"reductions": 3, "best": 2.0, "bad": 0, "smoothed": 6.0}
