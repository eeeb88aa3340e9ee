"""Configs of NequIP's own kind, part by part."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nequip_like.compat.nequip_config import as_own_config, is_nequip_config, to_own_config
from nequip_like.compat.nequip_names import DATA_MODULES, OBSERVERS, REFUSED, SAME, translate_target
from nequip_like.compat.nequip_transforms import KNOWN as KNOWN_TRANSFORMS
from nequip_like.errors import ConfigError
from nequip_like.workflow.config import values
from nequip_like.workflow.config.check import check_config
from tests.compat.flat_config import FLAT, flat, model, own, transforms

# --- the whole


def test_whole_config():
    config, notes = own()
    metrics = {"_target_": "nequip_like.metrics.EnergyForceMetrics"}
    assert config == {
        "run": ["train", "test"],
        "cutoff_radius": 4.0,
        "chemical_species": ["H", "O"],
        "seed": 3,
        "monitored_metric": "val0_epoch/forces_rmse",
        "ckpt_path": None,
        "run_name": None,
        "console": "line",
        "output_dir": "${hydra:runtime.output_dir}",
        "data": {
            "_target_": "nequip_like.data.datamodule.DataModule",
            "train": "train.xyz",
            "val": "val.xyz",
            "test": ["a.xyz", "b.xyz"],
            "key_mapping": None,
            "units": None,
            "cutoff_radius": 4.0,
            "species": ["H", "O"],
            "reference_energies": None,
            "batch_size": 4,
            "val_batch_size": 7,
            "num_workers": 2,
            "seed": 3,
            "split_seed": 3,
        },
        "model": {
            "_target_": "nequip_like.model.NequIPGNNModel",
            "seed": 5,
            "model_dtype": "float64",
            "type_names": ["H", "O"],
            "r_max": 4.0,
            "avg_num_neighbors": "${training_data_stats:num_neighbors_mean}",
        },
        "training_module": {
            "_target_": "nequip_like.training.EMALightningModule",
            "loss": {"_target_": "nequip_like.metrics.EnergyForceLoss"},
            "val_metrics": metrics,
            "test_metrics": metrics,
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
            "model": "${model}",
        },
        "trainer": {
            "_target_": "lightning.Trainer",
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,
            "max_epochs": 3,
        },
        "callbacks": {
            "best_checkpoint": {
                "_target_": "nequip_like.training.checkpointing.callback.ResumableCheckpoint",
                "monitor": "val0_epoch/forces_rmse",
            }
        },
        "logger": {},
    }
    assert notes == []


def test_prefix_may_be_replaced_or_not():
    replaced = OmegaConf.create(OmegaConf.to_yaml(flat()).replace("nequip.", "nequip_like."))
    assert to_own_config(replaced) == to_own_config(flat())


def test_the_config_itself_is_not_changed():
    config = flat()
    before = copy.deepcopy(config)
    to_own_config(config)
    assert config == before


def test_configs_of_our_own_are_passed_on(compose):
    config = compose()
    assert not is_nequip_config(config)
    assert as_own_config(config).config is config
    assert as_own_config(config).notes == []


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [("data._target_", "nequip.data.datamodule.ASEDataModul")],
        [("data._target_", "nequip_like.data.datamodule.ASEDataModul")],
        [("data._target_", "nequip_like.data.datamodule.MD22DataModule")],
        [("data._target_", "my_package.MyDataModule"), ("training_module._target_", "my_package.Mine")],
    ],
)
def test_configs_of_nequip_are_told(changes):
    assert is_nequip_config(flat(*changes))


# --- data


def test_parts_of_one_file_by_numbers_of_frames():
    split = {"file_path": "all.xyz", "train": 70, "val": 20, "test": 10}
    config, notes = own(
        ("data.train_file_path", ...), ("data.val_file_path", ...), ("data.test_file_path", ...),
        ("data.split_dataset", split),
    )  # fmt: skip
    data = config["data"]
    assert [data[key] for key in ("train", "val", "test", "train_size")] == ["all.xyz", 20, 10, 70]
    assert any("other" in note and "same seed" in note for note in notes)


def test_parts_by_fractions_follow_the_sets_that_are_files():
    config, _ = own(
        ("data.train_file_path", ...), ("data.split_dataset", [{"file_path": "a", "train": 0.7, "val": 0.3}])
    )
    assert config["data"]["train"] == "a"
    assert config["data"]["val"] == ["val.xyz", 0.3]
    assert "train_size" not in config["data"]


def test_names_of_labels_keep_their_direction():
    mapping = {"dft_energy": "total_energy", "dft_forces": "forces"}
    assert own(("data.key_mapping", mapping))[0]["data"]["key_mapping"] == mapping


def test_data_sets_that_are_spelt_out():
    def dataset(file, **mapping):
        return {
            "_target_": "nequip.data.dataset.ASEDataset",
            "file_path": file,
            "transforms": FLAT["data"]["transforms"],
            "key_mapping": mapping,
        }

    config, _ = own(
        ("data._target_", "nequip.data.datamodule.NequIPDataModule"),
        *((f"data.{kind}_file_path", ...) for kind in ("train", "val", "test")),
        ("data.transforms", ...),
        ("data.train_dataset", dataset("t.xyz")),
        ("data.val_dataset", [dataset("v.xyz", e="total_energy"), dataset("w.xyz")]),
    )
    assert config["data"]["train"] == {"file": "t.xyz", "key_mapping": None, "units": None}
    assert config["data"]["val"][0] == {"file": "v.xyz", "key_mapping": {"e": "total_energy"}, "units": None}
    assert config["data"]["key_mapping"] is None


@pytest.mark.parametrize("train", ["300K", "mixedT"])
def test_3bpa(train):
    config, _ = own(
        ("data._target_", "nequip.data.datamodule.NequIP3BPADataModule"),
        *((f"data.{kind}_file_path", ...) for kind in ("train", "val", "test")),
        ("data.data_source_dir", "bpa"),
        ("data.train_set", train),
        ("data.train_val_split", [450, 50]),
        ("data.test_sets", ["600K", "dih_beta120"]),
    )
    data = config["data"]
    assert data["train"] == f"bpa/dataset_3BPA/train_{train}.xyz"
    assert data["test"] == ["bpa/dataset_3BPA/test_600K.xyz", "bpa/dataset_3BPA/test_dih_beta120.xyz"]
    assert (data["train_size"], data["val"]) == (450, 50)


def test_stress_of_the_other_sign():
    config, _ = own(transforms(("StressSignFlipTransform", {})))
    assert config["data"]["units"] == {"stress_sign": "compression"}


@pytest.mark.parametrize(
    "name",
    ["VirialToStressTransform", "AddNaNStressTransform", "NonPeriodicCellTransform", "SortedNeighborListTransform"],
)
def test_transforms_that_are_not_needed(name):
    config, notes = own(transforms((name, {})))
    assert config["data"] == own()[0]["data"]
    assert len(notes) == 1
    assert notes[0].startswith(f"{name} is not needed")


def test_order_of_the_frames_is_that_of_nequip():
    loader = {"batch_size": 2, "drop_last": True, "pin_memory": True, "num_workers": 0}
    config, notes = own(("data.train_dataloader", loader))
    assert config["data"]["shuffle"] is False
    assert config["data"]["drop_last"] is True
    assert any("does not shuffle" in note for note in notes)
    assert any("pin_memory has no effect" in note for note in notes)


def test_a_batch_of_one_frame_is_the_default():
    data = own(*((f"data.{kind}_dataloader", ...) for kind in ("train", "val", "test")))[0]["data"]
    assert (data["batch_size"], data["val_batch_size"], data["num_workers"]) == (1, 1, 0)


def test_neighbors_within_cutoffs_of_pairs_are_counted():
    cutoffs = {
        "_target_": "nequip.data.transforms.NeighborListTransform",
        "r_max": 4.0,
        "per_edge_type_cutoff": {"H": 2},
    }
    statistics = own(("data.transforms", [cutoffs]))[0]["data"]["statistics"]
    pairs = {"H": {"H": 2.0, "O": 2.0}, "O": {"H": 4.0, "O": 4.0}}
    common = {"field": "num_neighbors", "metric": "mean", "pair_cutoffs": pairs}
    assert statistics == [
        {"name": "num_neighbors_mean", **common},
        {"name": "per_type_num_neighbors_mean", **common, "per_type": True},
    ]


def test_statistics_of_a_manager_have_nequips_names():
    def entry(field, metric, **more):
        field = {"_target_": f"nequip.data.{field[0]}", **field[1]} if isinstance(field, tuple) else field
        return {"field": field, "metric": {"_target_": f"nequip.data.{metric[0]}", **metric[1]}, **more}

    manager = {
        "_target_": "nequip.data.DataStatisticsManager",
        "metrics": [
            entry(("PerAtomModifier", {"field": "total_energy", "factor": 1000}), ("Mean", {})),
            entry("forces", ("RootMeanSquare", {}), per_type=True, ignore_nan=True),
            entry("forces", ("StandardDeviation", {"squared": True, "unbiased": False})),
            entry(("EdgeLengths", {}), ("Max", {"abs": True}), name="longest"),
            entry(("NumNeighbors", {}), ("Count", {})),
        ],
    }
    assert own(("data.stats_manager", manager))[0]["data"]["statistics"] == [
        {"name": "per_atom_E_mean", "field": "total_energy", "per_atom": True, "factor": 1000, "metric": "mean"},
        {"name": "F_rms", "field": "forces", "metric": "rms", "per_type": True},
        {"name": "F_var", "field": "forces", "metric": "var_biased"},
        {"name": "longest", "field": "edge_lengths", "metric": "absmax"},
        {"name": "num_neighbors_count", "field": "num_neighbors", "metric": "count"},
    ]


# --- model, training module, trainer


def test_pair_potential_and_arguments_without_effect():
    zbl = {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": "${types}"}
    config, notes = own(
        model("pair_potential", zbl),
        model("compile_mode", "compile"),
        model("convnet_nonlinearity_type", "gate"),
        model("categorical_graph_field_embed", None),
    )
    assert config["model"] == {
        **own()[0]["model"],
        "pair_potential": {
            "_target_": "nequip_like.nn.pair_potential.ZBL",
            "units": "metal",
            "chemical_species": ["H", "O"],
        },
    }
    assert notes == ["model.compile_mode: compile has no effect: this package runs its own kernels"]


def test_terms_of_metrics_have_nequips_names():
    metrics = [
        {"field": "forces", "metric": {"_target_": "nequip.train.MeanAbsoluteError"}},
        {
            "field": {
                "_target_": "nequip.data.MappedFieldModifier",
                "pred_field": "total_energy",
                "target_field": "mine",
            },
            "metric": {"_target_": "nequip.train.RootMeanSquaredError"},
        },
        {
            "field": "forces",
            "metric": {"_target_": "nequip.train.StratifiedHuberForceLoss", "delta_dict": {0: 1, 2: 1}},
        },
    ]
    manager = {"_target_": "nequip.train.MetricsManager", "metrics": metrics}
    entries = own(("training_module.val_metrics", manager))[0]["training_module"]["val_metrics"]["metrics"]
    assert [entry.get("name") for entry in entries] == [None, "pred_E_label_mine_rmse", "F_stratified huber"]
    assert entries[1]["field"]["_target_"] == "nequip_like.metrics.modifiers.MappedFieldModifier"


def test_callbacks_of_the_loss():
    names = ("SoftAdapt", "LossCoefficientMonitor")
    targets = [translate_target(f"nequip.train.callbacks.{name}", "here") for name in names]
    assert targets == [f"nequip_like.training.callbacks.loss_weights.coefficients.{name}" for name in names]


def test_callbacks_and_loggers_get_names():
    def node(name, **arguments):
        return {"_target_": name, **arguments}

    lightning = "lightning.pytorch.callbacks"
    config, notes = own(
        (
            "trainer.callbacks",
            [
                node(f"{lightning}.EarlyStopping", monitor="val0_epoch/weighted_sum"),
                node(f"{lightning}.ModelCheckpoint", monitor="val0_epoch/weighted_sum"),
                node(f"{lightning}.ModelCheckpoint", monitor="val1_epoch/weighted_sum"),
                node(f"{lightning}.ModelCheckpoint", every_n_epochs=5),
                node(f"{lightning}.LearningRateMonitor"),
                node("nequip.train.callbacks.LossCoefficientMonitor", interval="epoch", frequency=1),
                node("nequip.train.callbacks.TestTimeXYZFileWriter", out_file="test"),
                node("nequip.train.callbacks.TF32Scheduler", schedule={0: False}),
                node("nequip.train.callbacks.TrainingStatsMonitor", log_freq=10, log_weights=False),
                node("nequip.train.callbacks.WandbWatch", log_freq=20, log="all"),
            ],
        ),
        (
            "trainer.logger",
            [node("lightning.pytorch.loggers.CSVLogger"), node("lightning.pytorch.loggers.WandbLogger")],
        ),
        ("trainer.enable_progress_bar", True),
    )
    assert list(config["callbacks"]) == [
        "early_stopping", "best_checkpoint", "best_checkpoint_2", "checkpoint", "learning_rate",
        "loss_coefficient_monitor", "training_stats", "epoch_printer", "progress_bar",
    ]  # fmt: skip
    assert config["callbacks"]["training_stats"] == node(
        "nequip_like.training.callbacks.TrainingStats", every_n_steps=10, every_n_epochs=None, by_weight=True
    )
    assert list(config["logger"]) == ["csv", "wandb"]
    assert [note.split()[0] for note in notes] == [
        "TestTimeXYZFileWriter", "TF32Scheduler", "TrainingStatsMonitor", "WandbWatch"
    ]  # fmt: skip


def test_callback_of_another_package_with_a_name_of_nequips():
    watch = {"_target_": "mine.WandbWatch", "log_freq": 20}
    config, notes = own(("trainer.callbacks", [watch]))
    assert watch in config["callbacks"].values()
    assert "training_stats" not in config["callbacks"]
    assert notes == []


@pytest.mark.parametrize(
    ("arguments", "message", "advice"),
    [
        ({"log_frq": 5}, "TrainingStatsMonitor has the unknown argument 'log_frq'", "did you mean 'log_freq'"),
        ({"log_freq": 0}, "log_freq of TrainingStatsMonitor is 0", "give a whole number from 1 up"),
    ],
)
def test_weight_statistics_that_say_nothing(arguments, message, advice, compose):
    config = compose()
    OmegaConf.set_struct(config, False)
    target = "nequip_like.train.callbacks.weight_stats.TrainingStatsMonitor"
    config.callbacks.mine = {"_target_": target, **arguments}
    with pytest.raises(ConfigError, match=message) as caught:
        as_own_config(config)
    assert advice in caught.value.advice


@pytest.mark.parametrize("home", ["train", "training"])
@pytest.mark.parametrize("name", ["TrainingStatsMonitor", "WandbWatch"])
def test_weight_statistics_of_earlier_configs(home, name, compose):
    """Both were callbacks of this package under NequIP's names."""
    target = f"nequip_like.{home}.callbacks.weight_stats.{name}"
    switch = {"TrainingStatsMonitor": "log_weights", "WandbWatch": "log_graph"}[name]
    config = compose(f"+callbacks.mine={{_target_: {target}, log_freq: 10, {switch}: false}}")
    translation = as_own_config(config)
    assert translation.config.callbacks.mine == {
        "_target_": "nequip_like.training.callbacks.TrainingStats",
        "every_n_steps": 10,
        "every_n_epochs": None,
        "by_weight": True,
    }
    note = (
        f"{name} is TrainingStats here: norms of each weight, its gradient and its update; {switch} had no place here"
    )
    assert translation.notes == [note]
    assert config.callbacks.mine["_target_"] == target
    check_config(translation.config)


