"""NequIP's checkpoints and packages, read without NequIP: the weights that it evaluates, and its numbers.

What is read was made by NequIP 0.19.1 (``tiny_training.py``): a training with EMA, ZBL, cutoffs of pairs and trained
shifts.
"""

import json
import shutil

import numpy as np
import pytest
import torch

from nequip_like.compat.nequip_models import import_nequip_model
from nequip_like.compat.nequip_models.dumps import read_dump
from nequip_like.compat.nequip_models.importing import build_from_content, compare_predictions, follow
from nequip_like.errors import ConfigError, ModelFileError
from tests.compat.nequip_models.tiny_training import REFERENCE

CHECKPOINT, PACKAGE = REFERENCE / "tiny.ckpt", REFERENCE / "tiny.nequip.zip"


def dumped():
    return read_dump(REFERENCE, CHECKPOINT, follow)


@pytest.fixture(scope="module")
def content():
    return torch.load(CHECKPOINT, map_location="cpu", weights_only=True)


@pytest.fixture
def rewritten(content, tmp_path):
    """The checkpoint with something changed."""

    def rewrite(change):
        copied = {**content, "state_dict": dict(content["state_dict"])}
        copied["hyper_parameters"] = json.loads(json.dumps(content["hyper_parameters"]))
        change(copied)
        torch.save(copied, tmp_path / "a.ckpt")
        return tmp_path / "a.ckpt"

    return rewrite


def module_of(content):
    return content["hyper_parameters"]["info_dict"]["training_module"]


def test_numbers_are_nequips():
    """With the weights that NequIP dumped, against what it predicted for a crystal and a molecule of all species."""
    reference = dumped()
    assert set(reference.predicted["crystal"]) == {"total_energy", "atomic_energy", "forces", "stress"}
    assert set(reference.predicted["molecule"]) == {"total_energy", "atomic_energy", "forces"}
    assert float(reference.predicted["crystal"]["forces"].abs().max()) > 1.0
    differences = compare_predictions(build_from_content(reference), reference)
    assert set(differences) == {"total_energy", "atomic_energy", "forces", "stress"}
    assert max(differences.values()) < 1e-12


@pytest.mark.parametrize(("file", "kind"), [(CHECKPOINT, "checkpoint"), (PACKAGE, "package")])
def test_files_have_the_weights_that_nequip_evaluates(file, kind):
    potential, card = import_nequip_model(file)
    expected = build_from_content(dumped())
    assert potential.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in potential.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name]), name
    assert potential.config == expected.config
    assert not potential.training
    assert card["provenance"]["kind"] == kind
    assert card["provenance"]["weights"] == "ema"
    assert card["provenance"]["versions"]["nequip"] == "0.19.1"
    assert max(compare_predictions(potential, dumped()).values()) < 1e-12


def test_averages_are_not_the_raw_weights(content):
    potential, card = import_nequip_model(CHECKPOINT)
    raw = content["state_dict"]["model.sole_model.model.func.type_embed.embed_module.weight"]
    average = content["state_dict"]["ema.ema_weight_0"]
    assert not torch.equal(raw, average)
    assert torch.equal(potential.energy_model.type_embedding, average)
    assert (card["provenance"]["epoch"], card["provenance"]["step"]) == (1, 8)


def test_raw_weights_where_there_are_no_averages(rewritten, content):
    def drop(copied):
        module_of(copied)["_target_"] = "nequip.train.NequIPLightningModule"
        for key in [key for key in copied["state_dict"] if key.startswith("ema.")]:
            del copied["state_dict"][key]

    potential, card = import_nequip_model(rewritten(drop))
    assert card["provenance"]["weights"] == "raw"
    raw = content["state_dict"]["model.sole_model.model.func.type_embed.embed_module.weight"]
    assert torch.equal(potential.energy_model.type_embedding, raw)


def test_a_modified_model_has_the_values_of_its_tensors(rewritten, content):
    """A modifier changed scales: the config still says the old ones."""

    def modify(copied):
        module = module_of(copied)
        shifts = {"modifier": "modify_PerTypeScaleShift", "scales": {"H": 7.0}, "shifts_trainable": True}
        module["model"] = {
            "_target_": "nequip.model.modify",
            "modifiers": [shifts, {"modifier": "disable_ForceStressOutput"}],
            "model": {"_target_": "nequip.model.ModelFromPackage", "package_path": str(PACKAGE)},
        }
        name = "model.sole_model.model.func.per_type_energy_scale_shift.scales"
        copied["state_dict"][name] = torch.tensor([[7.0], [2.0], [3.0]], dtype=torch.float64)

    potential, _ = import_nequip_model(rewritten(modify))
    assert potential.energy_model.scale_shift.scales.tolist() == [7.0, 2.0, 3.0]
    assert potential.config["arguments"]["per_type_energy_scales"] == {"H": 7.0, "C": 2.0, "O": 3.0}
    assert potential.do_derivatives is False
    assert potential.cutoff == 3.5


