"""Builder of the descriptor family: what its arguments mean, and which it refuses."""

import math

import pytest
import torch
from ase import Atoms

import nequip_like as nl
from nequip_like.errors import ConfigError
from nequip_like.inference import load, save
from nequip_like.model import DescriptorANNModel
from nequip_like.model.families import build as build_family
from nequip_like.testing.structures import crystal, graph_of, predict
from nequip_like.workflow.config.check import check_config

TINY = {"type_names": ["H", "C", "O"], "r_max": 3.0, "radial_order": 2, "angular_order": 1, "networks": [[3, "tanh"]]}
SIZE = 10


def test_energies_are_scaled_and_shifted():
    graph = crystal()
    plain = predict(DescriptorANNModel(**TINY, model_dtype="float64").eval(), graph)["atomic_energy"]
    normalized = DescriptorANNModel(
        **TINY,
        model_dtype="float64",
        E_scaling=0.5,
        E_shift=-3.0,
        per_type_energy_shifts={"H": 1.0, "C": 2.0, "O": 4.0},
    )
    shifts = torch.tensor([{"H": 1.0, "C": 2.0, "O": 4.0}[symbol] for symbol in graph.get_chemical_symbols()])
    expected = 2.0 * plain + shifts.unsqueeze(1) - 3.0
    torch.testing.assert_close(predict(normalized.eval(), graph)["atomic_energy"], expected, rtol=0, atol=1e-13)


def test_each_energy_normalization_works_alone():
    graph = crystal()
    plain = predict(DescriptorANNModel(**TINY, model_dtype="float64").eval(), graph)["atomic_energy"]
    for arguments, expected in (({"E_shift": -3.0}, plain - 3.0), ({"E_scaling": 0.5}, 2.0 * plain)):
        potential = DescriptorANNModel(**TINY, model_dtype="float64", **arguments).eval()
        torch.testing.assert_close(predict(potential, graph)["atomic_energy"], expected, rtol=0, atol=1e-13)


def test_features_that_do_not_vary_are_left_out():
    stats = {"mean": [0.0] * SIZE, "std": [0.0] * SIZE}
    potential = DescriptorANNModel(**TINY, feature_stats=stats).eval()
    prediction = predict(potential, crystal())
    assert float(prediction["forces"].abs().max()) == 0.0


def test_an_isolated_atom_is_learnt_or_exact():
    shifts = {"H": 1.0, "C": 2.0, "O": 4.0}
    stats = {"mean": [1.0] * SIZE, "std": [1.0] * SIZE}
    arguments = {**TINY, "per_type_energy_shifts": shifts, "feature_stats": stats, "model_dtype": "float64"}
    learnt, exact = (
        DescriptorANNModel(**arguments, isolated_atoms=kind, E_shift=-1.0).eval() for kind in ("learnt", "exact")
    )
    assert float(predict(exact, Atoms("C"))["total_energy"]) == 2.0
    nothing = torch.full((1, SIZE), -1.0, dtype=torch.float64)
    outputs = [float(network(nothing).detach()) for network in learnt.energy_model.networks.each]
    assert min(map(abs, outputs)) > 1e-3
    assert float(predict(learnt, Atoms("C"))["total_energy"]) == pytest.approx(outputs[1] + 1.0, abs=1e-12)
    # What atoms have together beyond what they have alone is the same.
    together = [predict(potential, crystal())["atomic_energy"].squeeze(1) for potential in (learnt, exact)]
    species = [TINY["type_names"].index(symbol) for symbol in crystal().symbols]
    alone = torch.tensor(outputs, dtype=torch.float64)[species] - 1.0
    torch.testing.assert_close(together[0] - alone, together[1], rtol=0, atol=1e-12)


def test_a_file_holds_all_of_it(tmp_path):
    stats = {name: {"mean": [0.1] * SIZE, "std": [0.5] * SIZE, "count": 9.0} for name in TINY["type_names"]}
    potential = DescriptorANNModel(**TINY, feature_stats=stats, E_shift=-1.0, min_cutoff=0.55).eval()
    save(potential, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.config == potential.config
    for name, value in predict(potential, crystal()).items():
        assert torch.equal(predict(again, crystal())[name], value)
    assert build_family(potential.config).energy_model.descriptor.min_cutoff == 0.55


def test_the_order_of_species_matters():
    graph = crystal()
    energies = []
    for order in (["H", "C", "O"], ["O", "H", "C"]):
        potential = DescriptorANNModel(**{**TINY, "type_names": order}).eval()
        prepared = graph_of(graph, potential)
        energies.append(potential.energy_model.descriptor.spins[prepared["atom_types"]].tolist())
    assert energies[0] != energies[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"angular_cutoff": 3.5}, "angular_cutoff is 3.5, beyond r_max"),
        ({"min_cutoff": 4.0}, "min_cutoff is 4.0, beyond r_max"),
        ({"angular_order": 12}, "angular_order"),
        ({"E_scaling": 0.0}, "E_scaling is"),
        ({"networks": {"H": [[3, "tanh"]]}}, "networks and the model's species differ in C, O"),
        ({"networks": [[3, "relu"]]}, "unknown activation 'relu'"),
        ({"feature_stats": {"mean": [0.0] * SIZE}}, "nothing as the std of H"),
        ({"feature_stats": {"mean": [0.0] * 3, "std": [1.0] * SIZE}}, "3 numbers as the mean of H"),
        ({"feature_stats": {"H": {}}}, "feature_stats and the model's species differ in C, O"),
        ({"feature_stats": {"mean": [math.nan] * SIZE, "std": [1.0] * SIZE}}, "not finite"),
        ({"isolated_atoms": "zero"}, "isolated_atoms"),
        ({"type_names": ["H", "H"]}, "type_names are"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        DescriptorANNModel(**{**TINY, **arguments})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.networks=[[4,relu]]", "training_module.model: networks of H: unknown activation 'relu'"),
        ("model.angular_cutoff=9.0", "training_module.model: angular_cutoff is 9.0, beyond r_max, which is 4.0"),
        ("model.networks={He:[[4,tanh]]}", "networks and the model's species differ in H, He"),
    ],
    ids=["activation", "cutoff", "species"],
)
def test_refused_before_the_data_are_read(override, message):
    species = ["chemical_species=[H]"] if "He" in override else []
    common = ["model=descriptor_ann", "data.train=absent.xyz", "cutoff_radius=4.0"]
    config = nl.compose("train", [*common, override, *species])
    with pytest.raises(ConfigError, match=message):
        check_config(config)
