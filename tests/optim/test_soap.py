"""SOAP in stacked form against the paper's algorithm, matrix by matrix."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nequip_like.nn.native.compiler import find_compiler
from nequip_like.optim import matrix_passes
from nequip_like.optim.build import build_optimizer
from nequip_like.optim.matrices import view_matrices
from nequip_like.optim.muon import MuonAndAdamW
from nequip_like.optim.soap import SOAPAndAdamW

LR, B1, B2, EPS, DECAY, INTERVAL = 0.01, 0.9, 0.95, 1e-8, 0.1, 4


class Plain:
    """Algorithm 3 of Vyas et al. 2024 for one matrix, its first moment kept in the space of the weights."""

    def __init__(self, weight: torch.Tensor, number: int, limit: int) -> None:
        self.w, self.number, self.limit, self.t = weight.clone(), number, limit, 0
        self.m = torch.zeros_like(weight)

    def step(self, g: torch.Tensor) -> None:
        rows, columns = g.shape
        if self.t == 0:
            self.v = torch.zeros_like(g)
            self.left, self.right = (1 - B2) * g @ g.T, (1 - B2) * g.T @ g
            self.u = torch.linalg.eigh(self.left)[1].flip(1) if rows <= self.limit else torch.eye(rows).double()
            self.q = torch.linalg.eigh(self.right)[1].flip(1) if columns <= self.limit else torch.eye(columns).double()
            self.t = 1
            return
        turned = self.u.T @ g @ self.q
        self.m = B1 * self.m + (1 - B1) * g
        self.v = B2 * self.v + (1 - B2) * turned**2
        mean = self.u.T @ self.m @ self.q / (1 - B1**self.t)
        direction = self.u @ (mean / ((self.v / (1 - B2**self.t)).sqrt() + EPS)) @ self.q.T
        self.w = (1 - LR * DECAY) * self.w - LR * direction
        self.left = B2 * self.left + (1 - B2) * g @ g.T
        self.right = B2 * self.right + (1 - B2) * g.T @ g
        self.t += 1
        if self.t > INTERVAL and (self.t + self.number) % INTERVAL == 0:
            if rows <= self.limit:
                order = (self.u.T @ self.left @ self.u).diag().argsort(descending=True)
                self.v = self.v[order]
                self.u = torch.linalg.qr(self.left @ self.u[:, order])[0]
            if columns <= self.limit:
                order = (self.q.T @ self.right @ self.q).diag().argsort(descending=True)
                self.v = self.v[:, order]
                self.q = torch.linalg.qr(self.right @ self.q[:, order])[0]


# Two parameters with matrices of one shape, one of them a stack; sides that are beyond the limit of 8; square ones only
# below it, for of others the first gradient leaves the basis of one side open.
SHAPES = [(6, 6), (6, 3, 6), (12, 5), (5, 2, 9), (9, 10), (7, 7)]


def make_weights(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)) for shape in SHAPES]


def make_optimizer(weights: list[nn.Parameter]) -> SOAPAndAdamW:
    group = {"params": weights, "is_matrix": True}
    options = {"precondition_frequency": INTERVAL, "max_precondition_dim": 8, "one_sided": False}
    return SOAPAndAdamW([group], lr=LR, betas=(B1, B2), eps=EPS, weight_decay=DECAY, **options)


def set_gradients(weights: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, dtype=torch.float64, generator=generator).to(weight.dtype)


def take_steps(weights: list[nn.Parameter], optimizer: SOAPAndAdamW, first: int, last: int) -> None:
    for step in range(first, last):
        set_gradients(weights, step)
        optimizer.step()


def follow_plainly(steps: int) -> list[torch.Tensor]:
    weights = make_weights()
    numbers = iter(range(100))
    plain = [[Plain(matrix, next(numbers), limit=8) for matrix in view_matrices(w.detach())] for w in weights]
    for step in range(steps):
        set_gradients(weights, step)
        for matrices, weight in zip(plain, weights, strict=True):
            for matrix, gradient in zip(matrices, view_matrices(weight.grad), strict=True):
                matrix.step(gradient)
    return [torch.stack([matrix.w for matrix in matrices]) for matrices in plain]


@pytest.mark.usefixtures("_form")
def test_stacked_is_the_plain_algorithm():
    weights = make_weights()
    take_steps(weights, make_optimizer(weights), 0, 40)
    for weight, expected in zip(weights, follow_plainly(40), strict=True):
        torch.testing.assert_close(view_matrices(weight.detach()), expected, rtol=0, atol=1e-10)


def test_first_step_only_looks():
    weights = make_weights()
    before = [weight.detach().clone() for weight in weights]
    take_steps(weights, make_optimizer(weights), 0, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, weights, strict=True))


@pytest.mark.usefixtures("_form")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_state_goes_on_bit_for_bit(dtype):
    whole, part = make_weights(dtype), make_weights(dtype)
    take_steps(whole, make_optimizer(whole), 0, 14)
    first = make_optimizer(part)
    take_steps(part, first, 0, 6)
    rest = copy.deepcopy(part)
    second = make_optimizer(rest)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    take_steps(rest, second, 6, 14)
    assert all(torch.equal(a, b) for a, b in zip(whole, rest, strict=True))
    held = second.state[rest[0]]
    assert {value.dtype for value in held.values() if isinstance(value, torch.Tensor)} == {dtype}


@pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")
@pytest.mark.parametrize("make", [make_optimizer, lambda weights: MuonAndAdamW(weights, lr=LR)], ids=["SOAP", "Muon"])
def test_threads_change_no_bit(make):
    """Sides of several vectors and of parts of one, in the model's own type."""
    results = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        weights = [*make_weights(torch.float32), nn.Parameter(torch.ones(40, 40))]
        take_steps(weights, make(weights), 0, 12)
        results.append(weights)
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_compiled_is_torch_for_the_sides_of_a_model(dtype, monkeypatch):
    """Where vectors are whole: 32 and 64, and one more."""
    if find_compiler() is None:
        pytest.skip("there is no C compiler")
    results = []
    for library in (matrix_passes._load_library, lambda: None):
        monkeypatch.setattr(matrix_passes, "_load_library", library)
        generator = torch.Generator().manual_seed(1)
        shapes = [(32, 2, 32), (64, 64), (33, 33), (32, 64)]
        weights = [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
        optimizer = SOAPAndAdamW([{"params": weights, "is_matrix": True}], lr=LR, precondition_frequency=3)
        take_steps(weights, optimizer, 0, 8)
        results.append(weights)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-3
    for compiled, plain in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=0, atol=tolerance)


