"""Passes over all weights in C: the numbers of torch, with any number of threads, or torch itself."""

from __future__ import annotations

import math

import pytest
import torch

from nequip_like.errors import ModelError
from nequip_like.nn.native import compiler
from nequip_like.nn.native.compiler import find_compiler
from nequip_like.optim import weight_passes
from nequip_like.optim.averaging import averaged_copy
from nequip_like.optim.weight_passes import HeldTensors, WeightPasses
from nequip_like.training.gradient_norm import MeasuredGradients

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")
# Ends of pieces of 4,096 numbers, and of vectors.
SHAPES = [(7,), (4096,), (100, 30), (64, 64, 3), (1,), (), (0,), (5000,)]


def make(dtype: torch.dtype, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=dtype, generator=generator) for shape in SHAPES]


class Derived(torch.Tensor):
    """Such as those that are spread over several processes."""


@needs_compiler
def test_norm_by_hand():
    """3-4-12-84: the norm is 85."""
    tensors = [torch.tensor([3.0, 4.0]), torch.tensor(12.0), torch.zeros(0), torch.tensor([[84.0]])]
    passes = WeightPasses.of(tensors)
    assert passes is not None
    assert passes.measure_norm(tensors) == 85.0


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_norm_is_that_of_all_numbers(dtype):
    tensors = make(dtype, seed=1)
    expected = torch.cat([tensor.double().flatten() for tensor in tensors]).norm().item()
    passes = WeightPasses.of(tensors)
    assert passes is not None
    assert passes.measure_norm(tensors) == pytest.approx(expected, rel=1e-14)
    tensors[3][5, 6, 1] = math.nan
    assert math.isnan(passes.measure_norm(tensors))


@needs_compiler
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_averages_move_as_torch_moves_them(dtype, share):
    averages, weights = make(dtype, seed=2), make(dtype, seed=3)
    expected = [torch.lerp(average, weight, share) for average, weight in zip(averages, weights, strict=True)]
    passes = WeightPasses.of(averages, weights)
    assert passes is not None
    before = averages[0]._version
    passes.move_averages(HeldTensors(averages, weights), share)
    assert averages[0]._version > before  # autograd is told
    torch.testing.assert_close(averages, expected, rtol=0, atol=4e-7 if dtype == torch.float32 else 1e-15)
    if share == 1.0:
        assert all(torch.equal(average, weight) for average, weight in zip(averages, weights, strict=True))


@needs_compiler
def test_threads_change_no_bit():
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            averages = [torch.linspace(-1, 1, 3_000_001), torch.linspace(0, 3, 777_777)]
            weights = [average.flip(0) for average in averages]
            passes = WeightPasses.of(averages, weights)
            assert passes is not None
            passes.move_averages(HeldTensors(averages, weights), 0.1)
            results.append((passes.measure_norm(averages), averages))
    finally:
        torch.set_num_threads(threads)
    for norm, averages in results[1:]:
        assert norm == results[0][0]
        assert all(torch.equal(one, other) for one, other in zip(averages, results[0][1], strict=True))


@pytest.mark.parametrize(
    "lists",
    [
        [[]],
        [[torch.zeros(2), torch.zeros(2, dtype=torch.float64)]],
        [[torch.zeros(2, dtype=torch.bfloat16)]],
        [[torch.zeros(4, 4).T]],
        [[torch.zeros(2)], [torch.zeros(3)]],
        [[torch.zeros(2, device="meta")]],
        [[torch.zeros(2), torch.eye(2).to_sparse()]],
        [[torch.zeros(2), torch.zeros(2).as_subclass(Derived)]],
    ],
    ids=["none", "two types", "16 bits", "gaps", "sizes", "device", "sparse", "derived"],
)
def test_what_torch_has_to_do(lists):
    assert WeightPasses.of(*lists) is None


@pytest.mark.parametrize(
    "other",
    [
        lambda x: x.double(),
        lambda x: x.clone(),
        lambda x: x.T.contiguous().T,
        lambda x: torch.cat([x, x])[: len(x)],
    ],
    ids=["type", "place", "gaps", "part of another"],
)
def test_held_tensors_that_got_other_numbers(other):
    """The same objects, whose memory C may not be given under what was found out before."""
    tensors = [torch.ones(3, 2), torch.zeros(4, 2)]
    held = HeldTensors(tensors[:1], tensors[1:])
    assert held.are(tensors[:1], tensors[1:])
    assert not held.are(tensors)  # not in these lists
    tensors[1].data = other(tensors[1])
    assert not held.are(tensors[:1], tensors[1:])


@needs_compiler
@pytest.mark.parametrize(
    "gradients",
    [
        [torch.zeros(2), torch.zeros(4)],
        [torch.zeros(2)],
        [torch.zeros(2), torch.zeros(3, dtype=torch.float64)],
        [torch.zeros(2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)],
        [torch.zeros(2), torch.zeros(6)[::2]],
    ],
    ids=["sizes", "count", "two types", "another type", "gaps"],
)
def test_arrays_that_passes_do_not_fit(gradients):
    passes = WeightPasses.of([torch.zeros(2), torch.zeros(3)])
    assert passes is not None
    assert passes.fit([torch.ones(2), torch.ones(3)])
    assert not passes.fit(gradients)


def test_without_a_compiler(monkeypatch):
    """The same norm and average."""
    monkeypatch.setattr(weight_passes, "_load_library", lambda: None)
    assert MeasuredGradients([torch.tensor([3.0]), torch.tensor([4.0])]).norm.item() == 5.0
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    average = averaged_copy(model, decay=0.9, warmup=False)
    torch.nn.init.constant_(model.weight, 2.0)
    average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(1.1, rel=1e-6)


def test_a_compiler_that_fails_is_warned_of(monkeypatch):
    def fail(*_):
        raise ModelError("gcc cannot compile", "")

    monkeypatch.setattr(compiler, "compile_library", fail)
    monkeypatch.setattr(compiler, "find_compiler", lambda: "gcc")
    weight_passes._load_library.cache_clear()
    try:
        with pytest.warns(UserWarning, match=r"weights are updated by torch operations, .*: gcc cannot compile"):
            assert WeightPasses.of([torch.zeros(2)]) is None
    finally:
        weight_passes._load_library.cache_clear()
