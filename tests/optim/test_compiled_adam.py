"""Adam and AdamW in compiled code: the steps, the state and the hooks of torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nequip_like.nn.native.compiler import find_compiler
from nequip_like.optim import weight_passes
from nequip_like.optim.build import build_optimizer
from nequip_like.optim.compiled_adam import Adam, AdamW, use_compiled_step
from nequip_like.optim.weight_passes import WeightPasses

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")
KINDS = {"torch.optim.Adam": Adam, "torch.optim.AdamW": AdamW}
SHAPES = [(7,), (100, 30), (64, 64, 3), (1,), ()]


def make_weights(dtype: torch.dtype) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=dtype, generator=generator)) for shape in SHAPES]


def take_steps(optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], count: int, seed: int = 1) -> None:
    """Steps with gradients of very different sizes; one weight has none in every other step."""
    generator = torch.Generator().manual_seed(seed)
    for i in range(count):
        for k, weight in enumerate(weights):
            gradient = torch.randn(weight.shape, dtype=weight.dtype, generator=generator) * 10.0 ** (k - 3)
            weight.grad = None if k == 1 and i % 2 else gradient
        optimizer.step()


@pytest.fixture
def count_calls(monkeypatch):
    """How many steps were compiled ones."""
    calls = []
    real = WeightPasses.step_adam

    def counted(self, *arguments):
        calls.append(1)
        real(self, *arguments)

    monkeypatch.setattr(WeightPasses, "step_adam", counted)
    return calls


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_steps_are_those_of_torch(kind, decay, dtype, count_calls):
    """Held against the plain form (foreach=False) of torch."""
    ours, theirs = make_weights(dtype), make_weights(dtype)
    options = {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": decay}
    optimizer = use_compiled_step(kind(ours, **options, fused=True))
    reference = kind(theirs, **options, foreach=False)
    take_steps(optimizer, ours, 20)
    take_steps(reference, theirs, 20)
    assert len(count_calls) == 19  # torch takes the first one and makes the state
    torch.testing.assert_close(ours, theirs, rtol=0, atol=4e-6 if dtype == torch.float32 else 1e-14)
    for mine, other in zip(ours, theirs, strict=True):
        held, expected = optimizer.state[mine], reference.state[other]
        assert held.keys() == expected.keys()
        assert held["step"].item() == expected["step"].item()
        torch.testing.assert_close(held["exp_avg_sq"], expected["exp_avg_sq"], rtol=1e-5, atol=0)


@needs_compiler
@pytest.mark.parametrize("target", KINDS)
def test_first_step_by_hand(target):
    """With w = 2, g = 4: m / (1 - beta1) = 4 and v / (1 - beta2) = 16, so the step is lr 4 / (4 + eps)."""
    model = nn.Linear(1, 1, bias=False).double()
    optimizer = build_optimizer({"_target_": target, "lr": 0.5, "eps": 1.0, "weight_decay": 0.0}, model)
    nn.init.constant_(model.weight, 2.0)
    for expected in (2.0 - 0.5 * 4 / 5, 2.0 - 2 * 0.5 * 4 / 5):
        model.weight.grad = torch.full((1, 1), 4.0, dtype=torch.float64)
        optimizer.step()
        assert model.weight.item() == pytest.approx(expected, rel=1e-14)


@needs_compiler
@pytest.mark.parametrize("change", [{"lr": 0.003}, {"betas": (0.5, 0.9)}, {"weight_decay": 0.3}])
def test_options_of_a_group_may_change(change):
    """As schedules change them."""
    ours, theirs = make_weights(torch.float64), make_weights(torch.float64)
    optimizer = use_compiled_step(torch.optim.AdamW(ours, lr=0.01, fused=True))
    reference = torch.optim.AdamW(theirs, lr=0.01, foreach=False)
    for each, weights in ((optimizer, ours), (reference, theirs)):
        take_steps(each, weights, 4)
        each.param_groups[0].update(change)
        take_steps(each, weights, 4, seed=2)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


@needs_compiler
def test_state_goes_over_to_torch_and_back():
    weights = make_weights(torch.float32)
    optimizer = use_compiled_step(torch.optim.Adam(weights, lr=0.01, fused=True))
    take_steps(optimizer, weights, 5)
    others = copy.deepcopy(weights)
    reference = torch.optim.Adam(others, lr=0.01, fused=True)
    reference.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    again = copy.deepcopy(weights)
    resumed = use_compiled_step(torch.optim.Adam(again, lr=0.01, fused=True))
    resumed.load_state_dict(copy.deepcopy(reference.state_dict()))
    for each, held in ((optimizer, weights), (reference, others), (resumed, again)):
        take_steps(each, held, 5, seed=4)
    torch.testing.assert_close(weights, others, rtol=0, atol=4e-6)
    assert all(torch.equal(one, other) for one, other in zip(weights, again, strict=True))


@needs_compiler
@pytest.mark.parametrize(
    "options", [{"amsgrad": True}, {"maximize": True}, {"lr": torch.tensor(0.01)}], ids=["amsgrad", "maximize", "lr"]
)
def test_what_is_left_to_torch(options, count_calls):
    ours, theirs = make_weights(torch.float32), make_weights(torch.float32)
    take_steps(use_compiled_step(torch.optim.Adam(ours, **options, fused=True)), ours, 5)
    take_steps(torch.optim.Adam(theirs, **options, fused=True), theirs, 5)
    assert not count_calls
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_without_a_compiler(monkeypatch):
    monkeypatch.setattr(weight_passes, "_load_library", lambda: None)
    ours, theirs = make_weights(torch.float32), make_weights(torch.float32)
    take_steps(use_compiled_step(torch.optim.Adam(ours, fused=True)), ours, 5)
    take_steps(torch.optim.Adam(theirs, fused=True), theirs, 5)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_hooks_run_once_and_the_closure_first():
    """Also in the first step, which torch takes."""
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])  # from now on torch's own step calls hooks, too
    weight = nn.Parameter(torch.zeros(3))
    optimizer = use_compiled_step(torch.optim.Adam([weight], fused=True))
    events = []
    optimizer.register_step_pre_hook(lambda *_: events.append("before"))
    optimizer.register_step_post_hook(lambda *_: events.append("after"))

    def closure():
        events.append("closure")
        weight.grad = torch.ones(3)
        return torch.tensor(1.5)

    for _ in range(2):
        assert optimizer.step(closure).item() == 1.5
    assert events == ["before", "closure", "after"] * 2


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"_target_": "torch.optim.Adam"}, Adam),
        ({"_target_": "torch.optim.AdamW"}, AdamW),
        ({"_target_": "nequip_like.optim.Optimizer", "name": "adamw"}, AdamW),
        ({"_target_": "nequip_like.optim.Optimizer", "name": "amsgrad"}, Adam),
        ({"_target_": "torch.optim.Adam", "fused": True}, torch.optim.Adam),
        ({"_target_": "torch.optim.AdamW", "foreach": True}, torch.optim.AdamW),
        ({"_target_": "nequip_like.optim.Optimizer", "name": "adam", "fused": True}, torch.optim.Adam),
        ({"_target_": "torch.optim.SGD", "lr": 0.1}, torch.optim.SGD),
    ],
)
def test_which_optimizers_have_it(config, kind):
    assert type(build_optimizer(config, nn.Linear(2, 1))) is kind


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_are_removed_or_zero(set_to_none):
    weights = make_weights(torch.float32)
    optimizer = use_compiled_step(torch.optim.Adam(weights, fused=True))
    for weight in weights[1:]:
        weight.grad = torch.ones_like(weight)
    optimizer.zero_grad(set_to_none=set_to_none)
    assert weights[0].grad is None
    if set_to_none:
        assert all(weight.grad is None for weight in weights)
    else:
        assert all(not weight.grad.any() for weight in weights[1:])
