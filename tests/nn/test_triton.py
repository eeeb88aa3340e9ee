"""The Triton kernels against the reference: on a GPU if there is one, else in Triton's interpreter on the CPU."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from e3nn.o3 import Irreps

pytest.importorskip("triton", reason="triton is not installed")

from nequip_like.errors import ModelError
from nequip_like.model import NequIPGNNModel
from nequip_like.nn import interaction
from nequip_like.nn.features import from_flat
from nequip_like.nn.kernels import triton_convolution
from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.kernels.triton_convolution import TritonConvolution, tile_of
from nequip_like.nn.kernels.triton_paths import Tile, groups_of_paths, groups_of_sources
from nequip_like.nn.kernels.triton_source import FUNCTIONS, source_code
from nequip_like.testing.structures import graph_of, molecule
from tests.nn.agreement import expect_reference, on_device
from tests.nn.test_kernels import inputs, table_of, values_and_derivatives

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def _interpreter_and_own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path))
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")


def cases():
    """The interpreter takes its time for unrolled code."""
    for l_max, parity in [(0, False), (0, True), (1, False), (1, True), (2, False), (2, True), (3, False)]:
        marks = [pytest.mark.slow] if l_max >= 2 else []
        yield pytest.param(l_max, parity, marks=marks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("l_max", "parity"), [*cases()])
def test_equals_reference(l_max, parity, dtype):
    table = table_of(l_max, parity)
    tensors, edges = inputs(table, dtype, edges=7 if parity else 13)
    expect_reference(TritonConvolution(table, dtype), table, tensors, edges, DEVICE)


def test_several_blocks_of_channels():
    """Of which the last is not full, and the scalars have one block less."""
    table = PathTable(Irreps("8x0e + 40x1o"), 1, Irreps("0e + 1o"))
    kernel = TritonConvolution(table, torch.float64)
    assert (kernel.tile.channels, kernel.blocks) == (32, 2)
    expect_reference(kernel, table, *inputs(table, torch.float64, edges=5), DEVICE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("parity", [False, True])
def test_no_edges(parity, dtype):
    table = table_of(1, parity)
    tensors, edges = inputs(table, dtype, edges=0)
    parts = values_and_derivatives(on_device(TritonConvolution(table, dtype), table, edges, DEVICE), tensors)
    assert [len(part) for part in parts] == [5, 5, 0, 0, 5, 0, 0]
    assert not any(part.any() for part in parts)


def test_edges_in_any_order():
    table = table_of(1, False)
    tensors, edges = inputs(table, torch.float64)
    order = torch.randperm(len(edges[0]), generator=torch.Generator().manual_seed(0))
    assert not bool((edges[0][order][1:] >= edges[0][order][:-1]).all())
    mixed = tuple(part[order] for part in edges)
    expect_reference(TritonConvolution(table, torch.float64), table, tensors, mixed, DEVICE)


def test_source_without_paths():
    """Its gradient is zero, not what memory happened to hold."""
    table = PathTable(Irreps("3x0e + 2x1o"), 0, Irreps("0e"))
    assert [path.source for path in table.paths] == [0]
    kernel = TritonConvolution(table, torch.float64)
    expect_reference(kernel, table, *inputs(table, torch.float64), DEVICE)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_wrong_sign_is_noticed(function, monkeypatch):
    """Of one contribution, in each function apart."""
    table = table_of(1, False)
    right = source_code(table, tile_of(table, torch.float64))
    start = right.index(f"def {function}_0(")
    sums = {"forward": "o", "first_centre": "dY", "second_centre": "o"}.get(function, "d")
    place = right.index("+= ", right.index(f" {sums}", right.index("for start", start)))
    wrong = right[:place] + "-= " + right[place + 3 :]
    monkeypatch.setattr(triton_convolution, "source_code", lambda *_: wrong)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        expect_reference(TritonConvolution(table, torch.float64), table, *inputs(table, torch.float64), DEVICE)


def test_copies_make_the_kernels_again():
    table = table_of(0, False)
    kernel = TritonConvolution(table, torch.float64)
    assert kernel.functions is kernel.functions
    twin = copy.deepcopy(kernel)
    assert "functions" not in vars(twin)
    expect_reference(twin, table, *inputs(table, torch.float64), DEVICE)


def test_other_devices_are_refused(monkeypatch):
    monkeypatch.setattr(triton_convolution, "_is_interpreted", lambda: False)
    table = table_of(0, False)
    (flat, harmonics, weights), edges = inputs(table, torch.float32)
    with pytest.raises(ModelError, match=r"runs on GPUs only, and the model is on cpu\n.*model\.kernel=auto"):
        TritonConvolution(table, torch.float32)(from_flat(flat, table.features), harmonics, weights, *edges)


def test_triton_missing(monkeypatch):
    monkeypatch.setattr(triton_convolution.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"triton is not installed\n.*pip install triton"):
        TritonConvolution(table_of(0, False), torch.float32)


def test_model(monkeypatch):
    """Energies, forces and the gradients of a force loss of a whole model."""
    arguments = {
        "seed": 0, "model_dtype": "float64", "type_names": ["H", "C", "O"], "r_max": 2.5, "l_max": 1, "num_layers": 2,
        "num_features": [3, 2], "radial_mlp_width": 4, "avg_num_neighbors": 5.0, "kernel": "reference",
    }  # fmt: skip
    found = []
    for name in ("reference", "triton"):
        if name == "triton":
            monkeypatch.setattr(interaction, "convolution", lambda _, table, dtype: TritonConvolution(table, dtype))
        model = NequIPGNNModel(**arguments).train().to(DEVICE)
        graph = {key: value.to(DEVICE) for key, value in graph_of(molecule(), model).items()}
        prediction = model(graph)
        loss = prediction["forces"].square().sum() + prediction["total_energy"].sum()
        parameters = [part for part in model.parameters() if part.requires_grad]
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        found.append([prediction["total_energy"], prediction["forces"], *gradients])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10 * float(two.detach().abs().max() + 1e-30))


def test_groups():
    table = PathTable(Irreps("4x0e + 4x1o"), 1, Irreps("0e + 1o"))
    assert [(path.source, path.kind.dim) for path in table.paths] == [(0, 1), (0, 3), (1, 3), (1, 1)]
    assert groups_of_paths(table, Tile(4, 1, 8)) == [[0, 1, 2, 3]]
    assert groups_of_paths(table, Tile(4, 1, 6)) == [[0, 1], [2, 3]]
    assert groups_of_paths(table, Tile(4, 1, 3)) == [[0], [1], [2], [3]]
    assert groups_of_sources(table, Tile(4, 1, 8)) == [[0, 1, 2, 3]]
    assert groups_of_sources(table, Tile(4, 1, 3)) == [[0, 1], [2, 3]], "paths of a source stay together"


def test_coefficients_of_one_are_not_written():
    """The cross product of vectors has coefficients of one size, which multiplies the weight once."""
    table = PathTable(Irreps("4x1e"), 1, Irreps("1o"))
    code = source_code(table, Tile(4, 1, 8))
    lines = [line.strip() for line in code.splitlines()]
    assert {"m0_0_1 = Y3", "m0_1_0 = (-Y3)"} <= set(lines) or {"m0_0_1 = (-Y3)", "m0_1_0 = Y3"} <= set(lines)
    assert "w0 = tl.load(at_w + 0, mask=live, other=0.0) * 0.7071067811865475" in lines


@pytest.mark.slow
@pytest.mark.parametrize("model", ["l1", "l1_parity", "l2", "l2_parity", "l3"])
def test_compiles_for_gpus(model):
    """To machine code of a GPU of compute capability 9.0, which needs no GPU; hardly a register is spilled."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [
        sys.executable,
        "-m",
        "tests.nn.triton_ahead",
        "--models",
        model,
        "--targets",
        "90",
        "--dtypes",
        "float32",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[3] for line in lines] == list(FUNCTIONS)
    spilled = [int(line.split()[line.split().index("spilled") + 1]) for line in lines]
    assert max(spilled) <= 64, done.stdout
