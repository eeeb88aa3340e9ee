"""A model as a folder: what is written, and that it is the model."""

import hashlib
import json
import shutil

import pytest
import torch

from nequip_like.artifacts import read_artifacts, write_artifacts
from nequip_like.errors import ModelFileError, OutputError
from nequip_like.inference import model_file
from nequip_like.inference.loading import load, load_any
from nequip_like.inference.manifest import find_manifest, read_manifest
from nequip_like.model.committee import CommitteePotential
from nequip_like.testing.structures import crystal, predict


@pytest.fixture
def folder(make_potential, tmp_path):
    write_artifacts(make_potential(), tmp_path / "artifacts", card={"licence": "MIT", "metrics": {"forces_rmse": 0.1}})
    return tmp_path / "artifacts"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_manifest(folder):
    content = json.loads((folder / "manifest.json").read_text())
    assert sorted(file.name for file in folder.iterdir()) == ["manifest.json", "model.json", "model.safetensors"]
    assert content["schema_version"] == "v1"
    assert (content["backend"], content["backend_version"]) == ("nequip_like", "0.1.0")
    assert content["source"] is None
    assert content["weights"] == {
        "path": "model.safetensors",
        "format": "safetensors",
        "sha256": sha256(folder / "model.safetensors"),
        "dtype": "float64",
    }
    assert content["model"] == {"path": "model.json", "sha256": sha256(folder / "model.json")}
    assert content["rebuildable"] is True
    assert content["io"] == {
        "energy_unit": "eV",
        "length_unit": "Angstrom",
        "force_unit": "eV/Angstrom",
        "stress_unit": "eV/Angstrom^3",
        "stress_sign": "tension",
        "energy_is_total": True,
    }
    assert content["config"] == {"family": "nequip", "type_names": ["H", "C", "O"], "cutoff": 3.0}
    assert content["head"]["name"] == "energy"
    assert content["head"]["predicts"] == ["total_energy", "atomic_energy", "forces", "stress", "virial"]
    assert content["normalizer"] == {
        "kind": "per_type_scale_shift",
        "energy_scales": {"H": 2.0, "C": 2.0, "O": 2.0},
        "energy_shifts": {"H": -1.5, "C": -1.5, "O": -1.5},
    }
    assert content["licence"] == "MIT"
    assert content["metrics"] == {"forces_rmse": 0.1}


def test_description(folder, make_potential):
    content = json.loads((folder / "model.json").read_text())
    potential = make_potential()
    assert content["arguments"] == potential.config["arguments"]
    assert content["parameters"] == sum(parameter.numel() for parameter in potential.parameters())
    assert content["units"]["forces"] == "eV/Angstrom"
    assert content["uncertainty"] is None


@pytest.mark.parametrize("name", [".", "manifest.json", "..", "model.safetensors"])
def test_every_way_to_name_them_gives_the_same_model(folder, make_potential, name):
    """The folder, the manifest, the run folder that has it, and the file alone."""
    expected = predict(make_potential(), crystal())
    found, card = load_any(folder / name)
    assert card["path"] == str(folder / "model.safetensors") or card["path"].endswith("model.safetensors")
    assert card["licence"] == "MIT"
    assert all(torch.equal(value, expected[key]) for key, value in predict(found, crystal()).items())


def test_read_again(folder, make_potential):
    for given in (folder, folder / "manifest.json", str(folder)):
        found = read_artifacts(given)
        assert found.config == make_potential().config
        assert not found.training
    with pytest.raises(ModelFileError, match=r"has no manifest\.json"):
        read_artifacts(folder / "model.safetensors")


def test_they_can_be_moved(folder, tmp_path):
    moved = shutil.move(folder, tmp_path / "elsewhere")
    assert read_artifacts(moved).type_names == ["H", "C", "O"]
    assert str(tmp_path) not in (tmp_path / "elsewhere" / "manifest.json").read_text()


def test_of_a_file(make_potential, tmp_path):
    """What the file tells is kept, and the file is named."""
    told = {"metrics": {"forces_rmse": 0.1}, "provenance": {"epoch": 3, "weights": "ema"}, "licence": "CC0"}
    model_file.save(make_potential(), tmp_path / "model.safetensors", told)
    manifest = write_artifacts(tmp_path / "model.safetensors", tmp_path / "artifacts", card={"licence": "MIT"})
    content = json.loads(manifest.read_text())
    assert content["source"] == {
        "path": "model.safetensors",
        "format": "safetensors",
        "sha256": sha256(tmp_path / "model.safetensors"),
    }
    assert content["provenance"] == {"epoch": 3, "weights": "ema"}
    assert content["licence"] == "MIT"
    assert model_file.read_card(tmp_path / "artifacts" / "model.safetensors")["metrics"] == {"forces_rmse": 0.1}


def test_of_a_committee(make_potential, tmp_path):
    committee = CommitteePotential([make_potential(seed=seed) for seed in (1, 2)])
    write_artifacts(committee, tmp_path)
    content = read_manifest(tmp_path).content
    assert content["config"]["family"] == "committee"
    assert content["normalizer"] is None
    assert "energy_uncertainty" in content["head"]["predicts"]
    found, expected = (predict(potential, crystal()) for potential in (read_artifacts(tmp_path), committee))
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def test_written_over(folder, make_potential):
    write_artifacts(make_potential(seed=5), folder)
    assert read_artifacts(folder).config["arguments"]["seed"] == 5
    assert "licence" not in read_manifest(folder).content


def test_half_written(folder, make_potential):
    """The weights of a new model beside the manifest of the old one."""
    model_file.save(make_potential(seed=5), folder / "model.safetensors")
    for read in (read_artifacts, load):
        with pytest.raises(ModelFileError, match="its SHA-256 is another"):
            read(folder)


def test_errors(make_potential, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_artifacts(make_potential(), tmp_path / "file" / "artifacts")
    with pytest.raises(ModelFileError, match="no such file"):
        write_artifacts(tmp_path / "nothing", tmp_path / "artifacts")
    assert find_manifest(tmp_path) is None
    potential = make_potential()
    potential.energy_model.scale_shift.scales[0] = torch.nan
    with pytest.raises(ModelFileError, match="not finite"):
        write_artifacts(potential, tmp_path / "artifacts")
