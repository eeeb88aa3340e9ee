"""The uncertainty of a single potential: features are derivatives, variances those of a linear fit, in every file."""

import math

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.data.dataset import load_dataset
from nequip_like.data.graph import collate, edge_vectors
from nequip_like.errors import ConfigError, DataError, ModelError, ModelFileError
from nequip_like.inference import Predictor, load, read_card, save
from nequip_like.inference.last_layer_fit import (
    UncertaintySettings,
    calibrate,
    choose_regularizer,
    compute_features,
    fit_uncertainty,
)
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.model import DescriptorANNModel
from nequip_like.model.last_layer import LastLayerUncertainty
from nequip_like.model.potential import Potential


@pytest.fixture
def make_dataset(tmp_path, write_labelled):
    def make(potential, frames=12, seed=0):
        path = write_labelled(tmp_path / f"{seed}.xyz", frames, seed=seed)
        return load_dataset(path, potential.type_names, potential.cutoff)

    return make


DEEP = {"readout_mlp_hidden_layers_depth": 1, "readout_mlp_hidden_layers_width": 6}
SCALES = {"per_type_energy_scales": {"H": 2.0, "C": 3.0, "O": 0.5}}


@pytest.mark.parametrize("kernel", ["batched", "auto"])
@pytest.mark.parametrize("readout", [{}, DEEP], ids=["linear", "deep"])
def test_features_are_derivatives_of_the_energy(make_potential, make_dataset, kernel, readout):
    """By the weights of the last layer, for each structure of a batch; whatever evaluates the network."""
    potential = make_potential(kernel=kernel, l_max=2, **readout, **SCALES)
    dataset = make_dataset(potential, 3)
    batch = collate([dataset[i] for i in range(3)])
    features = potential.energy_model.last_layer_features(batch)
    assert features.dtype == torch.float64
    weight = potential.energy_model.readout.weights[-1]
    reference = make_potential(kernel="batched", l_max=2, **readout, **SCALES)
    with torch.no_grad():
        for parameter, value in zip(reference.parameters(), potential.parameters(), strict=True):
            parameter.copy_(value)
    last = reference.energy_model.readout.weights[-1]
    last.requires_grad_(True)
    totals = reference.train()(batch)["total_energy"]
    for i, row in enumerate(features):
        (gradient,) = torch.autograd.grad(totals[i, 0], last, retain_graph=True)
        torch.testing.assert_close(row, gradient.flatten(), rtol=1e-9, atol=1e-10)
    assert features.shape == (3, weight.numel())


def test_features_of_steps_follow_scales_and_species(make_potential, make_dataset):
    """What a step keeps for the next one is made anew when a scale or a species is another."""
    potential = make_potential(kernel="auto", **SCALES)
    if potential.energy_model.native is None:
        pytest.skip("needs a C compiler")
    potential.cache_parameters()
    graph = collate([make_dataset(potential, 1)[0]])
    types = graph["atom_types"]
    scales = potential.energy_model.scale_shift.scales

    def compare(graph):
        _, features = potential.predict_with_features(graph)
        torch.testing.assert_close(features, potential.energy_model.last_layer_features(graph), rtol=1e-6, atol=1e-9)
        return features

    first = compare(graph)
    assert torch.equal(compare(graph), first)
    scales.mul_(2.0)
    torch.testing.assert_close(compare(graph), 2.0 * first)
    assert not torch.allclose(compare({**graph, "atom_types": types.flip(0)}), 2.0 * first)
    torch.testing.assert_close(compare(graph), 2.0 * first)


@pytest.mark.parametrize("isolated_atoms", ["learnt", "exact"])
@pytest.mark.parametrize("networks", [[[3, "tanh"], [2, "mtanh"]], {"H": [], "C": [[3, "tanh"]], "O": [[2, "tanh"]]}])
def test_features_of_a_descriptor_network(make_dataset, isolated_atoms, networks):
    """Weights and bias of the last layer of each species; other predictions are the same in the same evaluation."""
    potential = DescriptorANNModel(
        type_names=["H", "C", "O"], r_max=3.0, radial_order=3, angular_order=2, networks=networks, E_scaling=0.5,
        isolated_atoms=isolated_atoms, model_dtype="float64", seed=3,
    ).eval()  # fmt: skip
    dataset = make_dataset(potential, 3)
    batch = collate([dataset[i] for i in range(3)])
    expected = potential(batch)
    prediction, features = potential.predict_with_features(batch)
    for name, value in prediction.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(potential.energy_model.last_layer_features(batch), features)
    last = [
        part for network in potential.energy_model.networks.each for part in (network.weights[-1], network.biases[-1])
    ]
    for part in last:
        part.requires_grad_(True)
    totals = potential.energy_model(batch, edge_vectors(batch))
    for i, row in enumerate(features):
        energy = totals[batch["batch"] == i].sum()
        gradients = torch.autograd.grad(energy, last, retain_graph=True, materialize_grads=True, allow_unused=True)
        torch.testing.assert_close(row, torch.cat([part.flatten() for part in gradients]), rtol=1e-9, atol=1e-10)
    uncertainty = fit_uncertainty(potential, dataset, dataset)
    assert uncertainty.calibration.train_frames == 3
    assert potential(batch)["energy_uncertainty"].shape == (3, 1)


