"""Configs for the Python API."""

from __future__ import annotations

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError

import nequip_like as nl
from nequip_like.workflow.config.values import register_resolvers


def test_a_name_with_overrides_is_what_hydra_composes():
    overrides = ["data.train=a.xyz", "model=nequip_S", "~callbacks.progress_bar", "output_dir=out"]
    register_resolvers()
    with initialize_config_module("nequip_like.conf", version_base="1.3"):
        expected = OmegaConf.to_container(hydra_compose("train", overrides))
    assert OmegaConf.to_container(nl.compose("train", overrides)) == expected


def test_a_file_with_overrides(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\ncutoff_radius: 3.5\ndata: {train: t.xyz}\n")
    assert nl.compose(tmp_path / "mine.yaml", ["seed=7"]).data.cutoff_radius == 3.5
    monkeypatch.chdir(tmp_path)
    for name in ("mine.yaml", "mine"):
        config = nl.compose(name, ["seed=7"])
        assert (config.cutoff_radius, config.seed, config.data.train) == (3.5, 7, "t.xyz")


def test_values_can_be_set_and_references_follow():
    config = nl.compose("train", ["data.train=a.xyz"])
    config.cutoff_radius = 4.25
    assert (config.data.cutoff_radius, config.model.r_max) == (4.25, 4.25)
    with pytest.raises(ConfigAttributeError):
        config.cutof_radius = 4.0


@pytest.mark.parametrize("path", ["a b/c=d.xyz", "Größe.xyz", "~/x.xyz"])
def test_paths_need_no_quotes(path):
    assert str(nl.compose("train", [f"data.train={path}"]).data.train).endswith(path.removeprefix("~"))


def test_output_folder_is_named_as_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert nl.compose("train", ["hydra.run.dir=runs/${seed}", "seed=3"]).output_dir == str(tmp_path / "runs" / "3")
    config = nl.compose("train")
    plain = OmegaConf.to_container(config, resolve=False)
    assert plain["output_dir"] == "outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}"
    assert nl.compose("train", ["run_name=${hydra:job.name}"]).run_name == "train"


def test_a_config_of_nequip_is_translated(tmp_path, capsys):
    (tmp_path / "nequip.yaml").write_text(
        "run: [train]\n"
        "data:\n"
        "  _target_: nequip.data.datamodule.ASEDataModule\n"
        "  split_dataset: {file_path: a.xyz, train: 0.8, val: 0.2}\n"
        "  transforms:\n"
        "    - {_target_: nequip.data.transforms.NeighborListTransform, r_max: 4.0}\n"
        "trainer: {_target_: lightning.Trainer, max_epochs: 3}\n"
        "training_module:\n"
        "  _target_: nequip.train.EMALightningModule\n"
        "  loss: {_target_: nequip.train.EnergyForceLoss, coeffs: {total_energy: 1.0, forces: 1.0}}\n"
        "  val_metrics: {_target_: nequip.train.EnergyForceMetrics, coeffs: {total_energy_mae: 1.0}}\n"
        "  optimizer: {_target_: torch.optim.Adam, lr: 0.01}\n"
        "  model: {_target_: nequip.model.NequIPGNNModel, r_max: 4.0, type_names: [H, C], l_max: 1, num_layers: 2,\n"
        "    num_features: 8, avg_num_neighbors: 10.0}\n"
    )
    config = nl.compose(tmp_path / "nequip.yaml")
    assert (config.cutoff_radius, config.trainer.max_epochs, config.model.num_layers) == (4.0, 3, 2)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("train", ["--multirun"], "'--multirun' is an option of the command line"),
        ("train", "data.train=a.xyz", "overrides are the text 'data.train=a.xyz'"),
        ("train", ["seed=1,2"], "'seed=1,2' may be a list or several values"),
        ("train", ["cutof_radius=4"], "there is no 'cutof_radius' to change"),
        ("nowhere.yaml", [], "there is no config file "),
        ("trian", [], "there is no config 'trian'"),
    ],
)
def test_mistakes_are_those_of_the_command_line(name, overrides, message):
    with pytest.raises(nl.ConfigError) as caught:
        nl.compose(name, overrides)
    assert caught.value.message.startswith(message)


def test_a_hydra_application_around_it_goes_on():
    with initialize_config_module("nequip_like.conf", version_base="1.3"):
        outer = hydra_compose("train", ["seed=5"], return_hydra_config=True)
        HydraConfig.instance().set_config(outer)
        try:
            nl.compose("train", ["seed=6"])
            assert HydraConfig.get().overrides.task == ["seed=5"]
            assert GlobalHydra.instance().is_initialized()
            assert hydra_compose("train", ["seed=8"]).seed == 8
        finally:
            HydraConfig.instance().cfg = None
    assert not GlobalHydra.instance().is_initialized()
