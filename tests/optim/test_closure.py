"""The step of an optimizer is entered with everything that somebody watches it by."""

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from nequip_like.optim.compiled_adam import use_compiled_step
from nequip_like.optim.muon import MuonAndAdamW


def adam():
    return use_compiled_step(torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=0.1, fused=True))


def muon():
    return MuonAndAdamW([torch.nn.Parameter(torch.ones(2, 2))], lr=0.1)


@pytest.mark.parametrize("make", [adam, muon])
def test_hooks_and_profilers_see_a_step(make):
    optimizer, seen = make(), []
    weight = optimizer.param_groups[0]["params"][0]
    weight.grad = torch.ones_like(weight)
    handles = [
        optimizer.register_step_pre_hook(lambda *_: seen.append("before")),
        optimizer.register_step_post_hook(lambda *_: seen.append("after")),
        register_optimizer_step_pre_hook(lambda *_: seen.append("before any")),
    ]
    optimizer.step()
    # Muon's own AdamW is an optimizer, too, but here it has nothing to do.
    assert [name for name in seen if name != "before any"] == ["before", "after"]
    assert "before any" in seen
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert len([name for name in seen if name != "before any"]) == 2
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    assert f"Optimizer.step#{type(optimizer).__name__}.step" in {event.key for event in profile.key_averages()}


def test_a_step_returns_the_value_of_its_closure():
    optimizer = adam()
    assert optimizer.step(lambda: 3.0) == 3.0


@pytest.mark.parametrize("make", [adam, muon])
def test_gradients_are_dropped_or_set_to_zero(make):
    optimizer = make()
    weight = optimizer.param_groups[0]["params"][0]
    weight.grad = torch.ones_like(weight)
    optimizer.zero_grad(set_to_none=False)
    assert weight.grad.abs().max() == 0.0
    optimizer.zero_grad()
    assert weight.grad is None
