"""Overrides that Hydra cannot apply as they are written: replaced, or told what they meant."""

from __future__ import annotations

import pytest
import yaml
from omegaconf import OmegaConf

from nequip_like.composition.arguments import parse
from nequip_like.composition.hydra_compose import compose_arguments
from nequip_like.errors import ConfigError
from tests.processes import run_python

BEFORE = {"scalar": "a.xyz", "list": "[a.xyz]", "mapping": "{a: a.xyz}"}
AFTER = {"scalar": "b.xyz", "list": "[b.xyz]", "mapping": "{b: b.xyz}"}


def composed(folder, *overrides, test="null"):
    (folder / "mine.yaml").write_text(f"defaults: [train, _self_]\ndata: {{train: a.xyz, test: {test}}}\n")
    return compose_arguments(parse(["--config-name", "mine", *overrides]), str(folder))


def refused(folder, *overrides, **options):
    with pytest.raises(ConfigError) as caught:
        composed(folder, *overrides, **options)
    return caught.value.message, caught.value.advice


# --- a value of another kind


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("before", BEFORE)
def test_a_value_of_another_kind_replaces_what_is_there(before, after, tmp_path):
    if before == after == "mapping":  # Hydra adds to a mapping
        message, advice = refused(tmp_path, f"data.test={AFTER[after]}", test=BEFORE[before])
        assert message == "there is no 'data.test.b' to change"
        assert advice == (
            "there are a; write +data.test.b=... to add it, or data.test=null before data.test={...} to replace "
            "them all"
        )
        return
    config = composed(tmp_path, f"data.test={AFTER[after]}", test=BEFORE[before])
    found = OmegaConf.to_container(config.data).get("test")
    assert found == {"scalar": "b.xyz", "list": ["b.xyz"], "mapping": {"b": "b.xyz"}}[after]


def test_both_ways_that_the_advice_names(tmp_path):
    added = composed(tmp_path, "+data.test.b=b.xyz", test="{a: a.xyz}")
    assert dict(added.data.test) == {"a": "a.xyz", "b": "b.xyz"}
    replaced = composed(tmp_path, "data.test=null", "data.test={b: b.xyz}", test="{a: a.xyz}")
    assert dict(replaced.data.test) == {"b": "b.xyz"}


def test_several_values_of_another_kind(tmp_path):
    known = parse(["--config-name", "mine", "data.test={b: b.xyz}", "data.val=[v.xyz]", "cutoff_radius=4.0"])
    (tmp_path / "mine.yaml").write_text(
        "defaults: [train, _self_]\ndata: {train: a.xyz, test: [a.xyz], val: {v: w.xyz}}\n"
    )
    config = compose_arguments(known, str(tmp_path))
    assert OmegaConf.to_container(config.data)["test"] == {"b": "b.xyz"}
    assert list(config.data.val) == ["v.xyz"]
    assert config.cutoff_radius == 4.0
    assert known.overrides == [
        *("++data.test=null", "data.test={b: b.xyz}", "++data.val=null", "data.val=[v.xyz]", "cutoff_radius=4.0")
    ]


def test_a_list_that_chooses_configs_is_left_alone(tmp_path):
    known = parse(["--config-name", "mine", "callbacks=[default,loss_log]", "data.test={b: b.xyz}"])
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\ndata: {train: a.xyz, test: [a.xyz]}\n")
    assert "loss_log" in compose_arguments(known, str(tmp_path)).callbacks
    assert known.overrides == ["callbacks=[default,loss_log]", "++data.test=null", "data.test={b: b.xyz}"]


def test_kinds_that_vary_over_runs(tmp_path):
    """Each run of a ``--multirun`` is composed by Hydra itself, of the command line."""
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\ndata: {train: a.xyz, test: [a.xyz]}\n")
    known = parse(["--config-name", "mine", "--multirun", "data.test={b: b.xyz},{c: c.xyz}"])
    compose_arguments(known, str(tmp_path))
    assert known.overrides == ["++data.test=null", "data.test={b: b.xyz},{c: c.xyz}"]


