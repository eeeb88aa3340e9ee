"""The averages of weights, in closed form."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from nequip_like.errors import ConfigError
from nequip_like.optim.averaging import averaged_copy, mean_copy


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
    ema.update_parameters(model)
    model.scale.fill_(8.0)
    ema.update_parameters(model)
    assert float(ema.module.scale) == 8.0
    ema.module.scale.fill_(1.0)
    ema.update_parameters(model)
    assert float(ema.module.scale) == 8.0
    model.scale = torch.tensor([9.0])
    ema.update_parameters(model)
    assert float(ema.module.scale) == 9.0


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


# --- other forms

W = [3.0, -1.0, 2.0, 0.5, 4.0]  # the weights before the first step, and after each


def follow(ema, model, values=W[1:]):
    """Averages after each update."""
    found = []
    for value in values:
        nn.init.constant_(model.weight, value)
        ema.update_parameters(model)
        found.append(float(ema.module.weight))
    return found


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.995])
def test_same_decay_from_the_first_step(decay):
    """ema_t = d^t w_0 + (1-d) sum_k d^(t-k) w_k."""
    model = linear(W[0])
    found = follow(averaged_copy(model, decay, warmup=False), model)
    for t in range(1, 5):
        expected = decay**t * W[0] + (1 - decay) * sum(decay ** (t - k) * W[k] for k in range(1, t + 1))
        assert found[t - 1] == pytest.approx(expected, rel=1e-14)


def test_start_step_one_begins_with_the_weights_after_the_first_step():
    """XequiNet's: the first call copies, so w_1 has the weight d^(t-1)."""
    model = linear(W[0])
    found = follow(averaged_copy(model, 0.9, warmup=False, start_step=1), model)
    for t in range(1, 5):
        expected = 0.9 ** (t - 1) * W[1] + 0.1 * sum(0.9 ** (t - k) * W[k] for k in range(2, t + 1))
        assert found[t - 1] == pytest.approx(expected, rel=1e-14)


def test_until_the_start_step_the_average_is_the_weights():
    """And the decay warms up from there: 2/11, 3/12."""
    model = linear(W[0])
    found = follow(averaged_copy(model, 0.9, start_step=2), model)
    assert found[:2] == W[1:3]
    third = 2 / 11 * W[2] + 9 / 11 * W[3]
    assert found[2] == pytest.approx(third, rel=1e-14)
    assert found[3] == pytest.approx(3 / 12 * third + 9 / 12 * W[4], rel=1e-14)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_bias_correction(decay):
    """mlip's: v_0 = 0, v <- d v + (1-d) w, v / (1 - d^t). The weights before the first step count nothing."""
    model = linear(W[0])
    found = follow(averaged_copy(model, decay, warmup=False, bias_correction=True), model)
    v = 0.0
    for t in range(1, 5):
        v = decay * v + (1 - decay) * W[t]
        assert found[t - 1] == pytest.approx(v / (1 - decay**t), rel=1e-13)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99, 0.99999])
def test_bias_correction_of_constant_weights_gives_exactly_these(decay):
    model = linear(W[0])
    value = 0.1 + 0.2
    assert (
        follow(averaged_copy(model, decay, warmup=False, bias_correction=True), model, [value] * 500) == [value] * 500
    )


@pytest.mark.parametrize("options", [{"warmup": False}, {"start_step": 2}, {"warmup": False, "bias_correction": True}])
def test_state_of_all_forms_goes_on(options):
    model = linear(W[0])
    ema = averaged_copy(model, 0.9, **options)
    follow(ema, model, W[1:3])
    again, other = averaged_copy(linear(7.0), 0.9, **options), linear(0.0)
    again.load_state_dict(ema.state_dict())
    assert follow(again, other, W[3:]) == follow(ema, model, W[3:])


def test_two_ways_to_forget_the_first_weights_exclude_each_other():
    with pytest.raises(ConfigError, match="ema_warmup and ema_bias_correction are both true"):
        averaged_copy(linear(0.0), 0.9, bias_correction=True)


@pytest.mark.parametrize("start", [-1, 0.5, True])
def test_start_step_out_of_range(start):
    with pytest.raises(ConfigError, match="ema_start_step"):
        averaged_copy(linear(0.0), 0.9, start_step=start)


def test_mean_of_all_weights():
    model = linear(W[0])
    found = follow(mean_copy(model), model)
    assert found == pytest.approx([sum(W[1 : t + 1]) / t for t in range(1, 5)], rel=1e-14)


def shared() -> nn.Sequential:
    """Weights of two element types, one of them in two places, and a buffer."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, dtype=torch.float64), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[3].weight = model[0].weight
    return model


@pytest.mark.parametrize("make", [lambda model: averaged_copy(model, 0.9), mean_copy])
def test_average_is_that_of_torch(make):
    """Bit for bit; also after a copy, and when another tensor or module has taken the place of one."""
    model = shared()
    ours = make(model)
    theirs = copy.deepcopy(ours)
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        for tensor in [*model.parameters(), model[2].running_mean]:
            tensor.data.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))
        if step == 2:
            ours = pickle.loads(pickle.dumps(copy.deepcopy(ours)))
        if step == 5:
            model[0].weight = model[3].weight = nn.Parameter(torch.full((3, 3), 5.0))
            model[2].running_mean = torch.full((3,), 7.0)
        if step == 3:
            model[1] = nn.Linear(3, 3, dtype=torch.float64)
        if step == 4:
            ours.module, theirs.module = copy.deepcopy(model), copy.deepcopy(model)
        ours.update_parameters(model)
        AveragedModel.update_parameters(theirs, model)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, expected in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], expected), name
    assert float(ours.module[2].running_mean[0]) == 7.0
