"""What loggers get of a run: the resolved config, and the curve of the learning rate."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from nequip_like.training.csv_logger import read_rows
from nequip_like.workflow.loggers import RUNS_KEY, choose_runs
from nequip_like.workflow.resume import Resumption
from nequip_like.workflow.train import train

GROUPS = "+training_module.optimizer.param_groups=[{match: readout, lr: 1.0e-4}]"
SHORT = ("run=[train]", "trainer.max_epochs=1")


def written(folder: Path) -> dict[str, Any]:
    """The config beside the results."""
    return dict(yaml.safe_load((folder / "config.yaml").read_text()))


def tags(folder: Path) -> dict[str, list[float]]:
    """Curves of TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [event.value for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")
def test_tensorboard(compose: Any) -> None:
    pytest.importorskip("tensorboard")
    folder = train(compose(*SHORT, "logger=tensorboard", GROUPS)).folder
    hparams = yaml.safe_load((folder / "tensorboard" / "hparams.yaml").read_text())
    assert hparams == written(folder)
    assert hparams["training_module"]["optimizer"]["lr"] == 0.005
    assert hparams["chemical_species"] == ["H", "C", "O"]  # resolved: what the data told
    curves = tags(folder / "tensorboard")
    assert curves["learning_rate/main"] == pytest.approx([0.005])
    assert curves["learning_rate/readout"] == pytest.approx([1e-4])
    assert not [name for name in curves if name.startswith("lr-")]
    # Gone on with, the file tells of the config that is in force.
    train(compose("run=[train]", "trainer.max_epochs=2", "resume=auto", "logger=tensorboard", GROUPS))
    hparams = yaml.safe_load((folder / "tensorboard" / "hparams.yaml").read_text())
    assert hparams["trainer"]["max_epochs"] == 2


class FakeRun:
    """What Lightning's logger asks of a run of wandb."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.logged: list[dict[str, Any]] = []
        self.config = types.SimpleNamespace(update=self._update)
        self.name = self.id = "fake"

    def _update(self, values: dict[str, Any], allow_val_change: bool) -> None:
        self.settings.update(values)

    def log(self, values: dict[str, Any], *_: Any, **__: Any) -> None:
        self.logged.append(dict(values))

    def define_metric(self, *_: Any, **__: Any) -> None:
        """Lightning names its steps."""


def test_wandb(compose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that stands in for wandb, which needs a network and an account."""
    from lightning.pytorch.loggers import wandb as lightnings

    run = FakeRun()
    fake = types.ModuleType("wandb")
    fake.run = None
    fake.init = lambda **_: run
    fake.sdk = types.SimpleNamespace(lib=types.SimpleNamespace(RunDisabled=type("RunDisabled", (), {})))
    inner = types.ModuleType("wandb.wandb_run")
    inner.Run = FakeRun
    for name, module in {
        "wandb": fake,
        "wandb.sdk": types.ModuleType("wandb.sdk"),
        "wandb.sdk.lib": types.ModuleType("wandb.sdk.lib"),
        "wandb.wandb_run": inner,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["wandb.sdk.lib"].RunDisabled = fake.sdk.lib.RunDisabled
    monkeypatch.setattr(lightnings, "_WANDB_AVAILABLE", True)
    folder = train(compose(*SHORT, "logger=wandb")).folder
    assert run.settings == written(folder)
    rates = [values["learning_rate"] for values in run.logged if "learning_rate" in values]
    assert rates == [0.005]
    assert not any(name.startswith("lr-") for values in run.logged for name in values)


def test_metrics_csv(compose: Any) -> None:
    """Ours and Lightning's own leave the same files."""
    config = compose(*SHORT, GROUPS, "~logger.csv")
    OmegaConf.set_struct(config, False)
    own, lightnings = f"{config.output_dir}/own", f"{config.output_dir}/lightning"
    config.logger = {
        "own": {"_target_": "nequip_like.training.csv_logger.HistoryLogger", "save_dir": own},
        "lightning": {
            "_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": lightnings, "name": "", "version": "",
        },
    }  # fmt: skip
    folder = train(config).folder
    for path in (own, lightnings):
        assert yaml.safe_load(Path(path, "hparams.yaml").read_text()) == written(folder)
        row = read_rows(Path(path, "metrics.csv"))[0]
        assert float(row["learning_rate/main"]) == 0.005
        assert float(row["learning_rate/readout"]) == 1e-4


def test_a_name_of_the_users_own(compose: Any) -> None:
    folder = train(compose(*SHORT, "+training_module.lr_scheduler.name=rate")).folder
    assert float(read_rows(folder / "metrics.csv")[0]["rate"]) == 0.005


def test_a_run_that_goes_on_is_one_run_of_wandb(tmp_path: Path) -> None:
    """In its folder; in another one, and without a checkpoint, another begins. An id of the user's is left alone."""
    nodes = {"csv": {"_target_": "x.HistoryLogger"}, "wandb": {"_target_": "lightning.pytorch.loggers.WandbLogger"}}
    first = choose_runs(nodes, None, tmp_path)
    assert list(first) == ["wandb"]
    saved = Resumption(tmp_path / "checkpoints" / "last.ckpt", {"nequip_like": {RUNS_KEY: first}})
    assert choose_runs(nodes, saved, tmp_path) == first
    assert choose_runs(nodes, saved, tmp_path / "other") != first
    assert choose_runs(nodes, None, tmp_path) != first
    assert choose_runs({"wandb": {**nodes["wandb"], "id": "mine"}}, saved, tmp_path) == {}
    assert choose_runs(None, saved, tmp_path) == {}
