"""From a config to the objects of a run: what fits together is built, what does not is refused with advice."""

import pytest
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import EarlyStopping, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from omegaconf import OmegaConf

from nequip_like.errors import ConfigError, DataError, OutputError
from nequip_like.training import EMALightningModule, NequIPLightningModule, SummedGradientsStrategy
from nequip_like.training.checkpointing.callback import ResumableCheckpoint
from nequip_like.workflow import setup
from nequip_like.workflow.config import sections

# --- keys


def test_config_without_the_defaults_is_refused():
    with pytest.raises(ConfigError, match=r"the config has no 'run'\n.*defaults: \[train, _self_\]"):
        sections.check_section_keys(OmegaConf.create({"data": {"train": "a.xyz"}}))


@pytest.mark.parametrize(
    ("key", "advice"), [("cutof_radius", "did you mean 'cutoff_radius'"), ("loggers", "'logger'"), ("xyz", "known are")]
)
def test_key_that_nothing_uses_is_refused(key, advice, compose):
    with pytest.raises(ConfigError, match=rf"nothing uses '{key}' .*\n.*{advice}"):
        sections.check_section_keys(compose(f"+{key}=5.0"))


@pytest.mark.parametrize("value", ["${my_rate}", "${ my_rate }", "${oc.select:my_rate,0.1}"])
def test_own_key_that_a_value_refers_to_is_welcome(value, compose):
    config = compose("+my_rate=0.1")
    config.training_module.optimizer.lr = value
    sections.check_section_keys(config)


def test_whole_default_config_is_known(compose):
    sections.check_section_keys(compose())


# --- tasks


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("[train]", ["train"]),
        ("test", ["test"]),
        ("[val,test,train,val,test]", ["val", "test", "train", "val", "test"]),
    ],
)
def test_tasks(run, expected, compose):
    assert sections.read_tasks(compose(f"run={run}")) == expected


@pytest.mark.parametrize(
    ("data", "expected", "note"),
    [
        ((), ["train", "val", "test"], ""),
        (("data.test=null",), ["train", "val"], "no test, for data.test is not given"),
        (("data.test=[]",), ["train", "val"], "no test, for data.test is not given"),
        (
            ("data.test=null", "data.val=null"),
            ["train"],
            "no val, for data.val is not given; no test, for data.test is not given",
        ),
        (("~data.test",), ["train", "val"], "no test, for data.test is not given"),
        (("~data.test", "data._target_=my_package.Data"), ["train", "val", "test"], ""),  # may have it all the same
    ],
)
def test_by_default_all_tasks_that_there_are_data_for(data, expected, note, compose):
    config = compose(*data)
    assert config.run == "auto"
    assert (sections.read_tasks(config), sections.describe_left_out(config)) == (expected, note)


def test_what_is_asked_for_is_not_left_out(compose):
    config = compose("run=[train,test]", "data.test=null")
    assert (sections.read_tasks(config), sections.describe_left_out(config)) == (["train", "test"], "")


@pytest.mark.parametrize("run", ["[tain]", "[]", "null", "[train,train]", "predict", "[val,Test]"])
def test_tasks_that_make_no_sense(run, compose):
    with pytest.raises(ConfigError, match=r"run is .*\n.*train, val, test"):
        sections.read_tasks(compose(f"run={run}"))


# --- data and statistics


@pytest.mark.parametrize(
    ("override", "message", "advice"),
    [
        ("data.train=None", "data.train is 'None'", "write null: data.train=null"),
        ("+data.statistics=[{name: a}]", "data.statistics: an entry has no field", "give name, field and"),
        (
            "data.replay={file:TRAIN,fraction:0.001}",
            "data.replay.fraction is 0.001, which is less than half a frame beside 14 training frames",
            "give at least 0.067, or leave replay out",
        ),
    ],
)
def test_errors_about_arguments_of_the_data_name_their_keys(override, message, advice, compose):
    train = compose().data.train
    with pytest.raises(ConfigError) as error:
        setup.build_data(compose(override.replace("TRAIN", str(train)), "+data.allow_overlap=true"))
    assert error.value.message == message
    assert error.value.advice.startswith(advice)


def test_species_and_statistics_reach_the_model(compose):
    config = compose()
    data = setup.build_data(config)
    module = setup.build_module(config, data, {})
    assert list(config.chemical_species) == data.type_names == module.model.type_names == ["H", "C", "O"]
    arguments = module.model.config["arguments"]
    assert arguments["avg_num_neighbors"] == data.statistics["num_neighbors_mean"] == 3.0
    assert arguments["per_type_energy_scales"] == pytest.approx(data.statistics["forces_rms"])
    assert arguments["per_type_energy_shifts"] == data.statistics["reference_energies"]
    assert arguments["r_max"] == 4.0
    assert module.model.cutoff == data.cutoff_radius == 4.0


def test_species_of_ones_own_order(compose):
    config = compose("chemical_species=[O,H,C]")
    data = setup.build_data(config)
    assert setup.build_module(config, data, {}).model.type_names == ["O", "H", "C"]


