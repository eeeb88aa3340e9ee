"""The head in C, which makes energies, forces and stress of the last features, against the same model in torch."""

import pytest
import torch

from nequip_like.data import fields
from nequip_like.nn.native import compiler
from nequip_like.testing.structures import batch_of, crystal, molecule
from tests.nn.test_native import largest_difference, model_of, numbers

pytestmark = pytest.mark.skipif(compiler.find_compiler() is None, reason="there is no C compiler")
# One compiled network serves all: the head's sizes are no part of the code.
SMALL = {"num_layers": 1, "l_max": 0, "num_features": 6}
TRAINED = {"per_type_energy_scales_trainable": True, "per_type_energy_shifts_trainable": True}


def readout(depth, width, nonlinearity):
    return {
        "readout_mlp_hidden_layers_depth": depth,
        "readout_mlp_hidden_layers_width": width,
        "readout_mlp_nonlinearity": nonlinearity,
    }


@pytest.mark.parametrize(
    ("depth", "width", "nonlinearity"),
    [
        (0, None, None),
        (1, 1, None),
        (1, 5, "silu"),
        (1, 13, "tanh"),
        (2, 16, "ssp"),
        (2, 17, "gelu"),
        (3, 9, "mish"),
        (1, 8, "abs"),
    ],
)
def test_every_readout(depth, width, nonlinearity):
    """Widths that are no whole vectors, all activations; scales and shifts are trained as well."""
    changes = {**SMALL, **TRAINED, **readout(depth, width, nonlinearity)}
    ours, theirs = model_of("fused", **changes), model_of("batched", **changes)
    batch = batch_of([molecule(), crystal(), molecule()], ours)
    difference, where = largest_difference(numbers(ours, batch), numbers(theirs, batch))
    assert difference < 1e-11, where


def test_single_precision_is_as_exact_as_torch():
    changes = {**SMALL, **TRAINED, **readout(2, 13, "silu")}
    exact = model_of("batched", **changes)
    batch = batch_of([molecule(), crystal()], exact)
    ours = model_of("fused", model_dtype="float32", **changes)
    ours.load_state_dict(exact.state_dict())
    difference, where = largest_difference(numbers(ours, batch), numbers(exact, batch))
    assert difference < 3e-6, where


@pytest.mark.parametrize(
    "name", [fields.TOTAL_ENERGY, fields.PER_ATOM_ENERGY, fields.FORCES, fields.STRESS, fields.VIRIAL]
)
def test_a_loss_of_one_result(name):
    """The gradients by the others are zero then, and autograd does not even hand them over."""
    changes = {**SMALL, **TRAINED, **readout(1, 5, "silu")}

    def gradients(model):
        loss = model(batch)[name].nan_to_num(0.0).pow(3).sum()
        parameters = dict(model.named_parameters())
        found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        return dict(zip(parameters, found, strict=True))

    ours, theirs = model_of("fused", **changes), model_of("batched", **changes)
    batch = batch_of([molecule(), crystal()], ours)
    difference, where = largest_difference(gradients(ours), gradients(theirs))
    assert difference < 1e-11, where


@pytest.mark.parametrize("trained", ["readout", "scale_shift", "layers"])
def test_frozen_parts_have_no_gradient(trained):
    changes = {**SMALL, **TRAINED, **readout(1, 5, "silu")}
    ours, theirs = model_of("fused", **changes), model_of("batched", **changes)
    batch = batch_of([molecule(), crystal()], ours)
    found = []
    for model in (ours, theirs):
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(trained in key)
        (model(batch)[fields.FORCES].square().sum() + model(batch)[fields.TOTAL_ENERGY].sum()).backward()
        found.append({key: parameter.grad for key, parameter in model.named_parameters() if parameter.grad is not None})
    assert found[0]
    assert all(trained in key for key in found[0])
    difference, where = largest_difference(*found)
    assert difference < 1e-11, where


def test_molecules_have_no_stress_and_no_gradient_of_it():
    model = model_of("fused", **SMALL)
    prediction = model(batch_of([molecule(), molecule()], model))
    assert bool(prediction[fields.STRESS].isnan().all())
    assert bool(prediction[fields.VIRIAL].isnan().all())
    (gradient,) = torch.autograd.grad(
        prediction[fields.STRESS].nan_to_num(0.0).sum(), model.energy_model.type_embedding
    )
    assert not gradient.any()


def test_graphs_without_cells():
    """A graph of positions alone is a molecule."""
    model = model_of("fused", **SMALL)
    batch = batch_of([molecule(), molecule()], model)
    bare = {key: value for key, value in batch.items() if key not in (fields.CELL, fields.EDGE_CELL_SHIFT)}
    for training in (True, False):
        expected, found = model.train(training)(batch), model(bare)
        assert torch.equal(found[fields.FORCES], expected[fields.FORCES])
        assert bool(found[fields.STRESS].isnan().all())
