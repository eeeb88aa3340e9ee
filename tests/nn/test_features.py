"""Our operations on features give the numbers of e3nn's, with the same weights."""

import pytest
import torch
from e3nn import nn as e3nn_nn
from e3nn import o3
from e3nn.o3 import Irrep, Irreps

from nequip_like.nn.features import Gate, Linear, SelfConnection, add, from_flat, path_exists, to_flat

TOLERANCE = {torch.float32: {"rtol": 2e-5, "atol": 2e-6}, torch.float64: {"rtol": 1e-12, "atol": 1e-13}}
ACTIVATIONS = {"e": torch.nn.functional.silu, "o": torch.tanh}
NAMES = {"e": "silu", "o": "tanh"}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def random_flat(irreps, rows=7, dtype=torch.float64):
    return torch.randn(rows, Irreps(irreps).dim, dtype=dtype)


def test_flat_layout_by_hand():
    flat = torch.arange(9.0).view(1, 9)
    scalars, vectors = from_flat(flat, Irreps("3x0e + 2x1o"))
    assert scalars.tolist() == [[[0, 1, 2]]]
    # channels innermost: rows are x, y, z; columns are the two vectors
    assert vectors.tolist() == [[[3, 6], [4, 7], [5, 8]]]


@pytest.mark.parametrize("irreps", ["4x0e", "3x0e + 2x1o", "2x0o + 1x0e + 3x1e + 2x2e + 1x3o", "0x0e + 2x1o"])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_round_trip(irreps, rows):
    flat = random_flat(irreps, rows) if rows else torch.zeros(0, Irreps(irreps).dim)
    features = from_flat(flat, Irreps(irreps))
    assert [tuple(part.shape) for part in features] == [(rows, e.ir.dim, e.mul) for e in Irreps(irreps)]
    assert torch.equal(to_flat(features), flat) if rows else to_flat(features).shape == flat.shape


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("irreps_in", "irreps_out"),
    [
        ("4x0e + 3x1o", "2x0e + 5x1o"),
        ("4x0e + 3x1o + 2x2e", "5x2e + 1x0e"),
        ("2x0e + 3x0o + 2x1o + 1x1e", "3x1e + 2x0o + 4x0e + 1x1o"),
        ("4x0e + 3x1o", "2x0e + 2x2e"),
    ],
)
def test_linear(irreps_in, irreps_out, dtype):
    irreps_in, irreps_out = Irreps(irreps_in), Irreps(irreps_out)
    ours = Linear(irreps_in, irreps_out, dtype)
    theirs = o3.Linear(irreps_in, irreps_out).to(dtype)
    order = [(e.i_in, e.i_out) for e in theirs.instructions]
    blocks = {(source, i): None for i, source in enumerate(ours.sources) if source is not None}
    blocks = dict(zip(blocks, ours.weights, strict=True))
    with torch.no_grad():
        theirs.weight.copy_(torch.cat([blocks[key].reshape(-1) for key in order]))
    flat = random_flat(irreps_in, dtype=dtype)
    torch.testing.assert_close(to_flat(ours(from_flat(flat, irreps_in))), theirs(flat), **TOLERANCE[dtype])


