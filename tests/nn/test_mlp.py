import math

import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.nn.mlp import ScalarMLP


def test_depth_zero_is_one_scaled_matrix():
    mlp = ScalarMLP(2, 1, 0, None, "silu", torch.float64)
    with torch.no_grad():
        mlp.weights[0].copy_(torch.tensor([[3.0], [4.0]]))
    assert mlp(torch.tensor([[1.0, 2.0]], dtype=torch.float64)).item() == pytest.approx(11 / math.sqrt(2), abs=1e-15)


def test_hidden_layer_by_hand():
    mlp = ScalarMLP(1, 1, 1, 2, "silu", torch.float64)
    with torch.no_grad():
        mlp.weights[0].copy_(torch.tensor([[1.0, -2.0]]))
        mlp.weights[1].copy_(torch.tensor([[0.5], [3.0]]))
    silu = [1 / (1 + math.exp(-1)), -2 / (1 + math.exp(2))]
    # fan-in 2, and sqrt(2) for the layer behind the nonlinearity: the factors cancel
    assert mlp(torch.ones(1, 1, dtype=torch.float64)).item() == pytest.approx(0.5 * silu[0] + 3 * silu[1], abs=1e-15)


def test_linear_layers_have_gain_one():
    mlp = ScalarMLP(1, 1, 1, 4, None, torch.float64)
    with torch.no_grad():
        for weight in mlp.weights:
            weight.fill_(1.0)
    assert mlp(torch.ones(1, 1, dtype=torch.float64)).item() == pytest.approx(4 / math.sqrt(4), abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights(dtype):
    torch.manual_seed(0)
    mlp = ScalarMLP(5, 7, 2, 300, "silu", dtype)
    assert [tuple(weight.shape) for weight in mlp.weights] == [(5, 300), (300, 300), (300, 7)]
    assert {weight.dtype for weight in mlp.parameters()} == {dtype}
    square = mlp.weights[1].detach()
    assert float(square.abs().max()) <= math.sqrt(3)
    assert float(square.abs().max()) > 1.73
    assert float(square.var()) == pytest.approx(1.0, rel=0.02)
    assert float(square.mean()) == pytest.approx(0.0, abs=0.02)


def test_zero_stays_zero():
    # Without biases an edge at the cutoff, whose embedding is zero, sends no message.
    assert not ScalarMLP(4, 3, 2, 8, "silu", torch.float64)(torch.zeros(2, 4, dtype=torch.float64)).any()
    assert ScalarMLP(4, 3, 1, 8, "silu", torch.float64)(torch.zeros(0, 4, dtype=torch.float64)).shape == (0, 3)


@pytest.mark.parametrize(("depth", "width"), [(-1, 8), (1, None), (1, 0), (2, -3)])
def test_errors(depth, width):
    with pytest.raises(ConfigError, match=f"{depth} hidden layers of width {width}"):
        ScalarMLP(4, 3, depth, width, "silu", torch.float64)
