"""Low-rank adaptation: what weights read as, what is trained, and the same by every kernel."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nequip_like.data import fields
from nequip_like.errors import ModelFileError
from nequip_like.model import NequIPGNNModel
from nequip_like.model.finetuning import train_only
from nequip_like.nn.lora import AdaptedWeights, adapt, merged_state
from nequip_like.nn.native.compiler import find_compiler
from nequip_like.testing.structures import batch_of, crystal, molecule

EXACT = 1e-12
KERNELS = ["batched", pytest.param("fused", marks=pytest.mark.skipif(find_compiler() is None, reason="no C compiler"))]


def small(kernel="batched", **changes):
    arguments = {
        "seed": 3, "model_dtype": "float64", "type_names": ["H", "C", "O"], "r_max": 3.5, "num_layers": 2, "l_max": 1,
        "num_features": 4, "radial_mlp_depth": 1, "radial_mlp_width": 8, "avg_num_neighbors": 5.0, "kernel": kernel,
        "readout_mlp_hidden_layers_depth": 1, "learnable_shift": True,
    }  # fmt: skip
    return NequIPGNNModel(**{**arguments, **changes}).train()


def stir(model):
    """Give the second factors values, so that there is something to see."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_b_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)


def gradients(model, batch):
    prediction = model(batch)
    loss = prediction[fields.FORCES].square().sum() + prediction[fields.TOTAL_ENERGY].square().sum()
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def test_by_hand():
    """Rank 1, alpha 3: W + 3 A B."""
    weights = nn.ParameterList([nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]])), nn.Parameter(torch.ones(1, 1))])
    adapted = AdaptedWeights(weights, 1, 3.0, [0], torch.Generator().manual_seed(0))
    assert torch.equal(adapted[0], torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    with torch.no_grad():
        adapted.lora_a_0.copy_(torch.tensor([[1.0], [-1.0]]))
        adapted.lora_b_0.copy_(torch.tensor([[10.0, 20.0]]))
    expected = torch.tensor([[31.0, 62.0], [-27.0, -56.0]])
    assert torch.equal(adapted[0], expected)
    assert torch.equal(adapted[-2], expected)
    assert adapted[1] is weights[1]
    assert len(adapted) == 2
    assert [tuple(weight.shape) for weight in adapted[:-1]] == [(2, 2)]
    assert len(list(adapted)) == 2
    merged = merged_state({f"x.{name}": tensor for name, tensor in adapted.state_dict().items()})
    assert merged.keys() == {"x.0", "x.1"}
    assert torch.equal(merged["x.0"], expected)


def test_all_linear_layers_are_adapted():
    model = small()
    before = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    names = adapt(model, 2, 2.0, seed=0)
    kept = ["energy_model.type_embedding"]  # no linear layer
    assert sorted(names) == sorted(before.keys() - kept)
    now = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert {name: now[name] for name in before} == before
    readout = "energy_model.readout.weights"
    assert (now[f"{readout}.lora_a_0"], now[f"{readout}.lora_b_0"]) == ((4, 2), (2, 4))
    # No product of a column has a higher rank than 1; a self-connection is a matrix of (channels x embedding).
    assert (now[f"{readout}.lora_a_1"], now[f"{readout}.lora_b_1"]) == ((4, 1), (1, 1))
    own = "energy_model.layers.0.self_connection.weights"
    assert before[f"{own}.0"] == (4, 4, 8)
    assert (now[f"{own}.lora_a_0"], now[f"{own}.lora_b_0"]) == ((16, 2), (2, 8))


def test_what_is_left_out():
    model = small()
    rest = [name for name, _ in model.named_parameters() if "readout" in name]
    names = adapt(model, 2, 2.0, seed=0, but=rest)
    assert names
    assert not [name for name in names if "readout" in name]
    assert isinstance(model.energy_model.readout.weights, nn.ParameterList)
    assert adapt(small(), 2, 2.0, seed=0, but=[name for name, _ in small().named_parameters()]) == []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_begins_as_the_model_and_saves_as_it_predicts(kernel, dtype):
    plain, adapted = (small(kernel, model_dtype=dtype).eval() for _ in range(2))
    batch = batch_of([molecule(), crystal()], plain)
    adapt(adapted, 3, 6.0, seed=7)
    for name, value in plain(batch).items():
        assert torch.equal(adapted(batch)[name].nan_to_num(), value.nan_to_num()), name
    stir(adapted)
    changed = adapted(batch)
    assert (changed[fields.FORCES] - plain(batch)[fields.FORCES]).abs().max() > 1e-3
    plain.load_state_dict(merged_state(adapted.state_dict()))
    for name, value in plain(batch).items():
        assert torch.equal(changed[name].nan_to_num(), value.nan_to_num()), name


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "trained",
    ["lora", "linear_in", *(pytest.param(name, marks=pytest.mark.slow) for name in ("readout", "type_embedding"))],
)
def test_gradients_of_what_is_trained_and_of_nothing_else(kernel, trained):
    """Against the plain form in torch, where all parameters have gradients."""
    exact, model = small("reference"), small(kernel)
    for each in (exact, model):
        adapt(each, 2, 4.0, seed=5)
        stir(each)
    train_only(model, [name for name, _ in model.named_parameters() if trained in name])
    batch = batch_of([molecule(), crystal()], exact)
    expected_loss, expected = gradients(exact, batch)
    loss, found = gradients(model, batch)
    assert float(loss) == pytest.approx(float(expected_loss), rel=EXACT * 100)
    assert any(gradient is not None for gradient in found.values())
    for name, gradient in found.items():
        if trained not in name:
            assert gradient is None, name
        else:
            scale = max(float(expected[name].abs().max()), 1.0)
            assert (gradient - expected[name]).abs().max() < 1e-9 * scale, name


def test_same_seed_same_factors():
    one, two, other = small(), small(), small()
    for model, seed in ((one, 1), (two, 1), (other, 2)):
        adapt(model, 2, 2.0, seed=seed)
    key = "energy_model.layers.1.linear_out.weights.lora_a_0"
    assert torch.equal(one.state_dict()[key], two.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])


@pytest.mark.parametrize("broken", ["lora_a_0", "lora_scale", "0"])
def test_a_state_that_is_not_whole_is_refused(broken):
    model = small()
    adapt(model, 2, 2.0, seed=0)
    state = model.state_dict()
    del state[f"energy_model.readout.weights.{broken}"]
    with pytest.raises(
        ModelFileError, match=r"x.ckpt: what low-rank adaptation adds to 'energy_model.readout.weights.0'"
    ):
        merged_state(state, "x.ckpt")
