"""Muon and AdamW as one optimizer: who updates what, and that both are those of torch, matrix by matrix."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nequip_like.errors import ConfigError
from nequip_like.optim.build import build_optimizer
from nequip_like.optim.matrices import view_matrices
from nequip_like.optim.muon import MuonAndAdamW

CONFIG = {"_target_": "nequip_like.optim.Optimizer", "name": "Muon", "lr": 0.01, "weight_decay": 0.1}


def test_which_parameters_are_matrices(make_potential):
    """Linear maps, self-connections, radial networks; not the embedding and the readout of one column."""
    model = make_potential(per_type_energy_shifts_trainable=True)
    groups = build_optimizer(CONFIG, model).param_groups
    assert [group["name"] for group in groups] == ["main-matrices", "main-adamw"]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    kinds = [{names[id(parameter)].split(".")[3] for parameter in group["params"]} for group in groups[:1]]
    assert kinds == [{"linear_in", "linear_out", "self_connection", "radial_mlp"}]
    assert {names[id(parameter)] for parameter in groups[1]["params"]} == {
        *("energy_model.type_embedding", "energy_model.readout.weights.0", "energy_model.scale_shift.shifts"),
    }


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


def iterate_plainly(direction: torch.Tensor, steps: int) -> torch.Tensor:
    """Newton and Schulz for one matrix, as Jordan et al. write it."""
    tall = direction.shape[0] > direction.shape[1]
    x = direction.T if tall else direction
    x = x / max(float(x.square().sum().sqrt()), 1e-7)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if tall else x


@pytest.mark.usefixtures("_form")
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", ["match_rms_adamw", "original"])
def test_stacked_is_the_plain_algorithm(adjust, nesterov):
    """Of two parameters with matrices of one shape, one a stack of them, and of others; over 30 steps."""
    generator = torch.Generator().manual_seed(0)
    weights = [
        nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=generator))
        for shape in [(6, 4), (6, 3, 4), (12, 5), (5, 2, 9), (33, 33)]
    ]
    group = {"params": weights, "is_matrix": True}
    optimizer = MuonAndAdamW([group], lr=0.01, weight_decay=0.1, momentum=0.9, nesterov=nesterov, adjust_lr_fn=adjust)
    plain = [[matrix.clone() for matrix in view_matrices(weight.detach())] for weight in weights]
    momenta = [[torch.zeros_like(matrix) for matrix in matrices] for matrices in plain]
    for _ in range(30):
        for weight, matrices, means in zip(weights, plain, momenta, strict=True):
            weight.grad = torch.randn(weight.shape, dtype=torch.float64, generator=generator)
            for matrix, mean, gradient in zip(matrices, means, view_matrices(weight.grad), strict=True):
                mean.copy_(0.9 * mean + 0.1 * gradient)
                update = iterate_plainly(0.1 * gradient + 0.9 * mean if nesterov else mean, 5)
                rows, columns = matrix.shape
                matched = adjust == "match_rms_adamw"
                scale = 0.2 * max(rows, columns) ** 0.5 if matched else max(1, rows / columns) ** 0.5
                matrix.copy_((1 - 0.01 * 0.1) * matrix - 0.01 * scale * update)
        optimizer.step()
    for weight, matrices in zip(weights, plain, strict=True):
        torch.testing.assert_close(view_matrices(weight.detach()), torch.stack(matrices), rtol=0, atol=1e-10)


def test_both_are_those_of_torch():
    """Muon but for the rounding of its iteration, bfloat16 there; AdamW to rounding."""
    one, two = network(), network()
    options = {"lr": 0.01, "weight_decay": 0.1}
    train(one, [build_optimizer(CONFIG, one)], 1)
    matrices = [p for p in two.parameters() if p.ndim == 2]
    others = [p for p in two.parameters() if p.ndim != 2]
    muon = torch.optim.Muon(matrices, **options, adjust_lr_fn="match_rms_adamw")
    train(two, [muon, torch.optim.AdamW(others, **options)], 1)
    for ours, theirs in zip(one.parameters(), two.parameters(), strict=True):
        atol = 0.01 * 0.2 * 2 * 0.2 if ours.ndim == 2 else 1e-12  # learning rate, scale, a fifth
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


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
    assert [group["is_matrix"] for group in optimizer.param_groups] == [True, False]
    assert [parameter.ndim for parameter in optimizer.param_groups[1]["params"]] == [1, 1]
    only_vectors = MuonAndAdamW([nn.Parameter(torch.zeros(3))])
    assert [group["is_matrix"] for group in only_vectors.param_groups] == [False]


def test_parameters_without_gradient_are_passed_over():
    model = network()
    optimizer = build_optimizer(CONFIG, model)
    before = weights(model)
    optimizer.step()
    assert same(before, weights(model))
    assert not optimizer.state


def test_checkpoint_of_an_earlier_version():
    """Its Muon left stacks of matrices to AdamW, so its state is of other parameters."""
    optimizer = build_optimizer(CONFIG, network())
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["muon"] = group.pop("is_matrix")
    with pytest.raises(ConfigError, match=r"earlier version's Muon.*\n  -> .*finetune\.source"):
        optimizer.load_state_dict(state)