def test_variance_of_a_linear_fit(make_potential, make_dataset):
    """sigma^2 = a^2 f^T (F^T F + s^2)^-1 f, and a makes the mean of (error / sigma)^2 one on the held-out frames."""
    potential = make_potential()
    train, held_out = make_dataset(potential), make_dataset(potential, 8, seed=1)
    uncertainty = fit_uncertainty(potential, train, held_out, batch_size=5)
    matrix, _ = compute_features(potential, train, range(12), 4)
    features, errors = compute_features(potential, held_out, range(8), 4)
    calibration = uncertainty.calibration
    covariance = torch.linalg.inv(matrix.T @ matrix + calibration.regularizer**2 * torch.eye(4, dtype=torch.float64))
    variances = calibration.scale**2 * ((features @ covariance) * features).sum(1)
    predictions = Predictor(potential).predict(held_out)
    predicted = torch.cat([prediction["energy_uncertainty"] for prediction in predictions]).flatten()
    torch.testing.assert_close(predicted.square(), variances, rtol=1e-5, atol=0.0)
    assert float((errors / predicted).square().mean()) == pytest.approx(1.0)
    assert (calibration.frames, calibration.held_out, calibration.train_frames) == (8, True, 12)


def test_no_more_frames_than_asked_for(make_potential, tmp_path):
    """Of training and of held-out frames; these are looked for among those that have energies, however few they are."""
    potential = make_potential()
    frames = []
    for i in range(40):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, seed=i)
        energy = {"energy": -12.0 + 0.01 * i} if i in (7, 17, 31) else {}
        atoms.calc = SinglePointCalculator(atoms, forces=np.zeros((9, 3)), **energy)
        frames.append(atoms)
    held_out = load_dataset(frames, potential.type_names, potential.cutoff)
    calibration = fit_uncertainty(potential, held_out, held_out, UncertaintySettings(frames=10)).calibration
    assert (calibration.frames, calibration.train_frames) == (3, 10)
    calibration = fit_uncertainty(potential, held_out, held_out, UncertaintySettings(frames=2)).calibration
    assert (calibration.frames, calibration.train_frames) == (2, 2)
    unlabelled = load_dataset(frames[:5], potential.type_names, potential.cutoff)
    with pytest.raises(DataError, match="0 structures have an energy"):
        fit_uncertainty(potential, held_out, unlabelled)


@pytest.mark.parametrize("arguments", [{"kernel": "batched"}, {"kernel": "auto"}, {"do_derivatives": False}])
def test_other_predictions_stay(make_potential, make_dataset, arguments):
    potential = make_potential(**arguments)
    dataset = make_dataset(potential)
    before = Predictor(potential).predict(dataset)
    fit_uncertainty(potential, dataset, dataset)
    after = Predictor(potential, batch_size=5).predict(dataset)
    assert set(after[0]) == {*before[0], "energy_uncertainty"}
    for a, b in zip(before, after, strict=True):
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-12, atol=1e-12, equal_nan=True)


def test_in_the_model_file_and_the_calculator(tmp_path, make_potential, make_dataset, molecule_file):
    potential = make_potential()
    dataset = make_dataset(potential)
    save(potential, tmp_path / "without.safetensors")
    fit_uncertainty(potential, dataset, dataset)
    save(potential, tmp_path / "with.safetensors")
    loaded = load(tmp_path / "with.safetensors")
    assert torch.equal(loaded.uncertainty.root, potential.uncertainty.root)
    assert loaded.uncertainty.calibration == potential.uncertainty.calibration
    assert loaded.state_dict().keys() == potential.state_dict().keys()
    card = read_card(tmp_path / "with.safetensors")
    assert (card["uncertainty"]["method"], card["format_version"]) == ("conformal", 2)
    assert read_card(tmp_path / "without.safetensors")["format_version"] == 1
    atoms = Predictor(loaded).predict_atoms(molecule_file)[0]
    expected = atoms.info["energy_uncertainty"]
    calculator = NequIPCalculator(tmp_path / "with.safetensors")
    calculator.calculate(atoms)
    assert calculator.results["energy_uncertainty"] == pytest.approx(expected)
    assert "forces_uncertainty" not in calculator.implemented_properties