def test_other_predictions_are_refused():
    reference = dumped()
    potential = build_from_content(reference)
    with torch.no_grad():
        potential.energy_model.type_embedding.mul_(1.001)
    with pytest.raises(ModelFileError, match=r"has another .* the largest difference is"):
        compare_predictions(potential, reference)


def change_target(name):
    return lambda copied: module_of(copied).__setitem__("_target_", name)


def change_model(**entries):
    return lambda copied: module_of(copied)["model"].update(entries)


REFUSED = {
    "another training module": (change_target("nequip.train.ScheduleFreeLightningModule"), "only NequIP can evaluate"),
    "another model": (change_model(_target_="allegro.model.AllegroModel"), "no model of NequIP's"),
    "code as a model": (change_model(_target_="os.system"), "no model of NequIP's"),
    "more channels": (change_model(num_features=5), "numbers, the model has"),
    "more layers": (change_model(num_layers=3), "numbers, the model has"),
    "a circle": (
        lambda copied: module_of(copied).update(
            model={"_target_": "nequip.model.ModelFromCheckpoint", "checkpoint_path": "a.ckpt"}
        ),
        "name each other in a circle",
    ),
    "a package that is not there": (
        lambda copied: module_of(copied).update(
            model={"_target_": "nequip.model.ModelFromPackage", "package_path": "nothing.nequip.zip"}
        ),
        "trained from nothing.nequip.zip, which is not there",
    ),
    "an unknown modifier": (
        lambda copied: module_of(copied).update(
            model={"_target_": "nequip.model.modify", "modifiers": [{"modifier": "quantize"}], "model": {}}
        ),
        "does not say what builds its model",
    ),
    "averages of other weights": (
        lambda copied: copied["state_dict"].update({"ema.ema_weight_0": torch.zeros(4, 4)}),
        "averaged weights are not those of its model",
    ),
    "exchanged averages": (
        lambda copied: copied["state_dict"].update({"ema._extra_state": {"is_holding_ema_weights": False}}),
        "while weights and averages were exchanged",
    ),
    "two models": (
        lambda copied: copied["state_dict"].update({"model.other.model.func.x.weight": torch.zeros(2)}),
        "holds the models other, sole_model",
    ),
    "no config": (lambda copied: copied.pop("hyper_parameters"), "no checkpoint of NequIP's"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_refused(rewritten, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    change, message = REFUSED[name]
    with pytest.raises(ModelFileError, match=message):
        import_nequip_model(rewritten(change))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        import_nequip_model(tmp_path / "nothing.ckpt")


def test_an_interpreter_without_nequip(tmp_path):
    with pytest.raises(ConfigError, match="there is no interpreter"):
        import_nequip_model(CHECKPOINT, tmp_path / "python")
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(ConfigError, match="has no nequip"):
        import_nequip_model(CHECKPOINT, script)


@pytest.mark.parametrize("damage", ["no arrays", "other version", "no JSON", "pickle"])
def test_damaged_dumps(tmp_path, damage):
    for name in ("model.json", "arrays.npz"):
        shutil.copy(REFERENCE / name, tmp_path / name)
    if damage == "no arrays":
        (tmp_path / "arrays.npz").unlink()
    elif damage == "pickle":
        np.savez(tmp_path / "arrays.npz", **{"state|a": np.array([print], dtype=object)})
    else:
        text = json.dumps({"format": "nequip model, dumped", "version": 2}) if damage == "other version" else "{"
        (tmp_path / "model.json").write_text(text)
    with pytest.raises(ModelFileError, match="has no dump of a NequIP model"):
        read_dump(tmp_path, CHECKPOINT, follow)


def test_configs_that_stand_for_too_much(rewritten):
    laughs = ["x"] * 9
    for _ in range(12):
        laughs = [laughs] * 9

    with pytest.raises(ModelFileError, match="too many values"):
        import_nequip_model(rewritten(change_model(per_type_energy_shifts=laughs)))


@pytest.mark.parametrize("arguments", [{"num_features": 10**9}, {"num_layers": 10**6}, {"radial_mlp_width": 10**8}])
def test_absurd_sizes_are_not_built(rewritten, arguments):
    with pytest.raises(ModelFileError, match="its tensors are not as large"):
        import_nequip_model(rewritten(change_model(**arguments)))