@pytest.mark.parametrize("given", [True, ...])
def test_without_a_logger_metrics_go_to_a_table(given):
    config, notes = own(("trainer.logger", given))
    assert config["logger"]["csv"]["save_dir"] == "${output_dir}"
    assert "metrics.csv" in notes[0]


@pytest.mark.parametrize("name", ["nequip.train.SimpleDDPStrategy", "lightning.pytorch.strategies.DDPStrategy"])
def test_strategies(name):
    assert own(("trainer.strategy", {"_target_": name}))[0]["trainer"]["strategy"] == "ddp"


def test_what_only_our_configs_know_is_taken_over():
    config, _ = own(("seed", 9), ("ckpt_path", "a.ckpt"), ("trusted_packages", ["mine"]))
    assert (config["seed"], config["ckpt_path"], config["trusted_packages"]) == (9, "a.ckpt", ["mine"])


def test_the_page_for_nequip_users_names_everything():
    page = (Path(__file__).parents[2] / "docs" / "coming-from-nequip.md").read_text()
    callbacks = [name for name in SAME if name.startswith(("LossC", "LinearLossC"))]
    tests_and_bases = (
        "AtomicDataset",
        "EMTTestDataset",
        "LMDBTestDataset",
        "ZBLPairPotential",
        "ModelTypeNamesFromPackage",
    )
    modifiers = ("enable_OpenEquivariance", "enable_CuEquivariance")
    wanted = {*REFUSED, *OBSERVERS, *DATA_MODULES, *KNOWN_TRANSFORMS, *callbacks} - {*tests_and_bases, *modifiers}
    assert sorted(name for name in wanted if f"`{name}`" not in page) == []
    assert sorted(name for name in {**values.FUNCTIONS, **values.REFUSED} if f"`{name}`" not in page) == []
