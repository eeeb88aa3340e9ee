"""The share of a run that is done, by records; schedules that go by it."""

from __future__ import annotations

import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.optim.schedules.learning_rate import LearningRate
from nequip_like.optim.schedules.lengths import RunLength, check_length, in_steps
from nequip_like.optim.schedules.progress import Record, RunProgress

RECORDS = [Record(0, 0.0, 10), Record(2, 0.2, 4), Record(4, 0.6, 8)]


def make(schedule: str, **settings) -> LearningRate:
    return LearningRate(torch.optim.SGD([torch.zeros(1)], lr=1.0), schedule, **settings)


def test_shares():
    progress = RunProgress(RECORDS)
    found = [progress.at(n) for n in (0, 1, 2, 3, 4, 6, 8, 12, 50)]
    assert found == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.6, 0.7, 0.8, 1.0, 1.0])
    assert progress.end == 12
    assert progress.at(12) == 1.0
    assert RunProgress.from_lists(progress.to_lists()).records == RECORDS


def test_before_the_first_plan_it_hardly_grows():
    assert RunProgress().at(5) == pytest.approx(0.0005)
    assert not RunProgress().is_measured


@pytest.mark.parametrize("rows", [None, [], [[1, 0.0, 5]], [[0, 0.0, 0]], [[0, 2.0, 5]], [[0, 0.0, 5], [0, 0.0]], "x"])
def test_what_are_no_records(rows):
    with pytest.raises(ConfigError, match="no records of a run with a budget"):
        RunProgress.from_lists(rows)


@pytest.mark.parametrize(
    ("schedule", "settings", "rates"),
    [
        ("linear", {}, [1.0, 0.8, 0.4, 0.2]),
        ("cosine", {"T_max": {"share": 1.0}}, [1.0, 0.9045, 0.3455, 0.0955]),
        ("linear", {"warmup": "linear", "warmup_length": {"share": 0.4}}, [0.25, 0.8, 0.4, 0.2]),
        ("step", {"step_size": {"share": 1 / 3}, "gamma": 0.1}, [1.0, 1.0, 0.1, 0.01]),
        ("exponential", {"step_size": {"share": 0.2}, "gamma": 0.5}, [1.0, 0.5, 0.125, 0.0625]),
        ("cosine_restarts", {"T_0": {"share": 0.4}}, [1.0, 0.5, 0.5, 1.0]),
        ("linear", {"warmup": "linear", "warmup_length": {"steps": 4}}, [0.25, 0.6, 0.4, 0.2]),
    ],
)
def test_learning_rates_by_progress(schedule, settings, rates):
    """After 0, 2, 4 and 8 steps: 0, 0.2, 0.6 and 0.8 of the run are done; the warm-up looks one step ahead."""
    rate = make(schedule, **settings)
    rate.begin(RunLength(steps_per_epoch=5, progress=RunProgress(RECORDS)))
    assert [rate.rates_at(n)[0] for n in (0, 2, 4, 8)] == pytest.approx(rates, abs=1e-4)


def test_a_new_plan_changes_the_next_step():
    progress = RunProgress([Record(0, 0.0, 10)])
    rate = make("linear", warmup="linear", warmup_length={"share": 0.5})
    rate.begin(RunLength(progress=progress))
    assert rate.optimizer.param_groups[0]["lr"] == pytest.approx(0.2)
    progress.add(Record(0, 0.0, 5))
    rate.refresh()
    assert rate.optimizer.param_groups[0]["lr"] == pytest.approx(0.4)


def test_shares_of_a_known_number_of_steps_are_steps():
    rate = make("step", step_size={"share": 1 / 3}, gamma=0.1, warmup="linear", warmup_length={"share": 0.1})
    rate.begin(RunLength(steps_per_epoch=30, epochs=10))
    assert rate.lengths == {"warmup_length": 30, "step_size": 100}


def test_a_state_with_shares_waits_for_the_run():
    rate = make("linear")
    rate.begin(RunLength(progress=RunProgress(RECORDS)))
    assert rate.state_dict()["lengths"] == {"T_max": {"share": 1.0}}
    resumed = make("linear")
    resumed.load_state_dict({**rate.state_dict(), "steps": 4})
    resumed.begin(RunLength(progress=RunProgress(RECORDS)))
    assert resumed.get_lr() == pytest.approx([0.4])
    without = make("linear")
    without.load_state_dict(rate.state_dict())
    with pytest.raises(ConfigError, match=r"of a run with a budget of time.*\n.*give a budget"):
        without.begin(RunLength(steps_per_epoch=5, epochs=2))


def test_shares_that_make_no_sense():
    with pytest.raises(ConfigError, match=r"T_max is the share 1\.5 of the run"):
        check_length("T_max", {"share": 1.5})
    with pytest.raises(ConfigError, match="T_max is a share of the run, which has no end"):
        in_steps("T_max", {"share": 0.5}, RunLength(steps_per_epoch=5))
    with pytest.raises(ConfigError, match="a share of the run is asked for, but the run has no end"):
        RunLength(steps_per_epoch=5).share_at(3)
    ends = {"init_lr": 0.1, "final_lr": 0.1}
    mixed = make("peak", **ends, warmup_length={"steps": 5}, transition_length={"share": 0.5})
    with pytest.raises(ConfigError, match="warmup_length and transition_length are given in different units"):
        mixed.begin(RunLength(progress=RunProgress(RECORDS)))
