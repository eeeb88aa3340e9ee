"""The cuEquivariance kernel against the reference: on a GPU if its kernels are there, else on the CPU."""

import copy

import pytest
import torch
from e3nn.o3 import Irreps

pytest.importorskip("cuequivariance_torch", reason="cuequivariance-torch is not installed")

from nequip_like.errors import ModelError
from nequip_like.nn.kernels import cue
from nequip_like.nn.kernels.cue import CueConvolution, polynomial_of
from nequip_like.nn.kernels.paths import PathTable
from tests.nn.agreement import expect_reference, on_device
from tests.nn.test_kernels import inputs, table_of, values_and_derivatives

DEVICE = "cuda" if torch.cuda.is_available() and cue.importlib.util.find_spec("cuequivariance_ops_torch") else "cpu"


def even_table(l_max, parity):
    """Two channels of each kind: a segment is two channels wide."""
    signs = {degree: (1, -1) if parity else ((-1) ** degree,) for degree in range(l_max + 1)}
    irreps = Irreps([(2, (degree, sign)) for degree in signs for sign in signs[degree]])
    return PathTable(irreps, l_max, irreps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("l_max", "parity"),
    [(0, False), (0, True), (1, False), pytest.param(1, True, marks=pytest.mark.slow)],
)
def test_equals_reference_with_uneven_channels(l_max, parity, dtype):
    table = table_of(l_max, parity)
    expect_reference(CueConvolution(table, dtype), table, *inputs(table, dtype), DEVICE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("l_max", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_equals_reference(l_max, dtype):
    table = even_table(l_max, False)
    expect_reference(CueConvolution(table, dtype), table, *inputs(table, dtype), DEVICE)


@pytest.mark.parametrize("edges", [0, 1])
def test_few_edges(edges):
    """The library's own rules for one row (the same for all) and none (no index at all) do not matter."""
    table = even_table(1, False)
    tensors, pairs = inputs(table, torch.float64, edges=edges)
    kernel = CueConvolution(table, torch.float64)
    value, *derivatives = values_and_derivatives(on_device(kernel, table, pairs, DEVICE), tensors)
    assert value.shape == (5, table.irreps_out.dim)
    assert any(part.any() for part in (value, *derivatives)) == (edges > 0)
    expect_reference(kernel, table, tensors, pairs, DEVICE)


def test_a_wrong_sign_is_noticed(monkeypatch):
    table = even_table(1, False)
    right = list(cue._monomials(table))
    wrong = [(*right[0][:-1], -right[0][-1]), *right[1:]]
    monkeypatch.setattr(cue, "_monomials", lambda table: wrong)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        expect_reference(CueConvolution(table, torch.float64), table, *inputs(table, torch.float64), DEVICE)


def test_segments_have_one_width():
    """The widest that all can have: GPU kernels want segments of the same size."""
    polynomial = polynomial_of(PathTable(Irreps("64x0e + 32x1o"), 1, Irreps("0e + 1o")))
    weights, features, harmonics = polynomial.inputs
    (outputs,) = polynomial.outputs
    assert [set(operand.segments) for operand in (weights, features, harmonics, outputs)] == [
        {(32,)}, {(32,)}, {()}, {(32,)}
    ]  # fmt: skip
    assert [operand.size for operand in (weights, features, harmonics, outputs)] == [192, 160, 4, 96 + 3 * 96]


def test_copies_and_checkpoints():
    table = even_table(0, False)
    kernel = CueConvolution(table, torch.float64)
    expect_reference(kernel, table, *inputs(table, torch.float64), DEVICE)
    assert kernel._products
    assert not kernel.state_dict(), "tables are not part of a checkpoint"
    twin = copy.deepcopy(kernel)
    assert not twin._products
    expect_reference(twin, table, *inputs(table, torch.float64), DEVICE)


def test_missing_packages(monkeypatch):
    monkeypatch.setattr(cue.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"cuequivariance_torch is not installed\n.*pip install cuequivariance "):
        CueConvolution(even_table(0, False), torch.float32)


def test_missing_gpu_kernels(monkeypatch):
    """Without them the library would warn and be slow."""
    kernel = CueConvolution(even_table(0, False), torch.float32)
    monkeypatch.setattr(cue.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"cuequivariance_ops_torch is not installed\n.*cuequivariance-ops-torch-cu1"):
        kernel._product(torch.device("cuda", 0))