@pytest.mark.usefixtures("_form")
@pytest.mark.parametrize("size", [1.0, 1e-12, 1e-21, 0.0])
def test_bases_stay_orthogonal_where_gradients_are_of_rank_one_or_tiny(size):
    """Then columns that are decomposed are parallel, or their squares no numbers of float32 any more."""
    weight = nn.Parameter(torch.ones(20, 3, 20))
    optimizer = SOAPAndAdamW([{"params": [weight], "is_matrix": True}], lr=LR, precondition_frequency=2)
    for step in range(8):
        ramp = torch.linspace(-1.0, 1.0 + step, 20)
        weight.grad = (size * ramp[:, None, None] * ramp).expand(20, 3, 20).contiguous()
        optimizer.step()
    assert torch.isfinite(weight).all()
    for name in ("left_basis", "right_basis"):
        basis = optimizer.state[weight][name]
        torch.testing.assert_close(basis.mT @ basis, torch.eye(20).expand(3, 20, 20), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("_form")
def test_a_state_that_is_put_in_place_of_another_is_used():
    """Between two steps, as by who goes back to an earlier one: of a parameter, or one array of it."""
    weights, others = make_weights(), make_weights()
    optimizer, reference = make_optimizer(weights), make_optimizer(others)
    take_steps(weights, optimizer, 0, 6)
    take_steps(others, reference, 0, 6)
    left = optimizer.state[weights[0]]
    optimizer.state[weights[0]] = copy.deepcopy(left)
    optimizer.state[weights[1]]["mean"] = optimizer.state[weights[1]]["mean"].clone()
    kept = copy.deepcopy(left)
    take_steps(weights, optimizer, 6, 9)
    take_steps(others, reference, 6, 9)
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))
    assert torch.equal(optimizer.state[weights[1]]["mean"], reference.state[others[1]]["mean"])
    assert left["step"] == 6
    assert all(torch.equal(left[name], kept[name]) for name in ("mean", "square", "left", "left_basis"))


def test_one_sided_keeps_a_basis_of_the_shorter_side():
    weights = [nn.Parameter(torch.ones(shape)) for shape in [(4, 6), (6, 2, 4), (5, 5)]]
    optimizer = SOAPAndAdamW([{"params": weights, "is_matrix": True}])
    take_steps(weights, optimizer, 0, 1)
    shapes = [{k: tuple(v.shape) for k, v in optimizer.state[w].items() if k.endswith("_basis")} for w in weights]
    assert shapes[0] == {"left_basis": (1, 4, 4)}
    assert shapes[1] == {"right_basis": (2, 4, 4)}
    assert shapes[2] == {"left_basis": (1, 5, 5), "right_basis": (1, 5, 5)}


def test_a_parameter_without_gradient_is_passed_over_with_its_state():
    """Its steps are counted by itself: it goes on as if the others had not moved."""
    weights = make_weights()
    optimizer = make_optimizer(weights)
    for step in range(16):
        set_gradients(weights, step // 2)
        if step % 2:
            weights[1].grad = None
        optimizer.step()
    expected = follow_plainly(8)[1]
    torch.testing.assert_close(view_matrices(weights[1].detach()), expected, rtol=0, atol=1e-10)


def test_groups_of_a_model(make_potential):
    """Self-connections are stacks of matrices; embedding and readout are AdamW's."""
    model = make_potential()
    config = {"_target_": "nequip_like.optim.soap.SOAPAndAdamW", "lr": 0.01}
    config["param_groups"] = [{"match": "self_connection", "lr": 0.1}]
    groups = build_optimizer(config, model).param_groups
    assert [(group["name"], group["lr"]) for group in groups] == [
        ("main-matrices", 0.01),
        ("self_connection-matrices", 0.1),
        ("main-adamw", 0.01),
    ]
    assert {weight.ndim for weight in groups[1]["params"]} == {3}
    assert [tuple(weight.shape) for weight in groups[2]["params"]] == [
        tuple(model.energy_model.type_embedding.shape),
        (model.energy_model.readout.weights[0].shape[0], 1),
    ]
