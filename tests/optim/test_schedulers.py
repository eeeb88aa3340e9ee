"""From configs to schedules, and the steps that are not left to Lightning."""

import math

import pytest
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from nequip_like.errors import ConfigError
from nequip_like.optim.schedulers import PlateauSchedule, build_scheduler


def sgd(lr: float = 1.0) -> Optimizer:
    return SGD(nn.Linear(2, 1).parameters(), lr=lr)


def rates(optimizer: Optimizer, scheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


# --- schedules


def test_scheduler_alone_and_in_lightnings_form():
    alone = {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.5}
    assert build_scheduler(alone, sgd()).keys() == {"scheduler"}
    entry = build_scheduler({"scheduler": alone, "interval": "step", "frequency": 3}, sgd())
    assert entry["scheduler"].gamma == 0.5
    assert (entry["interval"], entry["frequency"]) == ("step", 3)


def test_sequential():
    optimizer = sgd(0.8)
    config = {
        "_target_": "torch.optim.lr_scheduler.SequentialLR",
        "milestones": [2],
        "schedulers": [
            {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 0.25, "total_iters": 100},
            {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 1, "gamma": 0.5},
        ],
    }
    scheduler = build_scheduler(config, optimizer)["scheduler"]
    assert rates(optimizer, scheduler, 5) == pytest.approx([0.2, 0.2, 0.8, 0.4, 0.2])


def test_sequential_within_chained():
    optimizer = sgd(1.0)
    config = {
        "scheduler": {
            "_target_": "torch.optim.lr_scheduler.ChainedScheduler",
            "schedulers": [
                {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.5},
                {
                    "_target_": "torch.optim.lr_scheduler.SequentialLR",
                    "milestones": [2],
                    "schedulers": [
                        {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0, "total_iters": 100},
                        {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.1},
                    ],
                },
            ],
        }
    }
    scheduler = build_scheduler(config, optimizer)["scheduler"]
    found = rates(optimizer, scheduler, 4)
    assert found[:2] == pytest.approx([1.0, 0.5])
    assert found[3] == pytest.approx(0.05 * found[2])


def test_chained():
    optimizer = sgd(1.0)
    config = {
        "_target_": "torch.optim.lr_scheduler.ChainedScheduler",
        "schedulers": [
            {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.5},
            {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.1},
        ],
    }
    scheduler = build_scheduler(config, optimizer)["scheduler"]
    assert rates(optimizer, scheduler, 3) == pytest.approx([1.0, 0.05, 0.0025])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"gamma": 0.1}, "lr_scheduler has no _target_"),
        ({"scheduler": {"gamma": 0.1}}, "lr_scheduler has no _target_"),
        ({"_target_": "torch.optim.lr_scheduler.ExpLR"}, "ExpLR cannot be built"),
        ({"_target_": "torch.optim.lr_scheduler.StepLR"}, "step_size"),
        ({"_target_": "torch.optim.lr_scheduler.SequentialLR", "schedulers": [{"gamma": 1}]}, "no _target_"),
        (
            {"scheduler": {"_target_": "torch.optim.lr_scheduler.ExponentialLR"}, "monitr": "x"},
            "'monitr'\n.*did you mean 'monitor'",
        ),
        ({"scheduler": {"_target_": "torch.optim.lr_scheduler.ExponentialLR"}, "interval": "day"}, "interval is 'day'"),
    ],
)
def test_schedules_that_cannot_be_built(config, message):
    with pytest.raises(ConfigError, match=message):
        build_scheduler(config, sgd())


# --- the schedule that follows a metric


def plateau(**changes) -> dict:
    config = {
        "scheduler": {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "factor": 0.5, "patience": 0},
        "monitor": "val0_epoch/weighted_sum",
        **changes,
    }
    return build_scheduler(config, sgd())


def test_plateau_steps_at_new_values_only():
    entry = plateau()
    own = PlateauSchedule.take_over(entry)
    assert own is not None
    rate = entry["scheduler"].optimizer.param_groups[0]
    found = []
    for epoch, (value, validated) in enumerate([(1.0, True), (1.0, False), (1.0, True), (0.5, True), (0.9, True)]):
        own.note("val0_epoch/weighted_sum" if validated else "train_loss_epoch/weighted_sum")
        own.after_epoch({"val0_epoch/weighted_sum": value}, epoch + 1, validated)
        found.append(rate["lr"])
    assert found == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_plateau_with_frequency_and_training_metric():
    own = PlateauSchedule.take_over(plateau(frequency=2, monitor="train_loss_epoch/weighted_sum"))
    assert own is not None
    seen = []
    own.scheduler.step = seen.append
    for epoch in range(4):
        own.note("train_loss_epoch/weighted_sum")
        own.after_epoch({"train_loss_epoch/weighted_sum": epoch}, epoch + 1, False)
        own.after_step({"train_loss_epoch/weighted_sum": epoch}, epoch + 1)  # not for this one
    assert seen == [1, 3]


def test_lightning_keeps_the_state_of_the_plateau_but_does_not_step_it():
    entry = plateau()
    PlateauSchedule.take_over(entry)
    assert isinstance(entry["scheduler"], ReduceLROnPlateau)
    assert entry["frequency"] > 1e9


def test_other_schedules_are_left_to_lightning():
    entry = build_scheduler({"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.5}, sgd())
    assert PlateauSchedule.take_over(entry) is None


def test_plateau_by_steps():
    entry = plateau(interval="step", frequency=2)
    own = PlateauSchedule.take_over(entry)
    assert own is not None
    assert entry["frequency"] > 1e9
    seen = []
    own.scheduler.step = seen.append
    own.after_epoch({"val0_epoch/weighted_sum": -1}, 2, True)  # not for this one
    own.after_step({}, 2)  # before the first validation
    for number in (3, 4, 4, 5, 6):  # while gradients accumulate, the number of steps stays
        own.note("val0_epoch/weighted_sum")
        own.after_step({"val0_epoch/weighted_sum": number}, number)
    assert seen == [4, 6]
    assert own.done == 6


def test_by_steps_a_value_counts_once():
    """Ten steps, validations after steps 2, 3 and 8: three values, of which none but the first is an improvement."""
    entry = plateau(interval="step")
    own = PlateauSchedule.take_over(entry)
    assert own is not None
    rate = entry["scheduler"].optimizer.param_groups[0]
    found = []
    for number in range(1, 11):
        if number in (2, 3, 8):
            own.note("val0_epoch/weighted_sum")
        own.after_step({"val0_epoch/weighted_sum": 1.0}, number)
        found.append(rate["lr"])
    assert found == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_by_every_third_step_the_last_of_several_values_counts():
    own = PlateauSchedule.take_over(plateau(interval="step", frequency=3))
    assert own is not None
    seen = []
    own.scheduler.step = seen.append
    for number in range(1, 10):
        if number in (1, 2, 4):
            own.note("val0_epoch/weighted_sum")
        own.after_step({"val0_epoch/weighted_sum": number}, number)
    assert seen == [3, 6]  # what is logged at the time of looking; nothing new at step 9


def test_plateau_without_its_metric():
    with pytest.raises(ConfigError, match=r"monitor is not given\n.*val0_epoch/weighted_sum"):
        PlateauSchedule.take_over(plateau(monitor=None))
    own = PlateauSchedule.take_over(plateau())
    assert own is not None
    with pytest.raises(ConfigError, match=r"'val0_epoch/weighted_sum', which is not logged\n.*val0_epoch/forces_rmse"):
        own.after_epoch({"val0_epoch/forces_rmse": math.pi}, 1, True)