def test_hydra_composes_the_same(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\ndata: {train: a.xyz, test: [a.xyz]}\n")
    command = ("-m", "nequip_like.cli.train", "mine.yaml", "data.test={NO: b.xyz}", "--cfg", "job")
    done = run_python(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["data"]["test"] == {"NO": "b.xyz"}


# --- keys that are not there


@pytest.mark.parametrize(
    ("override", "key", "advice"),
    [
        (
            "training_module.loss.coeffs={total_energy: 1.0, force: 1.0}",
            "training_module.loss.coeffs.force",
            "did you mean 'forces'?",
        ),
        (
            "training_module={loss: {coeffs: {force: 1.0}}}",
            "training_module.loss.coeffs.force",
            "did you mean 'forces'?",
        ),
        (
            "callbacks.best_checkpoint={save_topk: 3}",
            "callbacks.best_checkpoint.save_topk",
            "did you mean 'save_top_k'?",
        ),
        ("model={num_layers: 2, lmax: 1}", "model.lmax", "did you mean 'model.l_max'?"),
    ],
)
def test_an_unknown_key_within_a_mapping(override, key, advice, tmp_path):
    assert refused(tmp_path, override) == (f"there is no '{key}' to change", advice)


@pytest.mark.parametrize(
    ("override", "error", "advice"),
    [
        (
            "training_module.model.l_max=2",
            "there is no 'training_module.model.l_max' to change: training_module.model stands for model here",
            "write model.l_max=...",
        ),
        (
            "training_module.test_metrics.coeffs.forces_rmse=2",
            "there is no 'training_module.test_metrics.coeffs.forces_rmse' to change: "
            "training_module.test_metrics.coeffs stands for training_module.val_metrics.coeffs here",
            "write training_module.val_metrics.coeffs.forces_rmse=...",
        ),
        (
            "training_module.model.max_epochs=2",
            "there is no 'training_module.model.max_epochs' to change: training_module.model stands for model here",
            "did you mean 'trainer.max_epochs'?",
        ),
        (
            "+training_module.model.l_max=2",
            "there is 'training_module.model.l_max' already",
            "leave out the +: model.l_max=...",
        ),
    ],
)
def test_below_an_interpolation(override, error, advice, tmp_path):
    assert refused(tmp_path, override) == (error, advice)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("max_epochs", "trainer.max_epochs"),
        ("batch_size", "data.batch_size"),
        ("lr", "training_module.optimizer.lr"),
        ("l_max", "model.l_max"),
        ("num_layers", "model.num_layers"),
        ("r_max", "cutoff_radius"),
        ("epochs", "trainer.max_epochs"),
        ("learning_rate", "training_module.optimizer.lr"),
        ("max_epohcs", "trainer.max_epochs"),
        ("model.max_epochs", "trainer.max_epochs"),
        ("trainer.lr", "training_module.optimizer.lr"),
        ("data.num_layers", "model.num_layers"),
    ],
)
def test_a_key_of_another_section(key, place, tmp_path):
    assert refused(tmp_path, f"{key}=5") == (f"there is no '{key}' to change", f"did you mean '{place}'?")


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("best_checkpoint.save_top_k", "callbacks.best_checkpoint.save_top_k"),
        ("optimizer.lr", "training_module.optimizer.lr"),
    ],
)
def test_the_begin_of_a_key_is_missing(key, place, tmp_path):
    section = key.rpartition(".")[0]
    assert refused(tmp_path, f"{key}=5") == (
        f"there is no '{key}' to change: the config has no '{section}'",
        f"did you mean '{place}'? see --cfg job",
    )


def test_the_first_of_several_mistakes_is_told_with_its_hint(tmp_path):
    assert refused(tmp_path, "epochs=5", "lr=0.1", "data.tset=[a]")[1] == "did you mean 'trainer.max_epochs'?"


def test_below_a_value(tmp_path):
    assert refused(tmp_path, "data.units.energy=Hartree") == (
        "there is no 'data.units.energy' to change",
        "data.units is null: write data.units={energy: ...}",
    )
    assert refused(tmp_path, "seed.x=3")[1] == "seed is 0, which has no keys"


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("trainer.limit_train_batches=3", "lightning.Trainer takes it: write +trainer.limit_train_batches=3"),
        ("trainer.fast_dev_run=true", "lightning.Trainer takes it: write +trainer.fast_dev_run=true"),
        ("trainer.plugins=[]", "lightning.Trainer takes it: write +trainer.plugins=..."),
        ("trainer.fast_dev=3", "if lightning.Trainer takes it, write +trainer.fast_dev=..."),
        ("trainer.max_epoch=3", "did you mean 'trainer.max_epochs'?"),
    ],
)
def test_an_argument_of_the_target_is_added_with_a_plus(override, advice, tmp_path):
    key = override.partition("=")[0]
    assert refused(tmp_path, override) == (f"there is no '{key}' to change", advice)


def test_the_plus_that_the_advice_names(tmp_path):
    assert composed(tmp_path, "+trainer.limit_train_batches=3").trainer.limit_train_batches == 3


# --- a group given something that is no name

SCHEDULES = "anneal, cosine, cosine_restarts, exponential, linear, peak, plateau, step, warmup_cosine, warmup_plateau"
CALLBACKS = (
    "criteria_stopping, dashboard, default, early_stopping, loss_log, metrics_table, periodic_checkpoint, "
    "training_stats"
)


@pytest.mark.parametrize(
    ("override", "group", "advice"),
    [
        ("trainer=[1]", "trainer", "default"),
        ("trainer=null", "trainer", "default"),
        ("model=5", "model", "descriptor_ann, nequip, nequip_L, nequip_M, nequip_S, nequip_XL"),
        ("+model=5", "model", "descriptor_ann, nequip, nequip_L, nequip_M, nequip_S, nequip_XL"),
        ("~model=5", "model", "descriptor_ann, nequip, nequip_L, nequip_M, nequip_S, nequip_XL"),
        ("targets=[null]", "targets", "energy, energy_force, energy_force_stress, fields, force"),
        ("lr_scheduler=null", "lr_scheduler", f"{SCHEDULES}; for none, write training_module.lr_scheduler=null"),
        ("callbacks=null", "callbacks", f"{CALLBACKS}; to leave one out, write ~callbacks.progress_bar"),
        ("logger=null", "logger", "csv, mlflow, tensorboard, wandb; for none, write ~logger ~callbacks.learning_rate"),
    ],
)
def test_what_is_no_name_chooses_no_config(override, group, advice, tmp_path):
    assert refused(tmp_path, override, "modle.x=1") == (
        f"'{override}' chooses no config: {group} is a group, whose configs are chosen by name",
        f"write {group}=NAME, there are {advice}",
    )


def test_ways_to_leave_out_that_the_advice_names(tmp_path):
    config = composed(
        tmp_path,
        *("training_module.lr_scheduler=null", "~callbacks.progress_bar", "~logger", "~callbacks.learning_rate"),
    )
    assert config.training_module.lr_scheduler is None
    assert "logger" not in config
    assert not {"progress_bar", "learning_rate"} & set(config.callbacks)


def test_a_type_error_of_the_program_is_not_hidden(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise TypeError("a mistake")

    monkeypatch.setattr("hydra._internal.hydra.Hydra.compose_config", fail)
    with pytest.raises(TypeError, match="a mistake"):
        composed(tmp_path, "model=nequip_S")
