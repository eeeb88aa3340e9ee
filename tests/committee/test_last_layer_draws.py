"""Committees that are drawn from one training: their mean is the potential, their spread its uncertainty."""

import numpy as np
import pytest
import torch

import nequip_like as nl
from nequip_like.committee.last_layer_draws import draw_changes, draw_members
from nequip_like.data.dataset import load_dataset
from nequip_like.errors import ModelError
from nequip_like.inference import Predictor, save
from nequip_like.inference.last_layer_fit import fit_uncertainty
from nequip_like.model import DescriptorANNModel
from nequip_like.nn.lora import adapt


@pytest.fixture(params=["nequip", "descriptor"])
def fitted(request, make_potential, molecule_file):
    """A potential with an uncertainty, and the structures."""
    if request.param == "nequip":
        potential = make_potential(readout_mlp_hidden_layers_depth=1, readout_mlp_hidden_layers_width=6)
    else:
        potential = DescriptorANNModel(
            type_names=["H", "C", "O"], r_max=3.0, radial_order=3, angular_order=2, networks=[[3, "tanh"]],
            model_dtype="float64", seed=3,
        ).eval()  # fmt: skip
    dataset = load_dataset(molecule_file, potential.type_names, potential.cutoff)
    fit_uncertainty(potential, dataset, dataset)
    return potential, dataset


def test_mean_and_spread(fitted):
    """The mean is the potential's own; of many draws the spread of energies is the uncertainty to 3 sigma of chance."""
    potential, dataset = fitted
    expected = Predictor(potential).predict(dataset)
    drawn = Predictor(draw_members(potential, members=100)).predict(dataset)
    for before, after in zip(expected, drawn, strict=True):
        for name in ("total_energy", "forces"):
            torch.testing.assert_close(after[name], before[name], rtol=1e-6, atol=1e-6)
        assert float(after["energy_uncertainty"]) == pytest.approx(float(before["energy_uncertainty"]), rel=0.22)
        assert after["forces_uncertainty"].shape == (4, 3)
    assert "energy_uncertainty" in potential.predicted_fields  # it stays as it was
    torch.testing.assert_close(
        Predictor(potential).predict(dataset)[0]["total_energy"], expected[0]["total_energy"], rtol=0.0, atol=0.0
    )


def test_spread_of_forces_is_that_of_the_energys_derivative(fitted):
    """Each member's force is minus the derivative of its own energy, so the spread along a displacement is one."""
    potential, dataset = fitted
    committee = draw_members(potential, members=3)
    graph = {name: value.clone() for name, value in dataset[0].items() if isinstance(value, torch.Tensor)}
    step = 1e-4
    energies = []
    for sign in (1, -1):
        moved = dict(graph)
        moved["pos"] = graph["pos"].clone()
        moved["pos"][1, 0] += sign * step
        energies.append([float(member["total_energy"]) for member in committee.predict_members(moved)])
    slopes = (np.array(energies[1]) - np.array(energies[0])) / (2 * step)
    predicted = committee(graph)["forces_uncertainty"][1, 0]
    assert float(predicted) == pytest.approx(slopes.std(), rel=1e-4)


def test_changes():
    root = torch.tensor([[2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    changes = draw_changes(root, 20_000, 1)
    torch.testing.assert_close(changes.T @ changes / len(changes), root @ root.T, rtol=0.03, atol=0.03)
    assert float(changes.sum(0).abs().max()) < 1e-9
    assert torch.equal(draw_changes(root, 4, 1), draw_changes(root, 4, 1))
    assert not torch.equal(draw_changes(root, 4, 1), draw_changes(root, 4, 2))


def test_of_a_file(fitted, tmp_path, molecule_file):
    """As users do it: drawn of a file, calibrated on forces, saved as a committee."""
    potential, _ = fitted
    save(potential, tmp_path / "one.safetensors")
    committee = nl.Committee.from_last_layer(tmp_path / "one.safetensors", members=4, seed=5)
    calibration = committee.calibrate(molecule_file)
    assert calibration.counts["forces"] == 24 * 12
    committee.save(tmp_path / "drawn.safetensors")
    first, again = (
        each.predict(molecule_file)[0].force_uncertainty
        for each in (committee, nl.Committee.load(tmp_path / "drawn.safetensors"))
    )
    np.testing.assert_allclose(first, again, rtol=1e-9)
    assert first.shape == (4,)


def test_without_an_uncertainty(make_potential):
    with pytest.raises(ModelError, match="has no uncertainty of its last layer"):
        draw_members(make_potential())


def test_weights_that_are_a_sum_of_others(make_potential, molecule_file):
    """A draw that is added to such a sum would be lost, and all members the same."""
    potential = make_potential()
    dataset = load_dataset(molecule_file, potential.type_names, potential.cutoff)
    fit_uncertainty(potential, dataset, dataset)
    adapt(potential, rank=2, alpha=2.0, seed=0)
    with pytest.raises(ModelError, match="adapted by a low-rank product"):
        draw_members(potential)
