"""The moving average of weights."""

import pytest
import torch
from torch import nn

from nequip_like.errors import ConfigError
from nequip_like.train.ema import averaged_copy


def linear(value: float) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, value)
    return model


@pytest.mark.parametrize("decay", [0.0, 0.2, 0.999])
def test_closed_form_of_three_updates(decay):
    """ema3 = d1 d2 d3 w0 + (1-d1) d2 d3 w1 + (1-d2) d3 w2 + (1-d3) w3, d_n = min(decay, (1+n)/(10+n)), n from 1."""
    w = [3.0, -1.0, 2.0, 0.5]
    model = linear(w[0])
    ema = averaged_copy(model, decay)
    assert float(ema.module.weight) == w[0]
    for value in w[1:]:
        nn.init.constant_(model.weight, value)
        ema.update_parameters(model)
    d1, d2, d3 = (min(decay, x) for x in (2 / 11, 3 / 12, 4 / 13))
    expected = d1 * d2 * d3 * w[0] + (1 - d1) * d2 * d3 * w[1] + (1 - d2) * d3 * w[2] + (1 - d3) * w[3]
    assert float(ema.module.weight) == pytest.approx(expected, rel=1e-14)
    assert int(ema.n_averaged) == 4


def test_decay_reaches_its_final_value():
    model = linear(0.0)
    ema = averaged_copy(model, 0.5)
    for _ in range(100):
        ema.update_parameters(model)
    nn.init.constant_(model.weight, 1.0)
    ema.update_parameters(model)
    assert float(ema.module.weight) == pytest.approx(0.5, rel=1e-14)


class WithBuffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("elements", torch.arange(1, 119))
        self.register_buffer("scale", torch.tensor([2.0]))


def test_integer_buffers_survive_a_thousand_updates():
    model = WithBuffers()
    ema = averaged_copy(model, 0.999)
    for step in range(1000):
        with torch.no_grad():
            model.weight.fill_(step)
        ema.update_parameters(model)
    assert ema.module.elements.dtype == torch.int64
    assert torch.equal(ema.module.elements, torch.arange(1, 119))
    assert torch.equal(ema.module.frozen, torch.ones(2))
    assert 0 < float(ema.module.weight[0].detach()) < 999


def test_buffers_of_the_model_are_copied():
    model = WithBuffers()
    ema = averaged_copy(model, 0.9)
    model.scale.fill_(7.0)
    model.elements += 1
    ema.update_parameters(model)
    assert float(ema.module.scale) == 7.0
    assert torch.equal(ema.module.elements, torch.arange(2, 120))


def test_average_is_apart_from_the_model():
    model = WithBuffers()
    ema = averaged_copy(model, 0.9)
    with torch.no_grad():
        model.weight += 1
    assert float(ema.module.weight.detach().sum()) == 0.0
    assert not any(parameter.requires_grad for parameter in ema.parameters())
    assert model.weight.requires_grad


def test_state_goes_on_where_it_was_saved():
    model = linear(1.0)
    ema = averaged_copy(model, 0.9)
    nn.init.constant_(model.weight, 2.0)
    ema.update_parameters(model)
    again = averaged_copy(linear(0.0), 0.9)
    again.load_state_dict(ema.state_dict())
    nn.init.constant_(model.weight, 5.0)
    ema.update_parameters(model)
    again.update_parameters(model)
    assert float(again.module.weight) == float(ema.module.weight)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, float("nan")])
def test_decay_out_of_range(decay):
    with pytest.raises(ConfigError, match="ema_decay"):
        averaged_copy(linear(0.0), decay)
