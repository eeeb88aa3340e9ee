"""mlip's optimizer: its formulas in one dimension, and the order of its three parts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nequip_like.optim.optax_amsgrad import OptaxAMSGrad


def weight(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def steps(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, gradients: list[float]) -> list[float]:
    found = []
    for gradient in gradients:
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        found.append(parameter.item())
    return found


def test_constant_gradient_in_closed_form():
    """Corrected moments of a constant gradient g are g and g^2: each step is lr g / (|g| + eps)."""
    w = weight(1.0)
    found = steps(OptaxAMSGrad([w], lr=0.1, eps=0.5, grad_norm=None), w, [2.0] * 5)
    assert found == pytest.approx([1.0 - 0.1 * 2.0 / 2.5 * t for t in range(1, 6)], rel=1e-14)


def test_gradients_that_fall():
    """The maximum is of the corrected second moment: 4 at the first step, and it stays."""
    w = weight(0.0)
    found = steps(OptaxAMSGrad([w], lr=1.0, betas=(0.5, 0.75), eps=0.0, grad_norm=None), w, [2.0, 0.0, 0.0])
    # m = 1, 1/2, 1/4; corrected by 1/2, 3/4, 7/8; v = 1, 3/4, ... corrected 4, 12/7, ...
    expected = [-2.0 / 2.0, -(2.0 / 3.0) / 2.0, -(2.0 / 7.0) / 2.0]
    assert found == pytest.approx([sum(expected[:t]) for t in (1, 2, 3)], rel=1e-14)
    # torch takes the maximum of v = 1, 3/4, 9/16, which is 1, and corrects that by 1/4, 7/16, 37/64.
    w = weight(0.0)
    other = steps(torch.optim.Adam([w], lr=1.0, betas=(0.5, 0.75), eps=0.0, amsgrad=True), w, [2.0, 0.0, 0.0])
    roots = [math.sqrt(1 / c) for c in (1 / 4, 7 / 16, 37 / 64)]
    steps_of_torch = [-m / r for m, r in zip((2.0, 2 / 3, 2 / 7), roots, strict=True)]
    assert other == pytest.approx([sum(steps_of_torch[:t]) for t in (1, 2, 3)], rel=1e-12)


def trajectory(gradients, w=2.0, lr=0.05, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, decay=0.0, limit=math.inf):
    """The formulas of the class, number by number."""
    m = v = u = 0.0
    found = []
    for t, gradient in enumerate(gradients, start=1):
        g = gradient + decay * w
        g = g if abs(g) < limit else g * limit / abs(g)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        u = max(u, v / (1 - b2**t))
        w -= lr * m / (1 - b1**t) / (math.sqrt(u + eps_root) + eps)
        found.append(w)
    return found


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, {"grad_norm": None}),
        ({"decay": 0.3}, {"weight_decay": 0.3, "grad_norm": None}),
        ({"decay": 0.3, "limit": 0.7}, {"weight_decay": 0.3, "grad_norm": 0.7}),
        ({"eps_root": 0.01, "b1": 0.6, "b2": 0.9}, {"eps_root": 0.01, "betas": [0.6, 0.9], "grad_norm": None}),
    ],
)
def test_trajectory_in_one_dimension(options, arguments):
    gradients = [1.0, -0.2, 3.0, 0.05, -1.5, 0.4]
    w = weight(2.0)
    found = steps(OptaxAMSGrad([w], lr=0.05, **arguments), w, gradients)
    assert found == pytest.approx(trajectory(gradients, **options), rel=1e-13)


def test_decay_comes_before_clipping():
    """g = 0 + 10 w = 20, clipped to 1; decay behind the clipping would leave the gradient as it is."""
    w = weight(2.0)
    optimizer = OptaxAMSGrad([w], lr=1.0, betas=(0.0, 0.5), eps=1.0, weight_decay=10.0, grad_norm=1.0)
    assert steps(optimizer, w, [0.0]) == pytest.approx([2.0 - 1.0 / 2.0], rel=1e-14)


def test_norm_is_that_of_all_parameters():
    a, b = weight(0.0), weight(0.0, 0.0)
    groups = [{"params": [a], "lr": 2.0}, {"params": [b]}]
    optimizer = OptaxAMSGrad(groups, lr=1.0, betas=(0.0, 0.0), eps=1.0, grad_norm=6.5)
    a.grad, b.grad = torch.tensor([3.0]).double(), torch.tensor([-4.0, 12.0]).double()
    optimizer.step()
    # Halved: 1.5, -2, 6, each divided by its size and 1.
    assert a.item() == pytest.approx(-2.0 * 1.5 / 2.5, rel=1e-14)
    assert b.tolist() == pytest.approx([2.0 / 3.0, -6.0 / 7.0], rel=1e-14)
    assert a.grad.item() == 3.0  # gradients are left as they are


def test_parameters_without_gradient_are_passed_over():
    a, b = weight(1.0), weight(1.0)
    optimizer = OptaxAMSGrad([a, b], lr=0.1, weight_decay=0.1)
    a.grad = torch.ones_like(a)
    optimizer.step()
    assert b.item() == 1.0
    assert b not in optimizer.state
    a.grad = None
    before = a.item()
    optimizer.step()
    assert a.item() == before
    assert optimizer.state[a]["step"] == 1


def test_state_goes_on_bit_for_bit():
    gradients = [1.0, -0.2, 3.0, 0.05]
    w = weight(2.0)
    whole = steps(OptaxAMSGrad([w], lr=0.05), w, gradients)
    first = weight(2.0)
    optimizer = OptaxAMSGrad([first], lr=0.05)
    steps(optimizer, first, gradients[:2])
    second = nn.Parameter(first.detach().clone())
    again = OptaxAMSGrad([second], lr=0.05)
    again.load_state_dict(optimizer.state_dict())
    assert steps(again, second, gradients[2:]) == whole[2:]
