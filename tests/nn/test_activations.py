import math

import pytest
import torch
from e3nn.math import normalize2mom

from nequip_like.errors import ConfigError
from nequip_like.nn.activations import activation, normalized_activation, shifted_softplus

NAMES = ("silu", "mish", "gelu", "tanh", "ssp", "abs")


def test_hand_values():
    x = torch.tensor([-2.0, 0.0, 1.0], dtype=torch.float64)
    assert activation("silu")(x).tolist() == pytest.approx([-2 / (1 + math.e**2), 0, 1 / (1 + 1 / math.e)], abs=1e-15)
    assert activation("tanh")(x).tolist() == pytest.approx([math.tanh(-2), 0, math.tanh(1)], abs=1e-15)
    assert activation("abs")(x).tolist() == [2, 0, 1]
    expected = [math.log1p(math.exp(v)) - math.log(2) for v in (-2, 0, 1)]
    assert shifted_softplus(x).tolist() == pytest.approx(expected, abs=1e-15)
    assert activation("ssp") is shifted_softplus


@pytest.mark.parametrize("name", [None, "None", "null"])
def test_linear(name):
    assert activation(name) is None
    with pytest.raises(ConfigError, match="a gate needs an activation"):
        normalized_activation(name)


def test_unknown():
    with pytest.raises(ConfigError, match="unknown activation 'relu7'") as error:
        activation("relu7")
    assert error.value.advice == f"use one of {', '.join(NAMES)}"


@pytest.mark.parametrize("name", NAMES)
def test_normalized_is_e3nn_normalize2mom(name):
    x = torch.linspace(-3, 3, 31, dtype=torch.float64)
    torch.testing.assert_close(normalized_activation(name)(x), normalize2mom(activation(name))(x), rtol=1e-14, atol=0)
    # The second moment by quadrature over the normal density; e3nn estimates it from 10^6 samples.
    z = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    weight = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    assert float((normalized_activation(name)(z).square() * weight).sum()) == pytest.approx(1.0, abs=5e-3)