def test_a_damaged_uncertainty(tmp_path, make_potential, make_dataset, monkeypatch):
    potential = make_potential()
    dataset = make_dataset(potential)
    fit_uncertainty(potential, dataset, dataset)
    monkeypatch.setattr(type(potential.uncertainty.calibration), "describe", lambda self: {"method": "scale"})
    save(potential, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match="does not describe its uncertainty"):
        load(tmp_path / "a.safetensors")


def test_many_frames_are_thinned(make_potential, make_dataset):
    potential = make_potential()
    dataset = make_dataset(potential)
    uncertainty = fit_uncertainty(potential, dataset, dataset, UncertaintySettings(frames=5))
    assert uncertainty.calibration.train_frames == 4  # each third of twelve


def test_without_held_out_frames(make_potential, make_dataset):
    potential = make_potential()
    assert not fit_uncertainty(potential, make_dataset(potential)).calibration.held_out


def test_a_family_without_features(make_potential, make_dataset):
    class Constant(torch.nn.Module):
        def forward(self, graph, vectors):
            return vectors.new_zeros(len(graph["atom_types"]))

    like = make_potential()
    potential = Potential(Constant(), like.type_names, like.cutoff, {"family": "constant", "arguments": {}})
    potential.register_parameter("unused", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(ModelError, match="Constant does not tell the features of its last layer"):
        fit_uncertainty(potential, make_dataset(like))


# --- calibration


def test_scale_of_known_errors():
    spreads = torch.rand(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    errors = 3.0 * spreads * torch.randn(4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert calibrate(errors, spreads) == pytest.approx(3.0, rel=0.03)
    assert calibrate(errors, spreads, 0.9) == pytest.approx(3.0, rel=0.05)


def test_conformal_coverage_is_that_of_the_rank():
    """Of 19 errors the 18th is the 90 % quantile: ceil(20 * 0.9) = 18."""
    errors = torch.arange(1.0, 20.0, dtype=torch.float64)
    assert calibrate(errors, torch.ones(19), 0.9) == pytest.approx(18 / 1.6448536)
    with pytest.raises(DataError, match=r"8 held-out structures are too few .* 0.9"):
        calibrate(errors[:8], torch.ones(8), 0.9)
    assert math.isfinite(calibrate(errors[:9], torch.ones(9), 0.9))


def test_the_regularizer_is_that_of_the_likeliest_errors():
    """Errors in proportion to a direction that the training data have little of ask for a small one."""
    values = torch.tensor([1.0, 1e-6], dtype=torch.float64)
    projected = torch.tensor(np.random.default_rng(0).uniform(0.1, 1, size=(50, 2)), dtype=torch.float64)
    weak = (projected[:, 1] / 1e-6).sqrt()
    even = projected.sum(1).sqrt()
    assert choose_regularizer(values, projected, weak) < 1e-7
    assert choose_regularizer(values, projected, even) == 1.0


def test_settings():
    assert UncertaintySettings.read(None) is None
    assert UncertaintySettings.read("none") is None
    assert UncertaintySettings.read("llpr") == UncertaintySettings()
    assert UncertaintySettings.read("auto") == UncertaintySettings(method="auto", frames=500)
    assert UncertaintySettings.read("committee").method == "committee"
    conformal = UncertaintySettings.read({"method": "llpr", "calibration": "conformal", "coverage": 0.8})
    assert conformal == UncertaintySettings(calibration="conformal", coverage=0.8)
    for value, message in (
        ("lpr", "uncertainty is 'lpr'"),
        ({"metod": "llpr"}, "unknown key 'metod'"),
        ({"coverage": 1.0}, r"uncertainty\.coverage"),
        ({"frames": 0}, r"uncertainty\.frames"),
    ):
        with pytest.raises(ConfigError, match=message):
            UncertaintySettings.read(value)


def test_root_is_the_whole_of_it():
    root = torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64))
    model = LastLayerUncertainty(root, None)
    assert model(torch.ones(1, 2, dtype=torch.float64)).item() == 5.0
    assert model.state_dict() == {}
