"""The derivative step, with an energy whose derivatives are known by hand: ``E_i = sum_j k (r_ij - 1)^2 / 2``."""

import math

import pytest
import torch
from ase import Atoms

from nequip_like.data import fields
from nequip_like.data.graph import collate
from nequip_like.model import NequIPGNNModel, Potential
from nequip_like.model.potential import EnergyModel
from nequip_like.testing.structures import crystal, graph_of, molecule

K = 3.0


class Springs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor(K, dtype=torch.float64))

    def forward(self, graph, vectors):
        energies = self.k / 2 * (torch.linalg.vector_norm(vectors, dim=1) - 1) ** 2
        atoms = len(graph[fields.ATOM_TYPES])
        return vectors.new_zeros(atoms).index_add(0, graph[fields.EDGE_INDEX][0], energies)


def springs(cutoff=2.5, do_derivatives=True):
    return Potential(Springs(), ["H"], cutoff, {}, do_derivatives).eval()


def test_pair_by_hand():
    potential = springs()
    r = math.sqrt(2.0)
    result = potential(graph_of(Atoms("H2", positions=[[0, 0, 0], [1, 1, 0]]), potential))
    spring = K * (r - 1)  # each of the two directed edges holds half of the pair's energy twice: E = k (r - 1)^2
    force = [2 * spring / r, 2 * spring / r, 0.0]
    assert result[fields.PER_ATOM_ENERGY].flatten().tolist() == pytest.approx([K / 2 * (r - 1) ** 2] * 2, rel=1e-14)
    assert result[fields.TOTAL_ENERGY].tolist() == [pytest.approx([K * (r - 1) ** 2], rel=1e-14)]
    assert result[fields.FORCES][0].tolist() == pytest.approx(force, abs=1e-14)
    assert result[fields.FORCES][1].tolist() == pytest.approx([-value for value in force], abs=1e-14)
    assert bool(result[fields.STRESS].isnan().all())
    assert bool(result[fields.VIRIAL].isnan().all())


def test_stretched_chain_by_hand():
    """One atom and its two images at 1.5 along x: E = k (a - 1)^2, stress_xx = a dE/da / V, in tension positive."""
    potential = springs()
    atoms = Atoms("H", cell=[1.5, 10, 20], pbc=[True, False, False])
    result = potential(graph_of(atoms, potential))
    assert result[fields.TOTAL_ENERGY].item() == pytest.approx(K * 0.25, rel=1e-14)
    assert result[fields.FORCES].tolist() == [[0.0, 0.0, 0.0]]
    stress = torch.zeros(3, 3, dtype=torch.float64)
    stress[0, 0] = 1.5 * 2 * K * 0.5 / 300
    torch.testing.assert_close(result[fields.STRESS][0], stress, rtol=1e-14, atol=0)
    torch.testing.assert_close(result[fields.VIRIAL][0], -300 * stress, rtol=1e-14, atol=0)


def test_left_handed_cell_has_positive_volume():
    potential = springs()
    one = potential(graph_of(Atoms("H", cell=[1.5, 10, 20], pbc=True), potential))
    two = potential(graph_of(Atoms("H", cell=[1.5, 10, -20], pbc=True), potential))
    assert torch.equal(one[fields.STRESS], two[fields.STRESS])
    assert one[fields.STRESS][0, 0, 0] > 0


def test_labels_do_not_pass_for_predictions():
    potential = springs(do_derivatives=False)
    graph = graph_of(Atoms("H"), potential)
    graph[fields.FORCES] = torch.ones(1, 3, dtype=torch.float64)
    graph[fields.TOTAL_ENERGY] = torch.full((1, 1), 77.0, dtype=torch.float64)
    result = potential(graph)
    assert fields.FORCES not in result
    assert result[fields.TOTAL_ENERGY].item() == 0.0
    assert torch.equal(result[fields.POSITIONS], graph[fields.POSITIONS])
    assert graph[fields.TOTAL_ENERGY].item() == 77.0, "the caller's graph is left alone"


def test_predicted_fields():
    energies = (fields.TOTAL_ENERGY, fields.PER_ATOM_ENERGY)
    assert springs(do_derivatives=False).predicted_fields == energies
    assert springs().predicted_fields == (*energies, fields.FORCES, fields.STRESS, fields.VIRIAL)


def test_weights_can_be_trained_without_derivatives():
    potential = springs(do_derivatives=False).train()
    graph = graph_of(Atoms("H2", positions=[[0, 0, 0], [1.5, 0, 0]]), potential)
    potential(graph)[fields.TOTAL_ENERGY].sum().backward()
    assert potential.energy_model.k.grad.item() == pytest.approx(0.25, rel=1e-14)


def test_works_without_gradients_and_leaves_positions_alone():
    potential = springs()
    graph = graph_of(Atoms("H2", positions=[[0, 0, 0], [1.5, 0, 0]]), potential)
    with torch.no_grad():
        result = potential(graph)
    assert result[fields.FORCES][0].tolist() == [K, 0.0, 0.0]
    assert not graph[fields.POSITIONS].requires_grad
    assert not any(value.requires_grad for value in result.values())


def test_evaluation_does_not_touch_gradients_of_weights():
    potential = springs()
    potential(graph_of(molecule_of_hydrogen(), potential))
    assert potential.energy_model.k.grad is None


def molecule_of_hydrogen():
    return Atoms("H2", positions=[[0, 0, 0], [0.7, 0, 0]])


def test_graph_without_cell():
    """An engine may bring no cell; then there is no stress."""
    potential = springs()
    graph = graph_of(molecule_of_hydrogen(), potential)
    expected = potential(graph)
    del graph[fields.CELL], graph[fields.EDGE_CELL_SHIFT], graph[fields.PBC]
    result = potential(graph)
    assert torch.equal(result[fields.FORCES], expected[fields.FORCES])
    assert bool(result[fields.STRESS].isnan().all())


@pytest.mark.parametrize("kernel", ["batched", "reference"])
def test_energy_model_reads_edges_only(kernel):
    """Positions and cells are not read, so that engines with their own neighbour lists can be served."""
    potential = NequIPGNNModel(
        type_names=["H", "C", "O"], r_max=3.5, avg_num_neighbors=6.0, num_layers=2, num_features=3, l_max=2,
        radial_mlp_width=4, model_dtype="float64", kernel=kernel,
    ).eval()  # fmt: skip
    assert isinstance(potential.energy_model, EnergyModel)
    batch = collate([graph_of(atoms, potential) for atoms in (molecule(), crystal())])
    expected = potential(batch)[fields.PER_ATOM_ENERGY].squeeze(1)
    from nequip_like.data.graph import edge_vectors

    least = {key: batch[key] for key in (fields.ATOM_TYPES, fields.EDGE_INDEX)}
    assert torch.equal(potential.energy_model(least, edge_vectors(batch)), expected)


def test_kernels_agree_in_the_whole_model():
    arguments = {
        "type_names": ["H", "C", "O"], "r_max": 3.5, "avg_num_neighbors": 6.0, "num_layers": 2,
        "num_features": [4, 3, 2], "l_max": 2, "radial_mlp_width": 4, "model_dtype": "float64",
    }  # fmt: skip
    one, two = (NequIPGNNModel(**arguments, kernel=kernel).eval() for kernel in ("batched", "reference"))
    assert list(one.state_dict()) == list(two.state_dict())
    for atoms in (molecule(), crystal()):
        graph = graph_of(atoms, one)
        first, second = one(graph), two(graph)
        for key in one.predicted_fields:
            torch.testing.assert_close(first[key], second[key], rtol=1e-12, atol=1e-13, equal_nan=True)
