"""Truth tables of single criteria, of their combinations, and of what is refused."""

import math
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.errors import ConfigError
from nequip_like.training.callbacks import CriteriaStopping
from nequip_like.training.callbacks.criteria_stopping import Criterion, Progress, read_criteria
from nequip_like.workflow.config.check import check_config

T, F = True, False


def judged(criterion, errors):
    progress = Progress()
    return [criterion.is_met(error, progress) for error in errors], progress


@pytest.mark.parametrize(
    ("settings", "errors", "met"),
    [
        ({"patience": 3}, [1, 0.9, 0.95, 0.95, 0.95], [F, F, F, F, T]),
        ({"patience": 1}, [1, 0.9, 0.8, 0.8, 0.7, 0.75], [F, F, F, T, F, T]),
        ({"patience": 1, "threshold": 0.001}, [1, 0.9995, 0.9985], [F, T, F]),
        ({"patience": 1, "threshold": 0.0}, [1, 0.9995, 0.9985], [F, F, F]),
        ({"patience": 2}, [1, 1, 1], [F, F, T]),
        ({"patience": 5, "lower_bound": 0.043}, [0.04], [T]),
        ({"patience": 5, "lower_bound": 0.043}, [0.043, 0.0431], [T, F]),
        ({"patience": None, "lower_bound": 0.043}, [1.0] * 9 + [0.04], [F] * 9 + [T]),
        ({"patience": None}, [1.0] * 100, [F] * 100),
        ({"patience": 2}, [math.nan, math.nan], [F, T]),
        ({"patience": 2}, [1.0, math.inf, math.inf], [F, F, T]),
        # It stays met for as long as nothing improves.
        ({"patience": 2}, [1, 1, 1, 1, 0.5, 0.5], [F, F, T, T, F, F]),
    ],
)
def test_one_criterion(settings, errors, met):
    assert judged(Criterion("x", **settings), errors)[0] == met


def test_small_steps_below_the_threshold_add_up():
    """The best does not follow improvements that do not count: several of them are one that does."""
    met, progress = judged(Criterion("x", patience=9, threshold=0.001), [1, 0.9995, 0.9988])
    assert met == [F, F, F]
    assert progress == Progress(best=0.9988, bad=0)


def test_an_error_within_the_bound_leaves_the_count_alone():
    met, progress = judged(Criterion("x", patience=2, lower_bound=0.1), [0.5, 0.6, 0.05, 0.6])
    assert met == [F, F, T, T]
    assert progress == Progress(best=0.5, bad=2)
    met, progress = judged(Criterion("x", patience=2, lower_bound=0.1), [0.05, 0.5])
    assert met == [T, F]
    assert progress == Progress(best=0.5, bad=0)


# --- several


def stops_at(trainer, callback, forces, energies):
    """Numbers of the validations at which training would end."""
    found = []
    for number, (force, energy) in enumerate(zip(forces, energies, strict=True)):
        trainer.should_stop = False
        values = {"val0_epoch/forces_rmse": force, "val0_epoch/per_atom_energy_mae": energy}
        trainer.callback_metrics = {name: torch.tensor(value) for name, value in values.items()}
        callback.on_validation_end(trainer, trainer.lightning_module)
        if trainer.should_stop:
            found.append(number)
    return found


@pytest.mark.parametrize(("combine", "expected"), [("and", [3]), ("or", [1, 2, 3])])
def test_truth_table(combine, expected, trainer):
    """Validation 0: neither, 1: forces, 2: energies, 3: both."""
    criteria = {
        "forces": {"metric": "rmse", "lower_bound": 0.5},
        "per_atom_energy": {"metric": "mae", "lower_bound": 0.5},
    }
    callback = CriteriaStopping(criteria, combine=combine)
    assert stops_at(trainer, callback, [1.0, 0.1, 1.0, 0.1], [1.0, 1.0, 0.1, 0.1]) == expected


def test_all_criteria_count_also_if_one_is_not_met(trainer):
    criteria = {"forces": {"metric": "rmse", "patience": 1}, "per_atom_energy": {"patience": 2}}
    callback = CriteriaStopping(criteria)
    assert stops_at(trainer, callback, [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]) == [2]
    assert callback.state_dict() == {
        "val0_epoch/forces_rmse": {"best": 1.0, "bad": 2},
        "val0_epoch/per_atom_energy_mae": {"best": 1.0, "bad": 2},
    }


def test_an_error_of_training_counts_once_an_epoch(trainer):
    """Four validations an epoch see the same training loss; patience 2 ends the third epoch that has it."""
    name = "train_loss_epoch/weighted_sum"
    callback = CriteriaStopping({name: {"patience": 2}})
    trainer.callback_metrics = {name: torch.tensor(1.0)}
    ended = []
    for epoch in (3, 4, 5):
        trainer.current_epoch = epoch
        for _ in range(4):
            callback.on_validation_end(trainer, trainer.lightning_module)
            ended.append(trainer.should_stop)
    assert ended == [False] * 8 + [True] * 4
    assert callback.state_dict() == {name: {"best": 1.0, "bad": 2, "epoch": 5}}


def test_the_reason_is_one_line(trainer, capsys):
    criteria = {"forces": {"metric": "rmse", "patience": 1}, "per_atom_energy": {"lower_bound": 0.5}}
    assert stops_at(trainer, callback := CriteriaStopping(criteria), [2.0, 2.0], [0.25, 0.25]) == [1]
    assert capsys.readouterr().out == callback.reason + "\n"
    assert callback.reason == (
        "early stopping at epoch 3, step 120: val0_epoch/forces_rmse has not improved in 1 validations, best 2; "
        "val0_epoch/per_atom_energy_mae is 0.25, within its lower_bound 0.5"
    )


