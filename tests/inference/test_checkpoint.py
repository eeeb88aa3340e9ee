"""Potentials out of checkpoints, with and without EMA."""

import pickle
from pathlib import Path

import pytest
import torch

from nequip_like.errors import ModelFileError
from nequip_like.inference.loading import carry_card, load_checkpoint
from nequip_like.metrics.presets import EnergyForceLoss
from nequip_like.model.checkpoint_format import CHECKPOINT_VERSION
from nequip_like.training import EMALightningModule, NequIPLightningModule


def content(potential, ema=None):
    state = {f"model.{name}": value for name, value in potential.state_dict().items()}
    if ema is not None:
        state |= {f"ema.module.{name}": value for name, value in ema.state_dict().items()}
        state["ema.n_averaged"] = torch.tensor(3)
    own = {"format_version": 1, "potential": potential.config, "uses_ema": ema is not None, "versions": {}}
    return {"nequip_like": own, "state_dict": {**state, "loss._extra_state": {"coeffs": {}}}, "epoch": 4}


def same_weights(a, b):
    return all(torch.equal(a.state_dict()[name], b.state_dict()[name]) for name in a.state_dict())


def test_raw_and_averaged_weights(tmp_path, make_potential):
    raw, averaged = make_potential(), make_potential(seed=1)
    torch.save(content(raw), tmp_path / "raw.ckpt")
    torch.save(content(raw, averaged), tmp_path / "ema.ckpt")
    loaded, card = load_checkpoint(tmp_path / "raw.ckpt")
    assert same_weights(loaded, raw)
    assert card["weights"] == "raw"
    loaded, card = load_checkpoint(tmp_path / "ema.ckpt")
    assert same_weights(loaded, averaged)
    assert not same_weights(loaded, raw)
    assert (card["weights"], card["epoch"], card["cutoff"]) == ("ema", 4, 3.0)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_card_tells_of_the_run_what_a_model_file_does(tmp_path, make_potential):
    saved = content(make_potential())
    base = {"kind": "calculator", "base": "gfn2", "id": "gfn2 0123"}
    config = {"data": {"train": "train.xyz"}}
    saved["nequip_like"] |= {"metrics": {"val0_epoch/forces_rmse": 0.1}, "config": config, "base": base}
    torch.save(saved, tmp_path / "best.ckpt")
    kept = carry_card(load_checkpoint(tmp_path / "best.ckpt")[1])
    assert kept.pop("provenance") == {"config": config, "versions": {}, "epoch": 4, "step": None, "weights": "raw"}
    assert kept == {"metrics": {"val0_epoch/forces_rmse": 0.1}, "base": base}


@pytest.mark.parametrize("kind", [NequIPLightningModule, EMALightningModule])
def test_of_lightning_modules(tmp_path, make_potential, kind):
    module = kind(model=make_potential(), loss=EnergyForceLoss())
    with torch.no_grad():
        for parameter in module.evaluation_model.parameters():
            parameter.add_(0.1)
    checkpoint = {"state_dict": module.state_dict(), "epoch": 0, "global_step": 1}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    assert same_weights(load_checkpoint(tmp_path / "last.ckpt")[0], module.evaluation_model)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_code_is_not_run(tmp_path, make_potential, write):
    touched, path = tmp_path / "touched", tmp_path / "last.ckpt"
    write({**content(make_potential()), "hook": Malicious(touched)}, path)
    with pytest.raises(ModelFileError, match="run code"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Malicious(touched)))
    with pytest.raises(ModelFileError):
        load_checkpoint(path)
    assert not touched.exists()


def test_truncated(tmp_path, make_potential):
    path = tmp_path / "last.ckpt"
    torch.save(content(make_potential()), path)
    whole = path.read_bytes()
    for size in (0, 3, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match="cut off or damaged"):
            load_checkpoint(path)


def test_not_ours(tmp_path):
    path = tmp_path / "last.ckpt"
    for foreign in ({"state_dict": {}}, torch.zeros(3), {"nequip_like": 1, "state_dict": {}}):
        torch.save(foreign, path)
        with pytest.raises(ModelFileError, match="not a checkpoint of nequip_like"):
            load_checkpoint(path)
    with pytest.raises(ModelFileError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "nothing.ckpt")


def test_newer_or_incomplete(tmp_path, make_potential):
    path = tmp_path / "last.ckpt"
    newer = content(make_potential())
    for version in (CHECKPOINT_VERSION + 1, 0, None, "1"):
        newer["nequip_like"]["format_version"] = version
        torch.save(newer, path)
        with pytest.raises(ModelFileError, match=f"format version {version}; .* reads versions 1 to"):
            load_checkpoint(path)
    claims_ema = content(make_potential())
    claims_ema["nequip_like"]["uses_ema"] = True
    torch.save(claims_ema, path)
    with pytest.raises(ModelFileError, match="lacks"):
        load_checkpoint(path)