def test_statistics_by_name(compose):
    config = compose("model.avg_num_neighbors=${training_data_stats:per_type_num_neighbors_mean}")
    data = setup.build_data(config)
    arguments = setup.build_module(config, data, {}).model.config["arguments"]
    assert arguments["avg_num_neighbors"] == data.statistics["per_type_num_neighbors_mean"]
    assert set(arguments["avg_num_neighbors"]) == {"H", "C", "O"}


def test_stress_counts_as_the_force_on_the_face_of_an_atom(compose):
    """Of 8 Angstrom^3 per atom: a face of 4 Angstrom^2."""
    module = compose("targets=energy_force_stress").training_module
    setup.register_statistics({"volume_per_atom": 8.0})
    coeffs = OmegaConf.to_container(module.loss.coeffs, resolve=True)
    assert coeffs == pytest.approx({"total_energy": 1.0, "forces": 1.0, "stress": 16.0})
    coeffs = OmegaConf.to_container(module.val_metrics.coeffs, resolve=True)
    assert coeffs == pytest.approx({"per_atom_energy_rmse": 1.0, "forces_rmse": 1.0, "stress_rmse": 4.0})


def test_unknown_statistic(compose):
    config = compose("model.avg_num_neighbors=${training_data_stats:neighbors}")
    data = setup.build_data(config)
    with pytest.raises(ConfigError, match=r"no statistic 'neighbors'\n.*num_neighbors_mean"):
        setup.build_module(config, data, {})


def test_statistics_of_forces_without_forces(compose, molecule_file, tmp_path):
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = ase.io.read(molecule_file, ":")
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
    ase.io.write(tmp_path / "energies.xyz", frames)
    overrides = [f"data.train={tmp_path / 'energies.xyz'}", "targets=energy"]
    config = compose(*overrides)
    data = setup.build_data(config)
    arguments = setup.build_module(config, data, {}).model.config["arguments"]
    assert arguments["per_type_energy_scales"] == pytest.approx(data.statistics["per_atom_energy_std"])
    config = compose(*overrides, "model.per_type_energy_scales=${training_data_stats:forces_rms}")
    data = setup.build_data(config)
    with pytest.raises(ConfigError, match=r"no statistic 'forces_rms'\n.*need force labels"):
        setup.build_module(config, data, {})


def test_missing_value(compose):
    with pytest.raises(ConfigError, match=r"data\.train: .*\n.*section data"):
        setup.build_data(compose("data.train=???"))


def test_missing_file(compose):
    with pytest.raises(DataError, match="no such file"):
        setup.build_data(compose("data.train=nowhere.xyz"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data._target_=nequip_like.data.DatModule"], r"data: .*DatModule"),
        (["data._target_=builtins.dict"], r"data: builtins.dict gives dict, which is no DataModule"),
        (["~data._target_"], r"data has no _target_"),
        (["+data.batchsize=3"], r"data: .*batchsize"),
        (["data.seed=${nowhere}"], r"data\.seed: .*nowhere"),
    ],
)
def test_data_that_cannot_be_built(overrides, message, compose):
    with pytest.raises(ConfigError, match=message):
        setup.build_data(compose(*overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training_module._target_=nequip_like.training.EMALightning"], r"training_module: .*EMALightning"),
        (["training_module._target_=builtins.dict"], r"no NequIPLightningModule"),
        (["+training_module.ema=0.9"], r"training_module: .*ema"),
        (["training_module.ema_decay=2"], r"^training_module\.ema_decay is 2"),
        (["training_module.on_non_finite=skipp"], r"^training_module\.on_non_finite is 'skipp'"),
        (["model._target_=nequip_like.model.NequIP"], r"training_module\.model: nequip_like\.model\.NequIP"),
        (["model.l_max=-1"], "l_max is -1"),
        (["+model.lmax=2"], "lmax"),
        (["training_module.loss.coeffs.forces=-1"], "forces"),
        (["+training_module.loss.coeffs.force=1"], "'force'"),
        (["training_module.loss.coeffs={total_energy: null, forces: null}"], "no coefficient of the loss"),
    ],
)
def test_modules_that_cannot_be_built(overrides, message, compose):
    config = compose(*overrides)
    data = setup.build_data(config)
    with pytest.raises(ConfigError, match=message):
        setup.build_module(config, data, {})


@pytest.mark.parametrize(
    ("name", "kind"), [("default", NequIPLightningModule), ("ema", EMALightningModule)], ids=["plain", "ema"]
)
def test_module_has_metrics_for_each_set(name, kind, compose):
    config = compose(f"training_module={name}", "data.val=[3,2]", "data.test=null")
    module = setup.build_module(config, setup.build_data(config), {"a": 1})
    assert type(module) is kind
    assert (len(module.val_metrics), len(module.test_metrics)) == (2, 1)
    assert module.info == {"a": 1}


# --- trainer