def test_linear_by_hand():
    layer = Linear(Irreps("2x0e"), Irreps("1x0e + 1x1o"), torch.float64)
    with torch.no_grad():
        layer.weights[0].copy_(torch.tensor([[3.0], [5.0]]))
    scalar, vector = layer([torch.tensor([[[1.0, 2.0]]], dtype=torch.float64)])
    assert scalar.item() == pytest.approx(13 / 2**0.5, abs=1e-15)
    assert vector.tolist() == [[[0.0], [0.0], [0.0]]]
    assert len(layer.weights) == 1


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("types", [1, 3])
@pytest.mark.parametrize(
    ("irreps_in", "irreps_out"),
    [("4x0e + 3x1o", "2x0e + 5x1o"), ("2x0e + 3x0o + 2x1o + 1x1e", "3x1e + 2x0o + 4x0e + 1x1o + 2x2e")],
)
def test_self_connection(irreps_in, irreps_out, types, dtype):
    irreps_in, irreps_out, width = Irreps(irreps_in), Irreps(irreps_out), 6
    ours = SelfConnection(irreps_in, irreps_out, width, dtype)
    theirs = o3.FullyConnectedTensorProduct(irreps_in, f"{width}x0e", irreps_out).to(dtype)
    order = [(e.i_in1, e.i_out) for e in theirs.instructions]
    keys = [(source, i) for i, source in enumerate(ours.sources) if source is not None]
    blocks = dict(zip(keys, ours.weights, strict=True))
    with torch.no_grad():
        theirs.weight.copy_(torch.cat([blocks[key].reshape(-1) for key in order]))
    embedding, atom_types = torch.randn(types, width, dtype=dtype), torch.arange(7) % types
    flat = random_flat(irreps_in, dtype=dtype)
    result = to_flat(ours(from_flat(flat, irreps_in), embedding, atom_types))
    torch.testing.assert_close(result, theirs(flat, embedding[atom_types]), **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("scalars", "gated", "gate"),
    [
        ("4x0e", "", "0e"),
        ("4x0e", "3x1o", "0e"),
        ("4x0e + 2x0o", "3x1o + 2x1e + 1x2e", "0e"),
        ("2x0o", "3x1o + 2x2e", "0o"),
        ("3x0e + 2x0o", "3x1o", "0o"),
    ],
)
def test_gate(scalars, gated, gate, dtype):
    scalars, gated = Irreps(scalars), Irreps(gated)
    gates = Irreps([(e.mul, gate) for e in gated])
    ours = Gate(scalars, gated, Irrep(gate), NAMES, NAMES)
    theirs = e3nn_nn.Gate(
        scalars,
        [ACTIVATIONS["eo"[e.ir.p < 0]] for e in scalars],
        gates,
        [ACTIVATIONS["eo"[e.ir.p < 0]] for e in gates],
        gated,
    ).to(dtype)
    assert ours.irreps_in == theirs.irreps_in.simplify()
    flat = random_flat(ours.irreps_in, dtype=dtype)
    expected = theirs(flat)
    result = ours(from_flat(flat, ours.irreps_in))
    # An odd gate turns the parity of what it gates in e3nn's bookkeeping; the numbers are the same.
    torch.testing.assert_close(to_flat(result), expected, **TOLERANCE[dtype])
    if gate == "0e":
        assert ours.irreps_out == theirs.irreps_out.simplify()


def test_gate_is_equivariant():
    gate = Gate(Irreps("4x0e + 2x0o"), Irreps("3x1o + 2x1e + 1x2e"), Irrep("0e"), NAMES, NAMES)
    rotation = -o3.rand_matrix(dtype=torch.float64)
    flat = random_flat(gate.irreps_in)
    turn_in, turn_out = gate.irreps_in.D_from_matrix(rotation), gate.irreps_out.D_from_matrix(rotation)
    turned = to_flat(gate(from_flat(flat @ turn_in.T, gate.irreps_in)))
    torch.testing.assert_close(turned, to_flat(gate(from_flat(flat, gate.irreps_in))) @ turn_out.T)


def test_path_exists_and_add():
    harmonics = Irreps.spherical_harmonics(1)
    assert path_exists(Irreps("0e"), harmonics, Irrep("1o"))
    assert not path_exists(Irreps("0e"), harmonics, Irrep("1e"))
    assert path_exists(Irreps("1o"), harmonics, Irrep("1e"))
    one, two = torch.ones(2, 1, 3), torch.ones(2, 3, 1)
    assert [part.tolist() for part in add([one, two], [one, 2 * two])] == [(2 * one).tolist(), (3 * two).tolist()]
