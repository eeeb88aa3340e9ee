"""A committee as one potential: means and standard deviations of its members, in one file, whatever runs it."""

import pickle

import pytest
import torch

from nequip_like.data.dataset import load_dataset
from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError, ModelError, ModelFileError
from nequip_like.inference import Predictor, load, load_any, save
from nequip_like.inference.evaluation import evaluate
from nequip_like.model.committee import CommitteePotential
from nequip_like.model.families import FAMILIES, check_names


@pytest.fixture
def members(make_potential):
    return [make_potential(seed=seed) for seed in (1, 2, 3)]


@pytest.fixture
def batch(tmp_path, write_labelled, members):
    dataset = load_dataset(write_labelled(tmp_path / "a.xyz"), members[0].type_names, members[0].cutoff)
    return collate([dataset[i] for i in range(len(dataset))])


def check_statistics(prediction, outputs):
    for name in ("total_energy", "atomic_energy", "forces", "stress", "virial"):
        mean = sum(output[name] for output in outputs) / len(outputs)
        torch.testing.assert_close(prediction[name], mean, rtol=1e-12, atol=1e-12, equal_nan=True)
    for name, of_field in (("energy_uncertainty", "total_energy"), ("forces_uncertainty", "forces")):
        spread = (sum((output[of_field] - prediction[of_field]) ** 2 for output in outputs) / len(outputs)).sqrt()
        assert spread.max() > 1e-3
        torch.testing.assert_close(prediction[name], spread, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kernel", ["batched", "auto"])
def test_means_and_standard_deviations(make_potential, batch, kernel):
    members = [make_potential(seed=seed, kernel=kernel) for seed in (1, 2, 3)]
    committee = CommitteePotential(members).eval()
    prediction = committee(batch)
    assert {*committee.predicted_fields} <= {*prediction}
    check_statistics(prediction, [member(batch) for member in members])
    assert committee.units["energy_uncertainty"] == "eV"
    assert committee.units["forces_uncertainty"] == "eV/Angstrom"


@pytest.mark.parametrize("threads", [1, 2, 6])
def test_same_numbers_on_threads(members, batch, threads):
    """Members side by side give the bits that each gives alone, and leave torch's threads as they were."""
    alone = [member(batch) for member in members]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = CommitteePotential(members).eval().predict_members(batch)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for output, expected in zip(together, alone, strict=True):
        for name in members[0].predicted_fields:
            assert torch.equal(output[name].nan_to_num(7.0), expected[name].nan_to_num(7.0))


def test_other_structures_after_the_first(members, batch, tmp_path, write_labelled):
    """Edges that members share are those of the structures at hand."""
    committee = CommitteePotential(members).eval()
    committee(batch)
    dataset = load_dataset(write_labelled(tmp_path / "b.xyz", 3, seed=5), members[0].type_names, members[0].cutoff)
    other = collate([dataset[i] for i in range(len(dataset))])
    check_statistics(committee(other), [member(other) for member in members])


def test_without_forces(make_potential, batch):
    members = [make_potential(seed=seed, do_derivatives=False) for seed in (1, 2)]
    committee = CommitteePotential(members).eval()
    assert committee.predicted_fields == ("total_energy", "atomic_energy", "energy_uncertainty")
    energies = [member(batch)["total_energy"] for member in members]
    torch.testing.assert_close(committee(batch)["energy_uncertainty"], (energies[0] - energies[1]).abs() / 2)


def test_one_file(tmp_path, members, batch):
    committee = CommitteePotential(members).eval()
    save(committee, tmp_path / "committee.safetensors", {"licence": "MIT"})
    loaded, card = load_any(tmp_path / "committee.safetensors")
    assert isinstance(loaded, CommitteePotential)
    assert (len(loaded.members), card["licence"], card["config"]["family"]) == (3, "MIT", "committee")
    expected, prediction = committee(batch), loaded(batch)
    for name in committee.predicted_fields:
        torch.testing.assert_close(prediction[name], expected[name], rtol=0, atol=0, equal_nan=True)


def test_large_seed_is_loaded(tmp_path, make_potential):
    """A seed is no size of a model."""
    members = [make_potential(seed=seed) for seed in (123456, 123457)]
    save(CommitteePotential(members), tmp_path / "committee.safetensors")
    assert load(tmp_path / "committee.safetensors").members[1].config["arguments"]["seed"] == 123457


def test_copies(members, batch):
    committee = CommitteePotential(members).eval()
    expected = committee(batch)["energy_uncertainty"]
    copied = pickle.loads(pickle.dumps(committee))
    assert torch.equal(copied(batch)["energy_uncertainty"], expected)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"type_names": ["H", "C", "N"]}, r"species: \['H'"),
        ({"r_max": 3.5}, r"cutoff: 3.0 and 3.5"),
        ({"per_type_energy_shifts": -1.0}, "reference energies: -1.5 and -1.0"),
        ({"num_features": 8}, r"architecture \(feature_irreps_hidden\)"),
        ({"do_derivatives": False}, "predicted fields"),
    ],
)
def test_members_that_differ(make_potential, changes, what):
    expected = what.replace("['H'", '["H"').replace(r"\['H'", r'\["H"')
    with pytest.raises(ModelError, match=f"member 0 and member 1 differ in {expected}"):
        CommitteePotential([make_potential(), make_potential(**changes)])


def test_statistics_of_a_resampled_set_may_differ(make_potential):
    CommitteePotential([make_potential(seed=1), make_potential(seed=2, avg_num_neighbors=5.1, kernel="batched")])


def test_one_member_has_no_spread(make_potential):
    with pytest.raises(ModelError, match="a committee of 1 has no spread"):
        CommitteePotential([make_potential()])


def test_the_name_is_taken():
    assert "committee" not in FAMILIES
    with pytest.raises(ConfigError, match="'committee', a family of nequip_like itself"):
        check_names({"committee": lambda: None}, "families")


def test_a_damaged_file(tmp_path, members, monkeypatch):
    committee = CommitteePotential(members)
    committee.config["arguments"]["members"][1] = {"family": "nequip"}
    save(committee, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match="does not describe its members"):
        load(tmp_path / "a.safetensors")
    committee.config["arguments"]["members"] = 3
    save(committee, tmp_path / "b.safetensors")
    with pytest.raises(ModelFileError, match="does not list its members"):
        load(tmp_path / "b.safetensors")


def test_predictor_and_evaluation(tmp_path, members, write_labelled):
    """Everything that takes a potential takes a committee; what is written has the uncertainties."""
    path = write_labelled(tmp_path / "a.xyz", 4)
    committee = CommitteePotential(members).eval()
    evaluation = evaluate(committee, path)
    assert evaluation.baseline.keys() == evaluate(members[0], path).baseline.keys()
    atoms = Predictor(committee).predict_atoms(path)[0]
    assert atoms.info["energy_uncertainty"] == pytest.approx(evaluation.predictions[0]["energy_uncertainty"].item())
    assert atoms.arrays["forces_uncertainty"].shape == (9, 3)
    assert atoms.get_forces().shape == (9, 3)