def test_trainer(compose, tmp_path):
    trainer = setup.build_trainer(compose())
    kinds = [type(callback) for callback in trainer.callbacks]
    assert any(issubclass(kind, EarlyStopping) for kind in kinds)
    assert kinds.count(ResumableCheckpoint) == 2
    assert RichProgressBar not in kinds  # the output of tests is no terminal
    assert isinstance(trainer.logger, CSVLogger)
    assert trainer.logger.log_dir.rstrip("/") == str(tmp_path / "run")
    assert trainer.max_epochs == 2


def test_callbacks_are_left_out_and_changed_by_name(compose):
    trainer = setup.build_trainer(compose("~callbacks.early_stopping", "callbacks.best_checkpoint.save_top_k=3"))
    assert not any(isinstance(callback, EarlyStopping) for callback in trainer.callbacks)
    assert sorted(c.save_top_k for c in trainer.callbacks if isinstance(c, ResumableCheckpoint)) == [1, 3]
    trainer = setup.build_trainer(compose("callbacks.early_stopping=null", "callbacks.best_checkpoint.mode=max"))
    assert not any(isinstance(callback, EarlyStopping) for callback in trainer.callbacks)
    trainer = setup.build_trainer(compose("callbacks.early_stopping.patience=3"))
    assert [c.patience for c in trainer.callbacks if isinstance(c, EarlyStopping)] == [3]


def test_no_logger(compose):
    assert setup.build_trainer(compose("~logger")).loggers == []


def test_our_strategy_for_ddp(compose):
    trainer = setup.build_trainer(compose("trainer.strategy=ddp", "trainer.devices=2"))
    assert isinstance(trainer.strategy, SummedGradientsStrategy)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+trainer.max_epoch=3"], "trainer: lightning.Trainer cannot be built: .*max_epoch"),
        (["+trainer.callbacks=[]"], r"trainer\.callbacks is given\n.*section callbacks"),
        (["trainer.max_time={hour: 1}"], r"^trainer\.max_time is \{'hour': 1\}"),
        (["+trainer.logger=true"], r"trainer\.logger is given\n.*section logger"),
        (["+trainer.inference_mode=true"], "inference_mode"),
        (["+callbacks.mine={a: 1}"], r"callbacks\.mine has no _target_"),
        (["+callbacks.mine={_target_: nowhere.Callback}"], r"callbacks\.mine: nowhere\.Callback"),
        (
            ["+callbacks.mine={_target_: builtins.dict}"],
            r"callbacks\.mine: builtins\.dict gives dict, which is no Callback",
        ),
        (
            ["callbacks.early_stopping.mode=least"],
            r"callbacks\.early_stopping: .*EarlyStopping cannot be built: .*least",
        ),
        (["+logger.mine={_target_: builtins.dict}"], r"logger\.mine: builtins\.dict gives dict, which is no Logger"),
    ],
)
def test_trainers_that_cannot_be_built(overrides, message, compose):
    config = compose(*overrides)
    with pytest.raises(ConfigError, match=message):
        setup.build_trainer(config)


def test_list_of_callbacks_as_in_nequip(compose):
    config = compose()
    config.callbacks = [config.callbacks.early_stopping]
    with pytest.raises(ConfigError, match=r"callbacks is a list\n.*mapping from names"):
        setup.build_trainer(config)


# --- the rest


def test_everything_follows_the_same_series(compose):
    config = compose("monitored_metric=val0_epoch/forces_rmse")
    monitors = {
        config.callbacks.early_stopping.monitor,
        config.callbacks.best_checkpoint.monitor,
        config.training_module.lr_scheduler.monitor,
    }
    assert monitors == {"val0_epoch/forces_rmse"}


def test_provenance(compose):
    config = compose()
    setup.build_data(config)
    found = setup.collect_provenance(config, ["a=b"])
    assert found["config"]["cutoff_radius"] == 4.0
    assert found["config"]["model"]["avg_num_neighbors"] == 3.0
    assert found["overrides"] == ["a=b"]
    assert {"python", "torch", "nequip-like", "lightning"} <= found["versions"].keys()
    assert "base" not in found
    config.data.base_targets = {"base_energy": "total_energy"}
    assert setup.collect_provenance(config)["base"] == {"kind": "labels", "base": {"base_energy": "total_energy"}}


def test_output_folder_is_made(compose, tmp_path):
    folder = setup.make_output_folder(compose(f"output_dir={tmp_path / 'a' / 'b'}"))
    assert folder == tmp_path / "a" / "b"
    assert folder.is_dir()


def test_slurm_is_left_to_our_own_signals(compose, monkeypatch):
    """Lightning's answer to a signal is another one: see workflow/slurm/tasks.py and training/graceful_stop.py."""
    for name, value in (("SLURM_NTASKS", "1"), ("SLURM_JOB_ID", "7"), ("SLURM_JOB_NAME", "mgo"), ("SLURM_PROCID", "0")):
        monkeypatch.setenv(name, value)
    for name in ("SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.setenv(name, "0")
    trainer = setup.build_trainer(compose())
    environment = trainer._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert environment.auto_requeue is False


def test_output_folder_that_cannot_be_made(compose, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*/file/run: Not a directory"):
        setup.make_output_folder(compose(f"output_dir={tmp_path / 'file' / 'run'}"))
