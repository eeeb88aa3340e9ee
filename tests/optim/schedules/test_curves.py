"""Closed forms of the schedules: values by hand over three periods, and torch's own schedulers step by step."""

import math
from functools import partial

import pytest
import torch
from torch.optim import lr_scheduler as of_torch

from nequip_like.optim.schedules import curves

BASE, LOW = 5e-4, 1e-5
FLOOR = LOW / BASE


def stepped(scheduler, steps, **arguments):
    """Learning rates of a scheduler of torch before each of some steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE)
    schedule = scheduler(optimizer, **arguments)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("ours", "scheduler", "arguments"),
    [
        (partial(curves.cosine, period=20, floor=FLOOR), of_torch.CosineAnnealingLR, {"T_max": 20, "eta_min": LOW}),
        (partial(curves.cosine, period=7), of_torch.CosineAnnealingLR, {"T_max": 7}),
        (
            partial(curves.cosine_restarts, period=10, floor=FLOOR),
            of_torch.CosineAnnealingWarmRestarts,
            {"T_0": 10, "eta_min": LOW},
        ),
        (
            partial(curves.cosine_restarts, period=4, growth=2),
            of_torch.CosineAnnealingWarmRestarts,
            {"T_0": 4, "T_mult": 2},
        ),
        (
            partial(curves.cosine_restarts, period=3, growth=3, floor=FLOOR),
            of_torch.CosineAnnealingWarmRestarts,
            {"T_0": 3, "T_mult": 3, "eta_min": LOW},
        ),
        (partial(curves.exponential, length=1, gamma=0.95), of_torch.ExponentialLR, {"gamma": 0.95}),
        (partial(curves.step, length=6, gamma=0.3), of_torch.StepLR, {"step_size": 6, "gamma": 0.3}),
        (
            partial(curves.linear, length=12, end=0.1),
            of_torch.LinearLR,
            {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 12},
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_equal_to_torch(ours, scheduler, arguments):
    """60 steps: three periods of each and more."""
    expected = stepped(scheduler, 60, **arguments)
    assert [BASE * ours(n) for n in range(60)] == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("n", "expected"), [(0, 1.0), (5, 0.5 + 0.25 * math.sqrt(2)), (10, 0.5), (20, 0.0), (40, 1.0), (60, 0.0)]
)
def test_cosine(n, expected):
    assert curves.cosine(n, 20) == pytest.approx(expected, abs=1e-15)
    assert curves.cosine(n, 20, 0.2) == pytest.approx(0.2 + 0.8 * expected, abs=1e-15)


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 29, 30, 69])
def test_restarts(n):
    """Periods of 10, 20 and 40 steps begin at 0, 10 and 30."""
    start, period = next((s, p) for s, p in ((30, 40), (10, 20), (0, 10)) if n >= s)
    expected = 0.5 * (1 + math.cos(math.pi * (n - start) / period))
    assert curves.cosine_restarts(n, 10, 2) == expected
    if n == start:
        assert expected == 1.0


def test_restarts_after_many_steps():
    assert curves.cosine_restarts(10**12, 10) == 1.0
    assert curves.cosine_restarts(10 * (2**40 - 1), 10, 2) == 1.0


@pytest.mark.parametrize(("n", "expected"), [(0, 1.0), (79, 0.5), (158, 0.25), (237, 0.125), (7900, 0.01)])
def test_exponential_and_step_meet_at_whole_lengths(n, expected):
    assert curves.exponential(n, 79, 0.5, 0.01) == expected
    assert curves.step(n, 79, 0.5, 0.01) == expected


def test_between_whole_lengths():
    assert curves.exponential(40, 80, 0.25) == 0.5
    assert curves.step(79, 80, 0.25) == 1.0
    assert curves.step(80, 80, 0.25) == 0.25


@pytest.mark.parametrize(("n", "expected"), [(0, 1.0), (25, 0.8), (50, 0.6), (100, 0.2), (101, 0.2), (10**9, 0.2)])
def test_linear(n, expected):
    assert curves.linear(n, 100, 0.2) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, 0.001),  # the first step is taken with the first value
        (2000, 0.0055),
        (4000, 0.01),
        (4000 + 90000, 0.00775),
        (4000 + 180000, 0.0055),
        (4000 + 360000, 0.001),
        (10**7, 0.001),
    ],
)
def test_peak(n, expected):
    """0.001 to 0.01 in 4000 steps, back in 360000, then constant."""
    assert 0.01 * curves.peak(n, 4000, 360000, 0.1, 0.1) == pytest.approx(expected, rel=1e-12)
