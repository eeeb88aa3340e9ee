"""From configs to optimizers."""

import inspect

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from nequip_like.errors import ConfigError
from nequip_like.optim.build import build_optimizer


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).double()


def by_layer(model: nn.Module, first_lr: float) -> list[dict]:
    """What a param_groups function of a user looks like."""
    return [{"params": model[0].parameters(), "lr": first_lr}, {"params": model[1].parameters()}]


# LBFGS takes its closure from Lightning; SparseAdam is for sparse gradients only.
ALL = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, Optimizer) and name not in ("Optimizer", "SparseAdam", "Muon")
)


@pytest.mark.parametrize("name", ALL)
def test_any_optimizer_of_torch(name):
    network = model()
    optimizer = build_optimizer({"_target_": f"torch.optim.{name}", "lr": 0.01}, network)
    assert type(optimizer).__name__ == name
    before = [parameter.detach().clone() for parameter in network.parameters()]

    def closure():
        optimizer.zero_grad()
        loss = network(torch.ones(4, 2, dtype=torch.float64)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_arguments_and_frozen_parameters():
    network = model()
    network[0].requires_grad_(False)
    optimizer = build_optimizer({"_target_": "torch.optim.AdamW", "lr": 0.1, "betas": [0.8, 0.9]}, network)
    assert tuple(optimizer.defaults["betas"]) == (0.8, 0.9)
    assert [p.shape for p in optimizer.param_groups[0]["params"]] == [(1, 3), (1,)]


def test_param_groups(monkeypatch):
    import sys
    import types

    groups = types.ModuleType("groups_of_a_user")
    groups.by_layer = by_layer
    monkeypatch.setitem(sys.modules, "groups_of_a_user", groups)
    config = {
        "_target_": "torch.optim.Adam",
        "lr": 0.5,
        "param_groups": {"_target_": "groups_of_a_user.by_layer", "first_lr": 0.1},
    }
    optimizer = build_optimizer(config, model())
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]
    assert "param_groups" in config  # the config is left as it was
    config["param_groups"] = {"_target_": "groups_of_a_user.by_layer"}
    with pytest.raises(ConfigError, match=r"param_groups.*by_layer.*first_lr"):
        build_optimizer(config, model())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"lr": 0.1}, r"optimizer has no _target_"),
        ({"_target_": "torch.optim.Adamm"}, r"torch\.optim\.Adamm cannot be built"),
        ({"_target_": "torch.optim.Adam", "learning_rate": 0.1}, r"learning_rate"),
        ({"_target_": "torch.optim.Adam", "lr": -1.0}, r"Invalid learning rate"),
        ({"_target_": "torch.nn.ParameterList"}, r"gives ParameterList, which is no Optimizer"),
    ],
)
def test_optimizers_that_cannot_be_built(config, message):
    with pytest.raises(ConfigError, match=message):
        build_optimizer(config, model())


def test_nothing_to_train():
    with pytest.raises(ConfigError, match="no trainable parameters"):
        build_optimizer({"_target_": "torch.optim.Adam"}, model().requires_grad_(False))


@pytest.mark.parametrize(
    ("config", "fused"),
    [
        ({"_target_": "torch.optim.Adam"}, True),
        ({"_target_": "torch.optim.AdamW"}, True),
        ({"_target_": "torch.optim.Adam", "fused": False}, False),
        ({"_target_": "torch.optim.Adam", "foreach": True}, None),
        ({"_target_": "torch.optim.SGD", "lr": 0.1}, None),
    ],
)
def test_fused_form(config, fused):
    assert build_optimizer(config, torch.nn.Linear(2, 1)).param_groups[0]["fused"] is fused
