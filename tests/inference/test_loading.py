"""A model from a file, a checkpoint or a run folder."""

import shutil

import pytest
import torch

from nequip_like.errors import ModelFileError
from nequip_like.inference import load_any, save


def checkpoint(potential, path):
    state = {f"model.{name}": value for name, value in potential.state_dict().items()}
    own = {"format_version": 1, "potential": potential.config, "uses_ema": False}
    path.parent.mkdir(exist_ok=True)
    torch.save({"nequip_like": own, "state_dict": state}, path)


@pytest.fixture
def run_folder(tmp_path, make_potential):
    save(make_potential(seed=0), tmp_path / "model.safetensors")
    checkpoint(make_potential(seed=1), tmp_path / "checkpoints" / "best.ckpt")
    checkpoint(make_potential(seed=2), tmp_path / "checkpoints" / "last.ckpt")
    return tmp_path


def seed_of(potential):
    return potential.config["arguments"]["seed"]


def test_preference_in_a_run_folder(run_folder):
    for expected, name in enumerate(["model.safetensors", "checkpoints/best.ckpt", "checkpoints/last.ckpt"]):
        potential, card = load_any(run_folder)
        assert seed_of(potential) == expected
        assert card["path"] == str(run_folder / name)
        assert card["config"] == potential.config
        (run_folder / name).unlink()
    with pytest.raises(ModelFileError, match="has no model"):
        load_any(run_folder)


def test_files(run_folder):
    assert seed_of(load_any(run_folder / "model.safetensors")[0]) == 0
    assert seed_of(load_any(str(run_folder / "checkpoints" / "last.ckpt"), device="auto")[0]) == 2


def test_checkpoint_under_another_name(run_folder):
    shutil.copy(run_folder / "checkpoints" / "best.ckpt", run_folder / "epoch=3.pt")
    assert seed_of(load_any(run_folder / "epoch=3.pt")[0]) == 1


def test_nothing_there(tmp_path):
    with pytest.raises(ModelFileError, match="no such file or folder"):
        load_any(tmp_path / "nothing")
    (tmp_path / "model.safetensors").write_text("text")
    with pytest.raises(ModelFileError, match="no safetensors file"):
        load_any(tmp_path)


def test_files_of_nequip_are_named(tmp_path):
    (tmp_path / "a.nequip.zip").touch()
    with pytest.raises(ModelFileError, match="a package of NequIP's\n  -> convert it: nequip-model convert"):
        load_any(tmp_path / "a.nequip.zip")
