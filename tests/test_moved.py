"""Names of earlier versions lead to the things that they named."""

import importlib
import re
from pathlib import Path

import pytest

from nequip_like.errors import ConfigError
from nequip_like.instantiate import instantiate
from nequip_like.moved import MODULES, NAMES, find_current_name, replace_names
from nequip_like.workflow.config.trust import look_up

# Everything that a config of an earlier version could name, from its conf/ and its documentation.
TARGETS = (
    *(f"nequip_like.train.{name}" for name in NAMES),
    "nequip_like.train.NequIPLightningModule",
    "nequip_like.train.EMALightningModule",
    "nequip_like.train.SWALightningModule",
    "nequip_like.train.EpochPrinter",
    "nequip_like.train.SummedGradientsStrategy",
    "nequip_like.train.callbacks.CriteriaStopping",
    "nequip_like.train.callbacks.EpochPrinter",
    "nequip_like.train.callbacks.LogFunctions",
    "nequip_like.train.callbacks.LossCoefficientMonitor",
    "nequip_like.train.callbacks.LossLog",
    "nequip_like.train.callbacks.LossWeightSchedule",
    "nequip_like.train.callbacks.MetricsTable",
    "nequip_like.train.callbacks.ResumableEarlyStopping",
    "nequip_like.train.callbacks.SoftAdapt",
    "nequip_like.train.callbacks.StepCounters",
    "nequip_like.train.callbacks.TrainingStats",
    "nequip_like.train.callbacks.metrics_table.MetricsTable",
    "nequip_like.train.callbacks.counters.StepCounters",
    "nequip_like.train.checkpoints.ResumableCheckpoint",
    "nequip_like.train.history.HistoryLogger",
    "nequip_like.train.loss_coefficients.SoftAdapt",
    "nequip_like.train.loss_coefficients.LossCoefficientMonitor",
    "nequip_like.train.metrics.HuberLoss",
    "nequip_like.train.metrics_manager.MetricsManager",
    "nequip_like.train.modifiers.PerAtomModifier",
    "nequip_like.train.modifiers.MappedFieldModifier",
    "nequip_like.train.muon.MuonAndAdamW",
    "nequip_like.train.named_optimizers.Optimizer",
    "nequip_like.train.optax_amsgrad.OptaxAMSGrad",
    "nequip_like.train.presets.EnergyForceLoss",
    "nequip_like.train.quantiles.AbsoluteErrorQuantile",
    "nequip_like.train.remote_storage.RemoteStorageSync",
    "nequip_like.train.schedules.learning_rate.LearningRate",
    "nequip_like.train.vector_metrics.CosineSimilarity",
)


@pytest.mark.parametrize("target", TARGETS)
def test_an_old_name_is_the_thing_of_today(target):
    found = look_up("here", target)
    assert found.__name__ == target.rpartition(".")[2]
    assert found is look_up("here", find_current_name(target))


def test_what_is_no_more_says_what_to_write():
    for name in ("TrainingStatsMonitor", "WandbWatch"):
        for package in ("train", "training"):
            with pytest.raises(ConfigError) as raised:
                look_up("callbacks.stats", f"nequip_like.{package}.callbacks.weight_stats.{name}")
            assert str(raised.value) == (
                f"callbacks.stats._target_ is 'nequip_like.training.callbacks.weight_stats.{name}', which there is no "
                "more\n  -> write _target_: nequip_like.training.callbacks.TrainingStats, every_n_steps: 100, "
                "by_weight: true"
            )


@pytest.mark.parametrize("place", ["train.callbacks", "train.loss_coefficients", "training.callbacks"])
def test_schedulers_of_the_loss_say_what_to_write(place):
    """Where a config is not composed, which translates them."""
    with pytest.raises(ConfigError, match=r"which there is no more\n.*LossWeightSchedule, stages: \[\{start: 100"):
        look_up("callbacks.mine", f"nequip_like.{place}.LinearLossCoefficientScheduler")


def test_names_that_never_moved_stay():
    for name in (
        "torch.optim.Adam",
        "nequip_like.model.NequIPGNNModel",
        "nequip_like.data.datamodule.DataModule",
        "mine",
    ):
        assert find_current_name(name) == name


def test_objects_are_built_by_old_names_at_any_depth():
    config = {
        "_target_": "nequip_like.train.MetricsManager",
        "metrics": [
            {
                "metric": {"_target_": "nequip_like.train.metrics.HuberLoss", "delta": 0.5},
                "field": "forces",
                "coeff": 2.0,
            }
        ],
    }
    manager = instantiate("loss", config)
    assert [term.name for term in manager.terms] == ["F_huber"]
    assert manager.terms[0].metric.delta == 0.5


def test_a_whole_config_is_renamed_and_left_alone():
    config = {"a": [{"_target_": "nequip_like.train.muon.MuonAndAdamW", "lr": 1.0}], "_target_": 3}
    assert replace_names(config) == {
        "a": [{"_target_": "nequip_like.optim.muon.MuonAndAdamW", "lr": 1.0}],
        "_target_": 3,
    }
    assert config["a"][0]["_target_"] == "nequip_like.train.muon.MuonAndAdamW"


def test_each_new_module_exists():
    for module in set(MODULES.values()):
        importlib.import_module(f"nequip_like.{module}")


def test_the_table_is_all_that_knows_old_names():
    """Elsewhere in the package and its configs things are called as they are called now."""
    root = Path(__file__).parents[1]
    files = [*(root / "nequip_like").rglob("*.py"), *(root / "conf").rglob("*.yaml")]
    old = {
        f"{file.relative_to(root)}: {match}"
        for file in files
        if file.name != "moved.py"
        for match in re.findall(r"nequip_like\.train\.\w+", file.read_text())
    }
    assert old == set()