@pytest.mark.parametrize("change", [{"sanity_checking": True}, {"state": SimpleNamespace(fn=TrainerFn.VALIDATING)}])
def test_outside_of_training_nothing_counts(change, trainer):
    trainer.__dict__.update(change)
    callback = CriteriaStopping({"forces": {"metric": "rmse", "patience": 1}})
    assert stops_at(trainer, callback, [1.0, 1.0], [1.0, 1.0]) == []
    assert callback.progress["forces"] == Progress()


def test_state_goes_by_the_logged_value():
    """Another patience takes effect; a new criterion begins anew."""
    old = CriteriaStopping({"forces": {"patience": 9}})
    old.progress["forces"] = Progress(best=0.25, bad=4)
    new = CriteriaStopping({"val0_epoch/forces_mae": {"patience": 5}, "stress": {"patience": 2}})
    new.load_state_dict(old.state_dict())
    assert new.progress == {"val0_epoch/forces_mae": Progress(0.25, 4), "stress": Progress()}
    assert new.criteria["val0_epoch/forces_mae"].is_met(0.25, new.progress["val0_epoch/forces_mae"])


# --- names


def test_names():
    criteria = {
        "forces": {},
        "total_energy": {"metric": "rmse"},
        "val1_epoch/weighted_sum": {"patience": 3},
        "stress": None,
    }
    found = read_criteria(criteria, val_set=2)
    assert {key: each.logged for key, each in found.items()} == {
        "forces": "val2_epoch/forces_mae",
        "total_energy": "val2_epoch/total_energy_rmse",
        "val1_epoch/weighted_sum": "val1_epoch/weighted_sum",
    }


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ({}, "criteria is empty"),
        ({"forces": None}, "criteria is empty"),
        ({"forces": {"patiense": 3}}, r"unknown key of criteria\.forces: 'patiense'\n.*did you mean 'patience'"),
        ({"forces": {"metric": "rsme"}}, r"criteria\.forces\.metric is 'rsme'\n.*did you mean 'rmse'"),
        ({"forces": {"patience": 0}}, r"criteria\.forces\.patience is 0\n.*1 or more"),
        ({"forces": {"patience": 2.5}}, r"criteria\.forces\.patience is 2\.5"),
        ({"forces": {"threshold": -1.0}}, r"criteria\.forces\.threshold is -1\.0"),
        ({"forces": {"lower_bound": math.nan}}, r"criteria\.forces\.lower_bound is nan"),
        ({"forces": 3}, "criteria is"),
        ({"val0_epoch/forces_mae": {"metric": "mae"}}, "has a metric\n.*leave it out"),
    ],
)
def test_what_cannot_be_meant(criteria, message):
    with pytest.raises(ConfigError, match=message):
        CriteriaStopping(criteria)


def test_other_combinations_are_refused():
    with pytest.raises(ConfigError, match="combine is 'xor'"):
        CriteriaStopping({"forces": {}}, combine="xor")


@pytest.mark.parametrize("name", ["val0_epoch/force_mae", "val2_epoch/forces_mae", "train_loss_epoch/forces"])
def test_what_is_not_logged_is_refused_before_training(name, trainer):
    callback = CriteriaStopping({name: {"patience": 3}})
    with pytest.raises(ConfigError, match=f"CriteriaStopping follows '{name}', which is not logged\n.*known: val0_"):
        callback.on_fit_start(trainer, trainer.lightning_module)


def test_what_the_user_was_to_log_and_did_not(trainer):
    callback = CriteriaStopping({"mine/error": {"patience": 3}})
    callback.on_fit_start(trainer, trainer.lightning_module)
    with pytest.raises(ConfigError, match="follows 'mine/error', which is not logged"):
        callback.on_validation_end(trainer, trainer.lightning_module)


# --- in a config

STOP = "callbacks.criteria_stopping.criteria"


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [f"{STOP}.forces.metric=rmse", f"{STOP}.forces.patience=null", "callbacks.criteria_stopping.combine=or"],
        ["targets=energy", f"{STOP}.forces=null"],
        [f"+{STOP}.total_energy={{metric: rmse, lower_bound: 0.001}}"],
        [f"+{STOP}={{train_loss_epoch/weighted_sum: {{patience: 3}}}}"],
    ],
)
def test_sound_configs(changes, compose):
    checked = check_config(compose("callbacks=[default,criteria_stopping]", *changes))
    assert any(key.startswith(f"{STOP}.") for key in checked.parts.monitored)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (f"+{STOP}.force={{patience: 3}}", rf"{STOP}\.force is 'val0_epoch/force_mae', which is not logged\n.*forces"),
        ("targets=energy", rf"{STOP}\.forces is 'val0_epoch/forces_mae', which is not logged"),
        ("callbacks.criteria_stopping.val_set=1", "'val1_epoch/forces_mae', which is not logged"),
        ("callbacks.criteria_stopping.combine=both", r"callbacks\.criteria_stopping\.combine is 'both'"),
        (f"{STOP}.forces.patience=0", r"callbacks\.criteria_stopping: criteria\.forces\.patience is 0"),
        (f"+{STOP}.forces.min_delta=0", r"unknown key of criteria\.forces: 'min_delta'"),
        ("+callbacks.criteria_stopping.patience=3", r"CriteriaStopping takes no 'patience'"),
    ],
)
def test_configs_that_are_refused(change, message, compose):
    with pytest.raises(ConfigError, match=message):
        check_config(compose("callbacks=[default,criteria_stopping]", change))
