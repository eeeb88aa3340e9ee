"""Arithmetic and bytes of a training step, counted by hand, and against the model."""

import pytest
from e3nn.o3 import Irrep

from nequip_like.model import NequIPGNNModel


@pytest.fixture
def roofline(load):
    return load("roofline")


def test_one_scalar_layer_by_hand(roofline):
    architecture = {
        "num_features": 3,
        "num_layers": 1,
        "radial_mlp_width": 5,
        "radial_mlp_depth": 1,
        "type_names": "HC",
    }
    work = roofline.training_step(architecture, {"l_max": 0, "parity": False}, atoms=7, edges=11)
    linear_in, linear_out, readout = 3 * 2 * 7 * 9, 6 * 2 * 7 * 9, 6 * 2 * 7 * 3
    radial = 5 * 2 * 11 * 8 * 5 + 6 * 2 * 11 * 5 * 3
    product = 10 * 2 * 11 * 3 * (1 + 1)  # one coefficient, one component
    assert work.flop == linear_in + linear_out + readout + radial + product
    # Each evaluation of a product reads both operands and writes the result.
    matrices = 9 * (7 * 6 + 9) + 6 * (7 * 4 + 3) + 5 * (11 * 13 + 40) + 6 * (11 * 8 + 15)
    gathered = 10 * (11 * (4 * (3 + 1) + 16) + 4 * 7 * (3 + 3))
    assert work.bytes == 4 * matrices + gathered
    assert work.parameters == 2 * 3 + 9 + 40 + 15 + 9 + 3


@pytest.mark.parametrize(
    ("path", "count"), [((0, 0, 0), 1), ((0, 1, 1), 3), ((1, 1, 0), 3), ((1, 1, 1), 6), ((2, 2, 0), 5)]
)
def test_nonzero_coefficients(roofline, path, count):
    assert roofline.nonzero_coefficients(*path) == count


def test_layers_of_l1(roofline, load):
    cases = load("cases")
    first, second, _, last = roofline.layers_of(cases.ARCHITECTURE, cases.CASES["l1"])
    scalar, vector = Irrep("0e"), Irrep("1o")
    assert first.paths == [(32, 0, 0, scalar), (32, 0, 1, vector)]
    assert first.gated == [(64, scalar), (32, vector)]
    assert second.paths == [(32, 0, 0, scalar), (32, 0, 1, vector), (32, 1, 0, vector), (32, 1, 1, scalar)]
    assert last.paths == [(32, 0, 0, scalar), (32, 1, 1, scalar)]
    assert last.outputs == [(32, scalar)]


@pytest.mark.parametrize("case", ["l1", "l1_parity", "l2", "l2_parity", "l3"])
def test_parameters_are_those_of_the_model(roofline, load, case):
    cases = load("cases")
    model = NequIPGNNModel(**cases.ARCHITECTURE, **cases.CASES[case], kernel="reference")
    counted = roofline.training_step(cases.ARCHITECTURE, cases.CASES[case], 1, 1).parameters
    assert counted == sum(parameter.numel() for parameter in model.parameters())


def test_shares_of_the_limits(roofline):
    work = roofline.Work(flop=2e9, bytes=5e8)
    line = roofline.against_limits(work, 0.1, {"gflops": 100.0, "gigabytes_per_s": 10.0})
    assert line == {
        "gflop": 2.0,
        "gigabytes": 0.5,
        "gemm_limit_ms": pytest.approx(20.0),
        "memory_limit_ms": pytest.approx(50.0),
        "share_of_gemm_limit": pytest.approx(0.2),
        "share_of_memory_limit": pytest.approx(0.5),
    }
