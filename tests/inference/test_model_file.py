"""The model file: what is written is what is read, and nothing else is."""

import json
import pickle
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from nequip_like.data.dataset import load_dataset
from nequip_like.errors import ConfigError, ModelFileError, OutputError
from nequip_like.inference import model_file
from nequip_like.inference.predictor import Predictor

SINGLE_LINE = r"\A[^\n]+\n  -> [^\n]+\Z"


@pytest.fixture
def saved(tmp_path, make_potential):
    path = tmp_path / "model.safetensors"
    model_file.save(make_potential(), path, {"metrics": {"forces_rmse": 0.1}, "licence": "MIT"})
    return path


def rewritten(path, change=None, tensors=None, version=None):
    """The same file with another card or other tensors."""
    card = model_file.read_card(path)
    if version is not None:
        card["format_version"] = version
    (change or (lambda _: None))(card)
    content = safetensors.torch.load_file(path)
    (tensors or (lambda _: None))(content)
    other = path.with_name("other.safetensors")
    safetensors.torch.save_file(content, other, metadata={model_file.CARD_KEY: json.dumps(card)})
    return other


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_survive(tmp_path, make_potential, write_labelled, dtype):
    potential = make_potential(model_dtype=dtype, parity=False, l_max=2, pair_potential="zbl")
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.mul_(1.1)
    dataset = load_dataset(write_labelled(tmp_path / "a.xyz"), potential.type_names, potential.cutoff)
    model_file.save(potential, tmp_path / "model.safetensors")
    loaded = model_file.read_model(tmp_path / "model.safetensors")
    for a, b in zip(Predictor(potential).predict(dataset), Predictor(loaded).predict(dataset), strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(torch.nan_to_num(a[key], 7.0), torch.nan_to_num(b[key], 7.0))


def test_loaded_model_is_for_evaluation(saved):
    loaded = model_file.read_model(saved)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_card(saved, make_potential):
    card = model_file.read_card(saved)
    potential = make_potential()
    assert card["format"] == "nequip_like/potential"
    assert card["format_version"] == 1
    assert card["config"] == potential.config
    assert card["type_names"] == ["H", "C", "O"]
    assert card["cutoff"] == 3.0
    assert card["units"]["forces"] == "eV/Angstrom"
    assert set(card["versions"]) == {"nequip_like", "torch"}
    assert card["metrics"] == {"forces_rmse": 0.1}
    assert card["licence"] == "MIT"


def test_card_takes_json_only(tmp_path, make_potential):
    path = tmp_path / "model.safetensors"
    model_file.save(make_potential(), path, {"metrics": {"rmse": float("nan")}, "provenance": {"files": ("a", "b")}})
    card = model_file.read_card(path)
    assert card["metrics"] == {"rmse": None}
    assert card["provenance"] == {"files": ["a", "b"]}
    with pytest.raises(ModelFileError, match=r"card\.metrics\.rmse .* Tensor"):
        model_file.save(make_potential(), path, {"metrics": {"rmse": torch.tensor(1.0)}})
    with pytest.raises(ModelFileError, match="'cutoff'"):
        model_file.save(make_potential(), path, {"cutoff": 3.0})


def test_failed_write_leaves_the_old_file(saved, make_potential, monkeypatch):
    before = saved.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        model_file.save(make_potential(seed=1), saved)
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_writing_into_a_file_as_folder(saved, make_potential):
    with pytest.raises(OutputError, match="cannot write"):
        model_file.save(make_potential(), saved / "model.safetensors")


# --- files that cannot be read


def test_missing(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        model_file.read_model(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 100, struct.pack("<Q", 2**60) + b"{}"])
def test_no_safetensors_file(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=SINGLE_LINE):
        model_file.read_model(path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.999])
def test_truncated(saved, keep):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ModelFileError, match="cut off or damaged"):
        model_file.read_model(saved)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"nequip_like": "{"}, {"nequip_like": "[1]"}])
def test_foreign(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(3)}, path, metadata=metadata)
    with pytest.raises(ModelFileError, match="not a model file of nequip_like"):
        model_file.read_model(path)


def test_newer_format(saved):
    with pytest.raises(ModelFileError, match="format version 3") as error:
        model_file.read_model(rewritten(saved, version=3))
    assert "newer" in error.value.advice


def set_shape(content):
    content["energy_model.type_embedding"] = torch.zeros(2, 4, dtype=torch.float64)


def set_dtype(content):
    content["energy_model.type_embedding"] = content["energy_model.type_embedding"].float()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("energy_model.type_embedding"), r"lacks 1 tensors .*type_embedding"),
        (lambda content: content.update(extra=torch.zeros(1)), "'extra'"),
        (set_shape, r"\(2, 4\) .* needs \(3, 4\)"),
        (set_dtype, "torch.float32, but its model needs"),
    ],
)
def test_wrong_tensors(saved, change, message):
    with pytest.raises(ModelFileError, match=message):
        model_file.read_model(rewritten(saved, tensors=change))


def test_damaged_weights(saved, tmp_path):
    """The end of a copy that broke off is often filled with zeros."""
    content = saved.read_bytes()
    (tmp_path / "copy.safetensors").write_bytes(content[:-50] + bytes(50))
    with pytest.raises(ModelFileError, match="its weights are not those that were written, it is damaged"):
        model_file.read_model(tmp_path / "copy.safetensors")


def test_early_files_have_no_checksum(saved):
    expected = model_file.read_model(saved).state_dict()
    loaded = model_file.read_model(rewritten(saved, lambda card: card.pop("checksum"))).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(config=None), "does not describe"),
        (lambda card: card["config"].update(family="os.system"), "family 'os.system'"),
        (lambda card: card["config"].update(family=["nequip"]), "does not describe its model"),
        (lambda card: card["config"]["arguments"].update(unknown=1), "cannot be built.*unknown"),
        (lambda card: card["config"]["arguments"].update(r_max=-1.0), "cannot be built.*r_max"),
        (lambda card: card["config"]["arguments"].update(r_max="x"), "cannot be built"),
        (lambda card: card.update(type_names=["O", "C", "H"]), "species or cutoff"),
    ],
)
def test_wrong_card(saved, change, message):
    with pytest.raises(ModelFileError, match=message):
        model_file.read_model(rewritten(saved, change))


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_are_not_opened(tmp_path):
    touched = tmp_path / "touched"
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Malicious(touched)))
    with pytest.raises(ModelFileError):
        model_file.read_model(path)
    assert not touched.exists()


def test_unknown_device(saved):
    with pytest.raises(ConfigError, match="unknown device"):
        model_file.read_model(saved, device="tpu9")
    with pytest.raises(ConfigError, match="not there"):
        model_file.read_model(saved, device="cuda:99")
