"""Runs with a budget of time: what it changes in a config, how they end, repeat and go on; with no real clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.training.budget import keeper
from nequip_like.workflow.config.budget import follow_budget
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.printing import plan
from nequip_like.workflow.train import train
from tests.workflow.test_resume import differences

# 14 frames in batches of 5 are 3 steps an epoch: it ends after step 8, in the middle of the third epoch.
RECORDS = [[0, 0.0, 10], [2, 0.2, 4], [4, 0.6, 4]]
LINE = (
    *("lr_scheduler=linear", "training_module.lr_scheduler.warmup_length={steps: 1}"),
    "training_module.lr_scheduler.min_lr=0",
)


@pytest.fixture
def records(tmp_path) -> Path:
    path = tmp_path / "plans.json"
    path.write_text(json.dumps({"format": 1, "steps": 8, "records": RECORDS}))
    return path


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture
def alone(monkeypatch):
    """A machine that nobody else uses: real time and that of :class:`Ticks` cannot be compared."""
    monkeypatch.setattr(keeper, "_MOST_CONTENTION", 1.0)


class Ticks:
    """A clock on which half a second goes by each time that somebody looks."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return 0.5 * self.looks


# --- the config


def test_the_defaults_follow_a_budget(compose):
    config = compose("budget=10min", "trainer.max_epochs=50", "callbacks=[default,early_stopping]")
    notes = follow_budget(config)
    assert config.training_module.lr_scheduler.schedule == "cosine"
    assert config.training_module.lr_scheduler.warmup_length == {"share": 0.02}
    assert config.trainer.max_epochs == -1
    assert config.callbacks.early_stopping is None
    assert notes == [
        "trainer.max_epochs=50 is no limit",
        "callbacks.early_stopping is left out, so that the end is not cut off",
    ]
    assert follow_budget(config) == []
    lines = plan(check_config(compose("budget=1h30min")))
    assert lines["budget"] == "1h30min"
    assert lines["learning rate"].startswith("LearningRate (schedule cosine, warmup linear, warmup_length share: 0.02")


@pytest.mark.parametrize("choice", ["warmup_cosine", "linear", "anneal"])
def test_schedules_of_the_whole_run_follow_it(choice, compose):
    config = compose("budget=10min", f"lr_scheduler={choice}")
    follow_budget(config)
    assert config.training_module.lr_scheduler.get("T_max") is None
    check_config(config)


def test_without_a_budget_nothing_changes(compose):
    config = compose()
    before = config.copy()
    assert follow_budget(config) == []
    assert config == before


MISTAKES = {
    "budget=30": r"^budget is ",
    "budget=soon": r"^budget is 'soon'\n  -> write a time, such as 90s, 30min, 1h30min or DD:HH:MM:SS",
    "budget=0s": r"^budget is '0s'",
    "budget={until: noon}": r"^budget is ",
    "lr_scheduler=cosine": r"^training_module\.lr_scheduler is CosineAnnealingLR, which cannot follow.*\n.*=anneal",
    "lr_scheduler=plateau": r"^training_module\.lr_scheduler is ReduceLROnPlateau, which",
    "lr_scheduler=warmup_plateau": r"^training_module\.lr_scheduler\.schedule is plateau, which cannot follow",
    "lr_scheduler=linear training_module.lr_scheduler.T_max=50": r"T_max is given in epochs or steps, but budget says",
}


@pytest.mark.parametrize("overrides", list(MISTAKES))
def test_what_cannot_follow_a_budget(overrides, compose):
    given = [overrides] if overrides.startswith("budget") else ["budget=10min", *overrides.split()]
    with pytest.raises(ConfigError, match=MISTAKES[overrides]):
        check_config(compose(*given))


# --- records alone decide


