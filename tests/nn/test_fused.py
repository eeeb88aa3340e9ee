"""The fused kernel beyond its numbers (test_kernels.py): unsorted edges, copies, the compiler and what it keeps."""

import copy

import pytest
import torch

from nequip_like.errors import ModelError
from nequip_like.model import NequIPGNNModel
from nequip_like.nn.features import from_flat
from nequip_like.nn.kernels import compiler, fused
from nequip_like.nn.kernels.c_source import source_code
from nequip_like.nn.kernels.fused import FusedConvolution
from nequip_like.nn.kernels.reference import ReferenceConvolution
from nequip_like.testing.structures import graph_of, molecule
from tests.nn.test_kernels import NEEDS_COMPILER, inputs, ours, table_of, values_and_derivatives

pytestmark = NEEDS_COMPILER
TABLE = table_of(1, True)


@pytest.fixture
def numbers():
    """Compare a kernel with the reference, derivatives included."""

    def compare(kernel, edges=None):
        tensors, own = inputs(TABLE, torch.float64)
        edges = edges or own
        expected = values_and_derivatives(ours(ReferenceConvolution(TABLE), TABLE, edges), tensors)
        actual = values_and_derivatives(ours(kernel, TABLE, edges), tensors)
        for one, two in zip(actual, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)

    return compare


def test_edges_in_any_order(numbers):
    _, (centre, neighbour) = inputs(TABLE, torch.float64)
    order = torch.randperm(len(centre), generator=torch.Generator().manual_seed(0))
    assert not bool((centre[order][1:] >= centre[order][:-1]).all())
    numbers(FusedConvolution(TABLE, torch.float64), (centre[order], neighbour[order]))


def test_copies_load_the_library_again(numbers):
    kernel = FusedConvolution(TABLE, torch.float64)
    numbers(kernel)
    assert kernel._library is not None
    twin = copy.deepcopy(kernel)
    assert twin._library is None
    numbers(twin)


def test_a_wrong_sign_is_noticed(numbers, monkeypatch):
    """Of one coefficient, in each place of the code where it stands."""
    right = source_code(TABLE)
    coefficient = next(part.split(" *")[0] for part in right.split("(REAL)") if part.startswith("-"))
    wrong = right.replace(f"(REAL){coefficient} *", f"(REAL){coefficient[1:]} *")
    monkeypatch.setattr(fused, "source_code", lambda table: wrong)
    with pytest.raises(AssertionError):
        numbers(FusedConvolution(TABLE, torch.float64))


def test_compiled_once(numbers, monkeypatch):
    numbers(FusedConvolution(TABLE, torch.float64))
    monkeypatch.setattr(compiler, "_compile", lambda *_: pytest.fail("compiled again"))
    numbers(FusedConvolution(TABLE, torch.float64))


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ModelError, match=r"needs a C compiler, and there is none\n.*model\.kernel=batched"):
        compiler.compiled("int x;", torch.float32)


def test_compiler_that_refuses(monkeypatch, tmp_path):
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"cannot compile the fused kernel: .*error"):
        compiler.compiled("this is not C", torch.float32)
    assert list((tmp_path / "kernels").iterdir()) == []


def test_other_devices_are_refused():
    (flat, harmonics, weights), edges = inputs(TABLE, torch.float64)
    with pytest.raises(ModelError, match="runs on CPUs only"):
        FusedConvolution(TABLE, torch.float64)(from_flat(flat, TABLE.features), harmonics.to("meta"), weights, *edges)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_models_agree(dtype):
    """Energies, forces and the gradients of a force loss of a whole model."""
    arguments = {
        "seed": 0, "model_dtype": dtype, "type_names": ["H", "C", "O"], "r_max": 3.5, "l_max": 1, "num_layers": 2,
        "num_features": [6, 3], "radial_mlp_width": 8, "avg_num_neighbors": 5.0,
    }  # fmt: skip
    found = []
    for kernel in ("batched", "fused"):
        model = NequIPGNNModel(**arguments, kernel=kernel).train()
        prediction = model(graph_of(molecule(), model))
        loss = prediction["forces"].square().sum() + prediction["total_energy"].sum()
        gradients = torch.autograd.grad(
            loss, [p for p in model.parameters() if p.requires_grad], materialize_grads=True
        )
        found.append([prediction["total_energy"], prediction["forces"], *gradients])
    limit = {"float32": 2e-5, "float64": 1e-11}[dtype]
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=limit, atol=limit * float(two.detach().abs().max() + 1e-30))
