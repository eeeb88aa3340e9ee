"""What one training step of a compiled network leaves to the next: memory and addresses, and never results."""

import gc

import pytest
import torch

from nequip_like.data import fields
from nequip_like.nn.native import calculation, compiler
from nequip_like.testing.structures import crystal, graph_of, molecule
from tests.nn.test_native import batch_of, model_of

pytestmark = pytest.mark.skipif(compiler.find_compiler() is None, reason="there is no C compiler")


def compute_step(model, graph):
    """Predictions, and gradients of a loss that asks for all of them; no graph is left."""
    model.zero_grad()
    prediction = model(graph)
    loss = prediction[fields.TOTAL_ENERGY].sum() + prediction[fields.FORCES].square().sum()
    (loss + prediction[fields.VIRIAL].nan_to_num().square().sum()).backward()
    found = {name: prediction[name].detach() for name in model.predicted_fields}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return found | gradients


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=0, atol=0, equal_nan=True)


@pytest.fixture
def spare():
    """A model, and the list of what it keeps for its next step."""
    model = model_of("fused")
    return model, model.energy_model.native.network._spare


def test_steps_of_any_size_one_after_another(spare):
    """Fewer atoms in the memory of more, more again, and as many others: the numbers of a model that has no memory."""
    model, kept = spare
    batches = [batch_of(atoms, model) for atoms in (
        [molecule(), crystal()], [molecule()], [crystal()], [crystal(), molecule()], [molecule()] * 4
    )]  # fmt: skip
    used = []
    for batch in [*batches, *batches]:
        assert_equal(compute_step(model_of("fused"), batch), compute_step(model, batch))
        gc.collect()
        assert len(kept) == 1
        used.append(kept[0])
    assert all(calculation is used[0] for calculation in used)


def test_results_stay_when_the_next_step_calculates(spare):
    model, _ = spare
    one, two = graph_of(molecule(), model), graph_of(crystal(), model)
    before = compute_step(model, one)
    copies = {key: value.clone() for key, value in before.items()}
    compute_step(model, two)
    assert_equal(copies, before)


def test_a_living_graph_keeps_its_calculation(spare):
    """Also after its gradients were asked for, if they may be asked for again."""
    model, kept = spare
    graph = graph_of(crystal(), model)
    compute_step(model, graph)
    (first,) = kept
    loss = model(graph)[fields.FORCES].square().sum()
    assert kept == []
    weight = model.energy_model.layers[0].linear_out.weights[0]
    (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
    compute_step(model, graph_of(molecule(), model))
    assert kept[0] is not first
    (again,) = torch.autograd.grad(loss, weight)
    assert torch.equal(again, gradient)
    del loss
    assert kept == [first]


def test_large_memory_is_given_back(spare, monkeypatch):
    monkeypatch.setattr(calculation, "_MOST_KEPT", 1000)
    model, kept = spare
    compute_step(model, graph_of(crystal(), model))
    assert kept == []


def test_other_parameters_get_a_calculation_of_their_own(spare):
    model, kept = spare
    graph = graph_of(crystal(), model)
    compute_step(model, graph)
    (first,) = kept
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)  # numbers only, as an optimizer changes them
    changed = compute_step(model, graph)
    assert kept == [first]
    fresh = model_of("fused")
    fresh.load_state_dict(model.state_dict())
    assert_equal(compute_step(fresh, graph), changed)
    weights = model.energy_model.layers[1].radial_mlp.weights
    weights[1] = torch.nn.Parameter(weights[1].detach() * 1.1)
    replaced = compute_step(model, graph)
    assert kept[0] is not first
    fresh.load_state_dict(model.state_dict())
    assert_equal(compute_step(fresh, graph), replaced)


def test_parameters_are_joined_once(spare):
    """The same object until something of it is another: a weight, or the numbers of a buffer."""
    model, _ = spare
    energy_model = model.energy_model
    joined = energy_model._collect_parameters()
    assert energy_model._collect_parameters() is joined
    energy_model.sender_norm.mul_(0.5)
    halved = energy_model._collect_parameters()
    assert halved is not joined
    assert torch.equal(halved.constants.norm, energy_model.sender_norm.expand(len(halved.constants.norm)))
    energy_model.type_embedding = torch.nn.Parameter(energy_model.type_embedding.detach().clone())
    assert energy_model._collect_parameters().network[0] is energy_model.type_embedding
