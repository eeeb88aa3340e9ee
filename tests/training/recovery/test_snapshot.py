"""Back to an earlier state, bit for bit and in place: weights, average, state of any optimizer."""

import copy

import pytest
import torch
from torch import nn

from nequip_like.optim.averaging import averaged_copy
from nequip_like.optim.build import build_optimizer
from nequip_like.training.recovery.snapshot import Snapshot

OPTIMIZERS = {
    "adam": {},
    "sgd": {"momentum": 0.9},
    "muon": {},
    "mlip": {},
    "ScheduleFreeAdamW": {},
    "LBFGS": {"max_iter": 2},
}


@pytest.fixture
def module():
    torch.manual_seed(0)
    module = nn.Module()
    module.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    module.model[0].bias.requires_grad_(False)
    module.ema = averaged_copy(module.model, 0.5)
    module.elsewhere = nn.Linear(1, 1)
    return module


def build(module, name):
    config = {"_target_": "nequip_like.optim.Optimizer", "name": name, "lr": 0.1, **OPTIMIZERS[name]}
    optimizer = build_optimizer(config, module.model)
    if hasattr(optimizer, "train"):
        optimizer.train()
    return optimizer


def step(module, optimizer, times=1):
    for number in range(times):

        def closure(number=number):
            optimizer.zero_grad()
            loss = (module.model(torch.full((2, 3), 0.3 + number, dtype=torch.float64)) - 1.0).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        module.ema.update_parameters(module.model)


def state(module, optimizer):
    return copy.deepcopy([*module.model.parameters(), *module.ema.parameters(), module.ema.n_averaged])


@pytest.mark.parametrize("done", [0, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_steps_again(name, done, module):
    """From before the first step, where an optimizer has no state, and from later."""
    optimizer = build(module, name)
    step(module, optimizer, done)
    snapshot, before = Snapshot(module, optimizer, done), state(module, optimizer)
    parameters = list(module.model.parameters())
    step(module, optimizer, 3)
    after = state(module, optimizer)
    assert not torch.equal(after[0], before[0])
    nn.init.zeros_(module.elsewhere.weight)
    for _ in range(2):  # it can be gone back to again
        with torch.no_grad():
            parameters[0].fill_(torch.nan)
        snapshot.restore()
        assert all(map(torch.equal, state(module, optimizer), before))
        step(module, optimizer, 3)
        assert all(map(torch.equal, state(module, optimizer), after))
    assert all(one is two for one, two in zip(module.model.parameters(), parameters, strict=True))
    assert module.elsewhere.weight.item() == 0.0


def test_by_way_of_a_checkpoint(module, tmp_path):
    optimizer = build(module, "adam")
    step(module, optimizer, 2)
    torch.save(Snapshot(module, optimizer, 2).state_dict(), tmp_path / "snapshot.pt")
    before = state(module, optimizer)
    step(module, optimizer, 3)
    after = state(module, optimizer)
    again = Snapshot(module, optimizer, 5)
    again.load_state_dict(torch.load(tmp_path / "snapshot.pt", weights_only=True))
    again.restore()
    assert again.step == 2
    assert all(map(torch.equal, state(module, optimizer), before))
    step(module, optimizer, 3)
    assert all(map(torch.equal, state(module, optimizer), after))


def test_shown_for_a_moment(module):
    optimizer = build(module, "adam")
    snapshot, weight = Snapshot(module, optimizer, 0), module.model[0].weight
    before = weight.detach().clone()
    step(module, optimizer)
    after, version = state(module, optimizer), weight._version
    with snapshot.shown():
        assert torch.equal(weight, before)
        assert weight._version > version  # compiled networks see by it that they have other weights
    assert all(map(torch.equal, state(module, optimizer), after))
