"""Radial tables by compiled code against the same in torch: values, gradients, threads."""

import ctypes

import pytest
import torch

from nequip_like.nn.mlp import ScalarMLP
from nequip_like.nn.native import compiler
from nequip_like.nn.native.gradient_places import GradientPlaces
from nequip_like.nn.native.radial_tables import RadialArguments, RadialCalculation, RadialNetworks
from nequip_like.nn.radial import PolynomialEnvelope, RadialEmbedding
from nequip_like.nn.radial_table import SplineTable
from tests.nn.test_native import model_of

pytestmark = pytest.mark.skipif(compiler.find_compiler() is None, reason="there is no C compiler")
# Depth, width, outputs: widths that are no whole vectors, and layers that differ.
SHAPES = [(0, None, 6), (1, 5, 7), (2, 64, 32), (3, 13, 1)]


def library(dtype):
    """A compiled network: the radial part of all is the same but for the type of its elements."""
    small = model_of("fused", num_layers=1, l_max=0, num_features=6, model_dtype=dtype)
    return small.energy_model.native.network.program.library


def make_networks(dtype, activation="silu", inputs=8):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [
            ScalarMLP(inputs, outputs, depth, width, activation, getattr(torch, dtype))
            for depth, width, outputs in SHAPES
        ]


def make_basis(table, num_bessels=8, trainable=False):
    embedding = RadialEmbedding(num_bessels, trainable, PolynomialEnvelope(), 5.0, torch.float64)
    return embedding.continued(table.places)


def tables_and_gradients(dtype, nets, basis, table, first_row=0, threads=1, wanted=None, left_out=0):
    """From C, with the same random gradients of the tables each time."""
    radial = RadialNetworks(basis, [network.parts for network in nets])
    rows = table.intervals + 5
    calculation = RadialCalculation(RadialArguments(library(dtype), radial, rows, getattr(torch, dtype)), keep=True)
    fields, turns = ctypes.byref(calculation.fields), ctypes.c_int64(threads)
    library(dtype).radial_tables(fields, ctypes.c_int64(first_row), ctypes.c_int64(rows - left_out), turns)
    for place, probe in zip(calculation.table_gradients, probes(dtype, rows, first_row, left_out), strict=True):
        place.copy_(probe)
    places = GradientPlaces(radial.tensors, wanted or [True] * len(radial.tensors))
    calculation.write_gradients_to(places.tensors)
    library(dtype).radial_gradients(fields, turns)
    return calculation.tables, places.tensors


def probes(dtype, rows, first_row=0, left_out=0):
    generator = torch.Generator().manual_seed(1)
    found = [torch.randn(rows, outputs, generator=generator, dtype=torch.float64) for _, _, outputs in SHAPES]
    for probe in found:
        probe[:first_row] = 0.0  # no edge reads these
        probe[rows - left_out :] = 0.0
    return [probe.to(getattr(torch, dtype)) for probe in found]


def expected_tables_and_gradients(dtype, nets, basis, table, first_row=0, left_out=0):
    """From torch, in float64."""
    basis = basis.detach().requires_grad_()
    exact = [network.double() for network in nets]
    tables = [table.coefficients(network(basis)) for network in exact]
    total = sum(
        (one * two.double()).sum()
        for one, two in zip(tables, probes(dtype, table.intervals + 5, first_row, left_out), strict=True)
    )
    parameters = [basis, *(weight for network in exact for weight in network.weights)]
    return [one.detach() for one in tables], torch.autograd.grad(total, parameters)


def largest_difference(found, expected):
    return max(
        float((one.double() - two).abs().max() / two.abs().max()) for one, two in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("activation", ["silu", None, "tanh", "ssp", "gelu", "mish"])
def test_equals_torch(activation):
    table = SplineTable(20)
    basis = make_basis(table)
    found = tables_and_gradients("float64", make_networks("float64", activation), basis, table)
    expected = expected_tables_and_gradients("float64", make_networks("float64", activation), basis, table)
    assert largest_difference(found[0], expected[0]) < 1e-13
    assert largest_difference(found[1], expected[1]) < 1e-12


@pytest.mark.parametrize("inputs", [1, 3, 11])
def test_any_number_of_inputs(inputs):
    table = SplineTable(9)
    basis = make_basis(table, inputs)
    nets = make_networks("float64", inputs=inputs)
    found = tables_and_gradients("float64", nets, basis, table)
    expected = expected_tables_and_gradients("float64", nets, basis, table)
    assert largest_difference(found[0], expected[0]) < 1e-13
    assert largest_difference(found[1], expected[1]) < 1e-12


def test_single_precision_rounds_once():
    """Slopes are differences of neighbouring entries, so these are as exact as float64 rounded at the end."""
    table = SplineTable(192)
    basis, nets = make_basis(table), make_networks("float32")
    found = tables_and_gradients("float32", nets, basis, table)
    tables, gradients = expected_tables_and_gradients("float32", nets, basis, table)
    for one, two in zip(found[0], tables, strict=True):
        assert one.dtype == torch.float32
        # The largest error of rounding is half of the last digit, 2^-25 of a number between 1/2 and 1.
        assert float((one.double() - two).abs().max() / two.abs().max()) < 1.01 * 2**-24
    assert largest_difference(found[1], gradients) < 1.5e-6  # torch in float32: 0.94e-6


def test_rows_before_the_first_edge_change_nothing():
    table, first = SplineTable(40), 11
    basis, nets = make_basis(table), make_networks("float64")
    found = tables_and_gradients("float64", nets, basis, table, first_row=first)
    expected = expected_tables_and_gradients("float64", nets, basis, table, first_row=first)
    assert largest_difference([one[first:] for one in found[0]], [one[first:] for one in expected[0]]) < 1e-13
    assert largest_difference(found[1], expected[1]) < 1e-12


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("left_out", [1, 17, 39])
def test_rows_behind_the_last_edge_change_nothing(dtype, left_out):
    """The rest is the same as when all rows are made: gradients of rows that nobody reads are zero."""
    table, first = SplineTable(40), 5
    basis, nets, used = make_basis(table), make_networks(dtype), slice(first, 45 - left_out)
    found = tables_and_gradients(dtype, nets, basis, table, first_row=first, left_out=left_out)
    tolerance = 1e-12 if dtype == "float64" else 1.5e-6
    everything = tables_and_gradients(dtype, nets, basis, table, first_row=first)
    for one, two in zip(found[0], everything[0], strict=True):
        assert torch.equal(one[used], two[used])
    expected = expected_tables_and_gradients(dtype, nets, basis, table, first_row=first, left_out=left_out)
    assert largest_difference(found[1], expected[1]) < tolerance


def test_the_number_of_threads_changes_no_bit():
    table = SplineTable(192)
    basis, nets = make_basis(table), make_networks("float32")
    one, *others = (tables_and_gradients("float32", nets, basis, table, threads=count) for count in (1, 2, 3, 8))
    for other in others:
        for found, expected in zip([*other[0], *other[1]], [*one[0], *one[1]], strict=True):
            assert torch.equal(found, expected)


def test_gradients_that_nobody_asks_for():
    table = SplineTable(20)
    basis, nets = make_basis(table), make_networks("float64")
    _, everything = tables_and_gradients("float64", nets, basis, table)
    wanted = [False, *(i % 3 == 0 for i in range(len(everything) - 1))]
    _, some = tables_and_gradients("float64", nets, basis, table, wanted=wanted)
    for want, one, all_of_it in zip(wanted, some, everything, strict=True):
        assert (one is not None) == want
        assert one is None or torch.equal(one, all_of_it)