def test_a_run_by_records(records, compose, tmp_path, capsys):
    """It ends where they end, within an epoch, with a validation on which the best checkpoint is judged."""
    result = train(compose("run=[train]", f"budget={{repeat: {records}}}", *LINE))
    saved = last(result.folder)
    assert saved["global_step"] == 8
    assert saved["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 2
    assert saved["nequip_like"]["validated"]
    # Half of what was left is done between step 4 (0.6) and 6; after step 8 all of it.
    assert saved["lr_schedulers"][0]["lengths"] == {"T_max": {"share": 1.0}, "warmup_length": 1}
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == 0.0
    with (result.folder / "metrics.csv").open() as file:
        header, *rows = (line.rstrip("\n").split(",") for line in file)
    steps = [int(row[header.index("step")]) for row in rows if row[header.index("val0_epoch/weighted_sum")]]
    assert steps == [2, 5, 7]  # counted from 0: after each epoch, and at the end
    assert result.best_checkpoint is not None
    assert json.loads((result.folder / "budget.json").read_text())["records"] == RECORDS
    assert "budget repeated: 8 steps, the last one at a learning rate of 5.00e-04" in capsys.readouterr().out


def test_stopped_and_resumed_it_is_the_same_run(records, compose, tmp_path):
    """Bit for bit: learning rates follow the records, which both have."""
    common = ("run=[train]", f"budget={{repeat: {records}}}")
    whole = train(compose(*common, f"output_dir={tmp_path / 'whole'}")).folder
    part = f"output_dir={tmp_path / 'part'}"
    train(compose(*common, part, "trainer.max_steps=5"))
    resumed = train(compose(*common, part, "resume=auto")).folder
    one, two = last(whole), last(resumed)
    for name in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert differences(one[name], two[name]) == []


def test_a_run_with_a_clock_can_be_repeated_without(alone, compose, tmp_path, capsys):
    timed = train(compose("budget=60s", f"output_dir={tmp_path / 'timed'}"), clock=Ticks()).folder
    said = capsys.readouterr().out
    assert "planned at" in said
    written = json.loads((timed / "budget.json").read_text())
    assert written["seconds"] == 60.0
    assert len(written["records"]) > 3
    assert written["steps"] == last(timed)["global_step"]
    assert abs(written["used"] - 60.0) <= 10.0  # the tasks after the training take no time on this clock
    repeated = train(
        compose(f"budget={{repeat: {timed / 'budget.json'}}}", f"output_dir={tmp_path / 'repeated'}")
    ).folder
    one, two = last(timed), last(repeated)
    for name in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert differences(one[name], two[name]) == []


@pytest.mark.slow
def test_what_was_used_counts_when_a_run_goes_on(alone, compose, capsys):
    """Stopped by a limit of steps, it goes on with the records and the time of its checkpoint."""
    stopped = train(compose("run=[train]", "budget=60s", "trainer.max_steps=10"), clock=Ticks()).folder
    state = next(value for key, value in last(stopped)["callbacks"].items() if key.startswith("BudgetKeeper"))
    train(compose("run=[train]", "budget=60s", "resume=auto"), clock=Ticks())
    gone_on = next(value for key, value in last(stopped)["callbacks"].items() if key.startswith("BudgetKeeper"))
    known = [record for record in gone_on["records"] if record[0] <= 10]
    assert known == state["records"]
    assert gone_on["used"] > state["used"]
    assert abs(gone_on["used"] - 60.0) <= 10.0
    # Nothing is left: it trains no further, and says so.
    capsys.readouterr()
    train(compose("run=[train]", "budget=60s", "resume=auto"), clock=Ticks())
    assert "the budget 1min is used up" in capsys.readouterr().out
    # With twice the time the share that is done is half as large, and it trains on.
    done = last(stopped)["global_step"]
    train(compose("run=[train]", "budget=120s", "resume=auto"), clock=Ticks())
    record = next(
        record
        for value in [v for k, v in last(stopped)["callbacks"].items() if k.startswith("BudgetKeeper")]
        for record in value["records"][len(gone_on["records"]) :]
    )
    assert record[0] == done
    assert record[1] == pytest.approx(gone_on["used"] / 120.0)
    assert last(stopped)["global_step"] > done


@pytest.mark.slow
def test_a_budget_is_not_taken_away_from_a_run(records, compose):
    train(compose("run=[train]", f"budget={{repeat: {records}}}", "trainer.max_steps=3"))
    with pytest.raises(ConfigError, match=r"had budget=.*, by which its schedules go\n.*budget=TIME"):
        train(compose("run=[train]", "resume=auto"))


def test_too_short_a_budget(alone, compose):
    with pytest.raises(ConfigError, match=r"^the budget 5s is too short to train: .*\n.*from about"):
        train(compose("run=[train]", "budget=5s"), clock=Ticks())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^budget\.repeat is .*plans\.json, which cannot be read"),
        ("{", r"which is not a file of the plans of a run"),
        ('{"format": 1, "records": [[5, 0.1, 3]]}', r"these are no records of a run with a budget"),
    ],
    ids=["no file", "no json", "no beginning"],
)
def test_files_that_cannot_be_repeated(content, message, compose, tmp_path):
    path = tmp_path / "plans.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        train(compose("run=[train]", f"budget={{repeat: {path}}}"))


# --- weights of the loss, and SWA


def test_weights_of_the_loss_by_shares(records, compose):
    """forces: 1 up to 0.5 of the run, then a line to 3 at its end; 0.6 is done after 4 steps, all after 8."""
    from nequip_like.optim.schedules.lengths import RunLength
    from nequip_like.optim.schedules.progress import RunProgress
    from nequip_like.training.callbacks.loss_weights.schedule import LossWeightSchedule

    terms = {"forces": {"kind": "linear", "from": 1.0, "to": 3.0, "start": {"share": 0.5}, "end": {"share": 1.0}}}
    schedule = LossWeightSchedule(terms)
    schedule.begin(RunLength(progress=RunProgress.from_lists(RECORDS)))
    from nequip_like.metrics import EnergyForceLoss

    loss = EnergyForceLoss(weights={"total_energy": 1.0, "forces": 1.0})
    found = [schedule.coefficients_at(0, step, loss)["forces_mse"] for step in (0, 2, 4, 6, 8)]
    assert found == pytest.approx([1.0, 1.0, 1.4, 2.2, 3.0])
    steps = LossWeightSchedule({"forces": {"kind": "piecewise_constant", "boundaries": {0.25: 4.0}}}, interval="share")
    steps.begin(RunLength(steps_per_epoch=2, epochs=4))
    assert [steps.coefficients_at(0, step, loss)["forces_mse"] for step in (0, 1, 2)] == [1.0, 1.0, 4.0]


@pytest.mark.slow
def test_swa_by_a_share(records, compose):
    """0.6 is done after 4 steps, 0.7 after 5: the weights after steps 5, 6, 7 and 8 are averaged."""
    start = ("training_module=swa", "training_module.swa_start={share: 0.65}", "training_module.swa_interval=step")
    result = train(compose("run=[train]", f"budget={{repeat: {records}}}", *start))
    assert int(last(result.folder)["state_dict"]["ema.n_averaged"]) == 4
