"""Files of every format version so far: they predict what they predicted, and training goes on from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module

from nequip_like.data.dataset import load_dataset
from nequip_like.data.graph import collate
from nequip_like.inference.loading import load_any
from nequip_like.model.checkpoint_format import CHECKPOINT_KEY, CHECKPOINT_VERSION, read_checkpoint
from nequip_like.workflow.config.values import register_resolvers
from nequip_like.workflow.train import train
from tests.frozen.make import MODULES, settings, write_frames

HERE = Path(__file__).parent
VERSIONS = sorted(path.name for path in HERE.glob("v*"))


def test_there_are_files_of_this_version() -> None:
    """A new version comes with files of it: `python tests/frozen/make.py tests/frozen/vN`."""
    assert [f"v{number}" for number in range(1, CHECKPOINT_VERSION + 1)] == VERSIONS


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("version", VERSIONS)
def test_predicts_what_it_predicted(version: str, module: str, suffix: str, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames.xyz")
    potential, _ = load_any(HERE / version / f"{module}.{suffix}")
    batch = collate(list(load_dataset(tmp_path / "frames.xyz", potential.type_names, potential.cutoff))[-2:])
    found = potential(batch)
    for name, value in json.loads((HERE / version / f"{module}.json").read_text()).items():
        torch.testing.assert_close(found[name], torch.tensor(value, dtype=torch.float64), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.filterwarnings("ignore:.*the best is sought from here on")
def test_training_goes_on(version: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything that training needs: nothing that the file lacks is missed."""
    register_resolvers()
    write_frames(tmp_path / "frames.xyz")
    monkeypatch.chdir(tmp_path)
    checkpoint = HERE / version / f"{module}.ckpt"
    assert read_checkpoint(checkpoint)[CHECKPOINT_KEY]["format_version"] == CHECKPOINT_VERSION
    with initialize_config_module("nequip_like.conf", version_base="1.3"):
        # The defaults of then.
        then = ["optimizer=adam", "training_module.optimizer.lr=0.005", "lr_scheduler=plateau", "model.l_max=1"]
        then += ["model.parity=true", "training_module.gradient_clip=null", "callbacks=[default,early_stopping]"]
        overrides = [*then, *settings(module), f"ckpt_path={checkpoint}", "trainer.max_epochs=2"]
        again = train(compose("train", overrides))
    state = read_checkpoint(again.folder / "checkpoints" / "last.ckpt")
    assert state["global_step"] == 2 * read_checkpoint(checkpoint)["global_step"]
    assert all(
        torch.isfinite(weight).all() for weight in state["state_dict"].values() if isinstance(weight, torch.Tensor)
    )
