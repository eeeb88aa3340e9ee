"""Hessians: by hand, against finite differences of forces, and compiled against autograd."""

import math

import pytest
import torch
from ase import Atoms

from nequip_like.data import fields
from nequip_like.errors import ModelError
from nequip_like.model import NequIPGNNModel
from nequip_like.model.committee import CommitteePotential
from nequip_like.nn.native import compiler
from nequip_like.testing.structures import batch_of, crystal, graph_of, molecule
from tests.model.test_potential import K, springs

needs_compiler = pytest.mark.skipif(compiler.find_compiler() is None, reason="there is no C compiler")
ARGUMENTS = {
    "seed": 3, "model_dtype": "float64", "type_names": ["H", "C", "O"], "r_max": 3.5, "num_layers": 2, "l_max": 1,
    "num_features": 4, "radial_mlp_width": 8, "per_type_energy_scales": 1.3, "avg_num_neighbors": 4.0,
}  # fmt: skip


def model_of(kernel, **changes):
    return NequIPGNNModel(**{**ARGUMENTS, **changes}, kernel=kernel).eval()


def differentiate_forces(potential, graph, vector, step=1e-4):
    """Minus the change of the forces along a vector, by differences of fourth order."""

    def forces(factor):
        return potential({**graph, fields.POSITIONS: graph[fields.POSITIONS] + factor * step * vector})[fields.FORCES]

    return (8 * (forces(-1) - forces(1)) - (forces(-2) - forces(2))) / (12 * step)


def largest_difference(one, two):
    return float((one - two).abs().max() / two.abs().max())


def test_spring_by_hand():
    """Two atoms at r: E = k (r - 1)^2, so 2 k along the bond, and 2 k (r - 1) / r across it."""
    potential = springs()
    hessian = potential.hessian(graph_of(Atoms("H2", positions=[[0, 0, 0], [1.5, 0, 0]]), potential))
    block = torch.diag(torch.tensor([2 * K, 2 * K * 0.5 / 1.5, 2 * K * 0.5 / 1.5], dtype=torch.float64))
    expected = torch.cat([torch.cat([block, -block], 1), torch.cat([-block, block], 1)])
    torch.testing.assert_close(hessian, expected, rtol=1e-13, atol=1e-13)


def test_periodic_chain_folds():
    """An atom and its images move together: nothing changes, whatever the springs between them."""
    potential = springs()
    graph = graph_of(Atoms("H", cell=[1.5, 10, 20], pbc=[True, False, False]), potential)
    torch.testing.assert_close(potential.hessian(graph), torch.zeros(3, 3, dtype=torch.float64), rtol=0, atol=1e-13)


@pytest.mark.parametrize("structure", [molecule, crystal])
def test_autograd_is_derivative_of_forces(structure):
    potential = model_of("batched")
    graph = graph_of(structure(), potential)
    vectors = torch.randn(2, len(graph["pos"]), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    products = potential.hessian_product(graph, vectors)
    assert largest_difference(products[0], differentiate_forces(potential, graph, vectors[0])) < 1e-6
    size = graph["pos"].numel()
    by_matrix = (vectors.reshape(2, size) @ potential.hessian(graph)).view_as(vectors)
    assert largest_difference(by_matrix, products) < 1e-12


@needs_compiler
@pytest.mark.parametrize(
    "changes",
    [
        {"pair_potential": {"name": "zbl"}},
        pytest.param({"l_max": 2, "parity": True, "num_features": [6, 4, 3], "num_layers": 3}, marks=pytest.mark.slow),
        pytest.param({"l_max": 0}, marks=pytest.mark.slow),
        pytest.param({"num_features": 16, "readout_mlp_hidden_layers_depth": 1}, marks=pytest.mark.slow),
        pytest.param({"convnet_resnet": True, "num_layers": 3}, marks=pytest.mark.slow),
    ],
    ids=["zbl", "parity", "scalars", "readout", "resnet"],
)
def test_compiled(changes):
    """Of a batch; splines stand for radial networks, to within their error of second derivatives."""
    exact, ours = model_of("reference", **changes), model_of("fused", **changes)
    ours.load_state_dict(exact.state_dict())
    batch = batch_of([molecule(), crystal()], exact)
    vector = torch.randn(len(batch["pos"]), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    product = ours.hessian_product(batch, vector)
    assert largest_difference(product, exact.hessian_product(batch, vector)) < 1e-7
    assert largest_difference(product, differentiate_forces(ours, batch, vector)) < 1e-6
    assert largest_difference(ours.hessian_product(batch, vector[None, None])[0, 0], product) == 0.0


@needs_compiler
@pytest.mark.slow
def test_compiled_in_single_precision():
    exact, ours = model_of("reference"), model_of("fused", model_dtype="float32")
    ours.load_state_dict(exact.state_dict())
    batch = batch_of([molecule(), crystal()], exact)
    vector = torch.randn(len(batch["pos"]), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert largest_difference(ours.hessian_product(batch, vector), exact.hessian_product(batch, vector)) < 1e-4


def test_committee_is_mean():
    members = [model_of("batched", seed=seed) for seed in (1, 2)]
    graph = graph_of(molecule(), members[0])
    expected = (members[0].hessian(graph) + members[1].hessian(graph)) / 2
    torch.testing.assert_close(CommitteePotential(members).hessian(graph), expected, rtol=1e-12, atol=1e-12)


def test_training_mode_is_left_as_it_is():
    potential = model_of("batched").train()
    graph = graph_of(molecule(), potential)
    assert potential.hessian(graph).requires_grad is False
    assert potential.training


def test_refusals():
    potential = springs()
    graph = graph_of(Atoms("H2", positions=[[0, 0, 0], [1.5, 0, 0]]), potential)
    with pytest.raises(ModelError, match=r"\(2, 3\); these have \(3, 3\)"):
        potential.hessian_product(graph, torch.zeros(3, 3))
    with pytest.raises(ModelError, match="2 structures together"):
        potential.hessian(batch_of([Atoms("H"), Atoms("H")], potential))
    with pytest.raises(ModelError, match="a graph with neighbours and types"):
        potential.hessian(Atoms("H2", positions=[[0, 0, 0], [1.5, 0, 0]]))
    with pytest.raises(ModelError, match="a graph with neighbours and types"):
        potential.hessian({"pos": graph["pos"], "cell": graph["cell"]})
    with torch.inference_mode(), pytest.raises(ModelError, match="inference_mode"):
        potential.hessian(graph)


def test_symmetric_and_invariant():
    """Moving and turning the whole molecule costs nothing to second order but through the forces."""
    potential = model_of("batched")
    graph = graph_of(molecule(), potential)
    hessian = potential.hessian(graph)
    assert torch.equal(hessian, hessian.T)
    together = torch.eye(3, dtype=torch.float64).repeat(len(graph["pos"]), 1)
    assert float((hessian @ together).abs().max()) < 1e-10 * float(hessian.abs().max()) * math.sqrt(hessian.shape[0])
