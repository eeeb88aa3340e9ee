"""Muon and AdamW as one optimizer: who updates what, and that both are torch's."""

from __future__ import annotations

import copy

import torch
from torch import nn

from nequip_like.optim.build import build_optimizer
from nequip_like.optim.muon import MuonAndAdamW, is_hidden_matrix

CONFIG = {"_target_": "nequip_like.optim.Optimizer", "name": "Muon", "lr": 0.01, "weight_decay": 0.1}


def test_which_parameters_are_matrices(make_potential):
    """Linear maps and radial networks; not the embedding, the readout of one column and the self-connections."""
    model = make_potential(per_type_energy_shifts_trainable=True)
    matrices = {name for name, parameter in model.named_parameters() if is_hidden_matrix(name, parameter)}
    assert {name.split(".")[3] for name in matrices} == {"linear_in", "linear_out", "radial_mlp"}
    groups = build_optimizer(CONFIG, model).param_groups
    assert [group["name"] for group in groups] == ["main-muon", "main-adamw"]
    assert len(groups[0]["params"]) == len(matrices)
    assert len(groups[1]["params"]) == len(list(model.parameters())) - len(matrices)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def train(model: nn.Module, optimizers: list, count: int, start: int = 0) -> None:
    for i in range(start, start + count):
        x = torch.linspace(-1, 1, 15, dtype=torch.float64).view(5, 3) * (i + 1)
        for optimizer in optimizers:
            optimizer.zero_grad()
        (model(x) - x[:, :2]).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_both_are_those_of_torch():
    one, two = network(), network()
    options = {"lr": 0.01, "weight_decay": 0.1}
    train(one, [build_optimizer(CONFIG, one)], 4)
    matrices = [p for p in two.parameters() if p.ndim == 2]
    others = [p for p in two.parameters() if p.ndim != 2]
    muon = torch.optim.Muon(matrices, **options, adjust_lr_fn="match_rms_adamw")
    train(two, [muon, torch.optim.AdamW(others, **options)], 4)
    assert same(weights(one), weights(two))


def test_one_learning_rate():
    """A schedule of torch sets the rate of both."""
    model = network()
    optimizer = build_optimizer(CONFIG, model)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.0)
    train(model, [optimizer], 1)
    scheduler.step()
    before = weights(model)
    train(model, [optimizer], 1)
    assert same(before, weights(model))


def test_state_goes_on_bit_for_bit():
    whole, part = network(), network()
    optimizer = build_optimizer(CONFIG, whole)
    train(whole, [optimizer], 5)
    first = build_optimizer(CONFIG, part)
    train(part, [first], 2)
    rest = copy.deepcopy(part)
    second = build_optimizer(CONFIG, rest)
    second.load_state_dict(first.state_dict())
    train(rest, [second], 3, start=2)
    assert same(weights(whole), weights(rest))


def test_without_groups_the_shape_decides():
    model = network()
    optimizer = MuonAndAdamW(model.parameters(), lr=0.1)
    assert [group["muon"] for group in optimizer.param_groups] == [True, False]
    assert [parameter.ndim for parameter in optimizer.param_groups[1]["params"]] == [1, 1]
    only_vectors = MuonAndAdamW([nn.Parameter(torch.zeros(3))])
    assert [group["muon"] for group in only_vectors.param_groups] == [False]


def test_parameters_without_gradient_are_passed_over():
    model = network()
    optimizer = build_optimizer(CONFIG, model)
    before = weights(model)
    optimizer.step()
    assert same(before, weights(model))
    assert not optimizer.state
