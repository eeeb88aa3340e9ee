"""The learning rate of an optimizer, step by step: schedule times warm-up, lengths, groups, state, mistakes."""

import math

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer

from nequip_like.errors import ConfigError
from nequip_like.optim import LearningRate
from nequip_like.optim.schedules import warmup
from nequip_like.optim.schedules.lengths import RunLength

RUN = RunLength(steps_per_epoch=79, epochs=100)
LR = 5e-4


def adam(*rates: float, betas=(0.9, 0.999)) -> Optimizer:
    """Adam with a group for each learning rate."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates or (LR,)]
    return Adam(groups, lr=LR, betas=betas)


def lr(optimizer: Optimizer) -> float:
    return optimizer.param_groups[0]["lr"]


def walk(scheduler: LearningRate, steps: int) -> list[float]:
    """The learning rates of the next steps."""
    found = []
    for _ in range(steps):
        found.append(lr(scheduler.optimizer))
        scheduler.optimizer.step()
        scheduler.step()
    return found


# --- values


def test_the_known_log():
    """5e-4, ten epochs of 79 steps to warm up, a cosine over 100 epochs: 5.062e-05 after one epoch."""
    optimizer = adam()
    scheduler = LearningRate(optimizer, "cosine_annealing", "linear", warmup_length=10, T_max=100)
    scheduler.begin(RUN)
    assert lr(optimizer) == LR / 790
    walk(scheduler, 79)
    assert f"{lr(optimizer):.3e}" == "5.062e-05"
    assert lr(optimizer) == pytest.approx(LR * 0.5 * (1 + math.cos(math.pi * 79 / 7900)) * 80 / 790, rel=1e-14)


@pytest.mark.parametrize("kind", ["linear", "exponential", "untuned_linear", "untuned_exponential", "RAdam", None])
def test_the_first_steps_are_warm_ones(kind):
    """The first step is taken with the factor at 1, never with the whole learning rate."""
    length = {"warmup_length": {"steps": 6}} if kind in ("linear", "exponential") else {}
    optimizer = adam(betas=(0.9, 0.9))
    scheduler = LearningRate(optimizer, "constant", kind, **length)
    name = None if kind is None else kind.lower()
    factor = warmup.factor(name, 6, 0.9)
    assert walk(scheduler, 12) == pytest.approx([LR * factor(t) for t in range(1, 13)], rel=1e-14)


@pytest.mark.parametrize(
    ("schedule", "keys", "expected"),
    [
        ("constant", {}, lambda n: LR),
        ("linear", {"T_max": {"steps": 50}, "min_lr": 1e-4}, lambda n: max(1e-4, LR - (LR - 1e-4) * n / 50)),
        (
            "cosine",
            {"T_max": {"steps": 50}, "min_lr": 1e-4},
            lambda n: 1e-4 + 2e-4 * (1 + math.cos(math.pi * n / 50)),
        ),
        (
            "cosine_restarts",
            {"T_0": {"steps": 50}, "min_lr": 1e-4},
            lambda n: 1e-4 + 2e-4 * (1 + math.cos(math.pi * (n % 50) / 50)),
        ),
        ("exponential", {"gamma": 0.5, "step_size": {"steps": 50}}, lambda n: LR * 0.5 ** (n / 50)),
        (
            "step",
            {"gamma": 0.5, "step_size": {"steps": 50}, "min_lr": 2e-4},
            lambda n: max(2e-4, LR * 0.5 ** (n // 50)),
        ),
    ],
)
def test_schedule_times_warmup_over_three_periods(schedule, keys, expected):
    scheduler = LearningRate(adam(), schedule, "linear", warmup_length={"steps": 20}, **keys)
    assert walk(scheduler, 150) == pytest.approx([expected(n) * min(1, (n + 1) / 20) for n in range(150)], rel=1e-12)


def test_peak():
    optimizer = adam(0.01)
    keys = {"init_lr": 0.001, "final_lr": 0.002, "warmup_length": 40 / 79, "transition_length": {"steps": 100}}
    scheduler = LearningRate(optimizer, "peak", **keys)
    scheduler.begin(RUN)
    found = walk(scheduler, 200)
    assert [found[n] for n in (0, 20, 40, 90, 140, 199)] == pytest.approx([0.001, 0.0055, 0.01, 0.006, 0.002, 0.002])


def test_groups_keep_their_ratio():
    optimizer = adam(0.01, 0.002)
    scheduler = LearningRate(optimizer, "cosine", "linear", warmup_length={"steps": 5}, T_max={"steps": 9}, min_lr=1e-3)
    for _ in range(20):
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second == pytest.approx(first / 5, rel=1e-14)
        scheduler.optimizer.step()
        scheduler.step()
    assert scheduler.rates_at(9) == pytest.approx([1e-3, 2e-4])


def test_groups_with_betas_of_their_own():
    optimizer = adam(0.01, 0.01)
    optimizer.param_groups[1]["betas"] = (0.9, 0.99)
    scheduler = LearningRate(optimizer, warmup="untuned_linear")
    assert scheduler.rates_at(0) == pytest.approx([0.01 / 1999, 0.01 / 199])


def test_learning_rates_in_tensors():
    rate = torch.tensor(0.01, dtype=torch.float64)
    optimizer = Adam([torch.nn.Parameter(torch.zeros(1))], lr=rate, foreach=False, capturable=False)
    scheduler = LearningRate(optimizer, "linear", T_max={"steps": 4})
    assert walk(scheduler, 1)[0] is optimizer.param_groups[0]["lr"]
    assert float(lr(optimizer)) == 0.0075


# --- lengths


@pytest.mark.parametrize(
    ("schedule", "in_epochs", "in_steps"),
    [
        ("cosine", {"T_max": 100}, {"T_max": {"steps": 7900}}),
        ("cosine", {}, {"T_max": {"epochs": 100}}),
        ("linear", {}, {"T_max": {"steps": 7900}}),
        ("cosine_restarts", {"T_0": {"epochs": 2}, "T_mult": 2}, {"T_0": {"steps": 158}, "T_mult": 2}),
        ("exponential", {"gamma": 0.9}, {"gamma": 0.9, "step_size": {"steps": 79}}),
        ("step", {"gamma": 0.9, "step_size": 3}, {"gamma": 0.9, "step_size": {"steps": 237}}),
    ],
)
def test_epochs_are_steps(schedule, in_epochs, in_steps):
    one = LearningRate(adam(), schedule, "exponential", warmup_length=10, **in_epochs)
    two = LearningRate(adam(), schedule, "exponential", warmup_length={"steps": 790}, **in_steps)
    for scheduler in (one, two):
        scheduler.begin(RUN)
    for n in (0, 1, 395, 789, 790, 1580, 7899, 15800):
        assert one.rates_at(n) == two.rates_at(n)


def test_a_run_without_an_end():
    scheduler = LearningRate(adam(), "cosine")
    with pytest.raises(ConfigError, match=r"'cosine' takes its length from the run, which has no end\n.*give T_max"):
        scheduler.begin(RunLength(steps_per_epoch=79))
    scheduler.begin(RunLength(steps_per_epoch=79, steps=100))
    assert scheduler.lengths == {"T_max": 100}


def test_a_run_without_a_step():
    scheduler = LearningRate(adam(), "cosine")
    scheduler.begin(RunLength(79, 0))
    assert scheduler.lengths == {"T_max": 1}


def test_epochs_without_a_number_of_steps():
    scheduler = LearningRate(adam(), "cosine")
    with pytest.raises(ConfigError, match="T_max is given in epochs, but the run's epochs have no fixed number"):
        scheduler.begin(RunLength(epochs=100))
    scheduler = LearningRate(adam(), "step", gamma=0.5, step_size=3)
    with pytest.raises(ConfigError, match="step_size is given in epochs"):
        scheduler.begin(RunLength(steps=100))


def test_never_begun():
    optimizer = adam()
    scheduler = LearningRate(optimizer, "cosine", T_max=3)
    assert lr(optimizer) == LR
    optimizer.step()
    with pytest.raises(ConfigError, match=r"given in epochs, and nobody said.*\n.*begin\(RunLength"):
        scheduler.step()


# --- plateau


def plateau(optimizer: Optimizer, **keys) -> LearningRate:
    return LearningRate(optimizer, "plateau", monitor="val0_epoch/weighted_sum", **{"patience": 0, **keys})


def test_plateau_times_warmup():
    optimizer = adam()
    scheduler = plateau(optimizer, warmup="linear", warmup_length={"steps": 4}, factor=0.5)
    found = [lr(optimizer)]
    for value in (3.0, 3.0, 2.0, 2.0, 1.0):
        optimizer.step()
        scheduler.step()
        scheduler.follow(value)
        found.append(lr(optimizer))
    assert found == pytest.approx([LR * x for x in (1 / 4, 2 / 4, 3 / 8, 4 / 8, 1 / 4, 1 / 4)])


def test_plateau_is_over_below_min_lr():
    """1e-3 to 1e-6 by halves: the tenth half is 9.77e-7."""
    scheduler = plateau(adam(1e-3), factor=0.5, min_lr=1e-6)
    reductions = 0
    scheduler.follow(1.0)
    while scheduler.over is None:
        scheduler.follow(1.0)
        reductions += 1
    assert reductions == 10
    assert scheduler.over == "the learning rate 9.766e-07 is below min_lr 1.000e-06"


def test_warmup_does_not_end_it():
    """The learning rate is judged as it will be without the warm-up."""
    scheduler = plateau(adam(1e-3), warmup="linear", warmup_length={"steps": 10**6}, min_lr=1e-6)
    assert scheduler.rates_at(0) == pytest.approx([1e-9])
    assert scheduler.over is None


def test_rounding_does_not_end_it():
    """0.1^3 * 1e-3 is 1e-6 but for rounding; min_lr itself is not below min_lr."""
    scheduler = plateau(adam(1e-3), factor=0.1, min_lr=1e-6)
    for _ in range(4):
        scheduler.follow(1.0)
    assert scheduler.plateau.state.reductions == 3
    assert scheduler.over is None
    scheduler.follow(1.0)
    assert scheduler.over is not None


def test_no_end_without_min_lr():
    scheduler = plateau(adam(1e-3), factor=0.001)
    for _ in range(200):
        scheduler.follow(1.0)
    assert scheduler.over is None
    assert scheduler.rates_at(0) == [0.0]


# --- state

WAYS = {
    "warm-up": ("constant", {"warmup": "exponential", "warmup_length": {"steps": 9}}),
    "restarts": ("cosine_restarts", {"warmup": "radam", "T_0": {"steps": 4}, "T_mult": 2}),
    "plateau and warm-up": (
        "plateau",
        {"warmup": "linear", "warmup_length": {"steps": 9}, "monitor": "x", "patience": 0, "smoothing_factor": 0.3},
    ),
    "epochs": ("cosine", {"warmup": "linear", "warmup_length": 0.1, "T_max": 0.3}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at", [0, 1, 7])
def test_goes_on_from_a_state(way, at):
    schedule, keys = WAYS[way]
    values = [3.0, 2.0, 2.5, 2.4, 1.0, 5.0, 5.0, 6.0] * 2
    whole = LearningRate(adam(), schedule, **keys)
    whole.begin(RUN)
    found, state = [], None
    for n in range(16):
        if n == at:
            state = whole.state_dict(), whole.optimizer.state_dict()
        found.append(walk(whole, 1)[0])
        whole.follow(values[n])
    rest = LearningRate(adam(), schedule, **keys)
    rest.optimizer.load_state_dict(state[1])
    rest.load_state_dict(state[0])
    rest.begin(RUN)
    for n in range(at, 16):
        assert walk(rest, 1)[0] == found[n]
        rest.follow(values[n])
    assert rest.state_dict() == whole.state_dict()


def test_lengths_stay_those_of_the_first_run():
    one = LearningRate(adam(), "cosine", T_max=100)
    one.begin(RUN)
    walk(one, 3)
    two = LearningRate(adam(), "cosine", T_max=100)
    two.load_state_dict(one.state_dict())
    with pytest.warns(UserWarning, match="goes on as it began: T_max is 7900 steps, .* would make it 15800"):
        two.begin(RunLength(158, 100))
    assert lr(two.optimizer) == lr(one.optimizer)


@pytest.mark.parametrize("warmup_length", [{"share": 0.25}, {"steps": 2}])
def test_shares_are_of_the_run_as_it_is_now(warmup_length):
    """Made twice as long halfway, a run is at a quarter of its schedule, and comes down at its new end."""
    keys = {"T_max": None, "warmup": "linear", "warmup_length": warmup_length, "min_lr": 0.0}
    one = LearningRate(adam(), "cosine", **keys)
    one.begin(RunLength(steps=8))
    walk(one, 4)
    two = LearningRate(adam(), "cosine", **keys)
    two.load_state_dict(one.state_dict())
    with pytest.warns(UserWarning, match="not as long as when it began") as told:
        two.begin(RunLength(steps=16))
    (message,) = (str(warning.message) for warning in told)
    assert f"{two.rates_at(4)[0]:.3g} at first: " in message
    assert message.endswith("T_max is 16 steps, and was 8 steps")
    whole = LearningRate(adam(), "cosine", **keys)
    whole.begin(RunLength(steps=16))
    assert [two.rates_at(n) for n in (4, 8, 15)] == [whole.rates_at(n) for n in (4, 8, 15)]
    assert two.rates_at(16) == [0.0]


def test_a_length_stays_in_a_run_that_has_none():
    one = LearningRate(adam(), "cosine")
    one.begin(RUN)
    two = LearningRate(adam(), "cosine")
    two.load_state_dict(one.state_dict())
    with pytest.warns(UserWarning, match="T_max is 7900 steps, where this run would make it endless"):
        two.begin(RunLength(79))


def test_state_of_another_schedule():
    scheduler = LearningRate(adam(), "cosine", T_max={"steps": 3})
    with pytest.raises(ConfigError, match="another schedule, with the lengths T_0"):
        scheduler.load_state_dict({"steps": 3, "lengths": {"T_0": 5}, "plateau": {}})


# --- mistakes


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"warmup": "linaer"}, "did you mean 'linear'"),
        ({"schedule": "cosine_restarts"}, "T_0 is not given"),
        ({"schedule": "cosine", "T_max": -3}, "T_max is -3"),
        ({"schedule": "cosine", "T_max": "ten"}, "T_max is 'ten'"),
        ({"schedule": "cosine_restarts", "T_0": 3, "T_mult": 0}, r"T_mult is 0\n.*1 or more"),
        ({"schedule": "cosine", "min_lr": -1e-5}, r"min_lr is -1e-05\n.*0 or more"),
        ({"schedule": "cosine", "min_lr": 1.0}, "min_lr is 1, above the optimizer's learning rate, 0.0005"),
        ({"schedule": "exponential", "gamma": 1.5}, r"gamma is 1\.5"),
        ({"schedule": "exponential"}, "gamma is not given"),
        ({"schedule": "plateau", "monitor": "x", "factor": 1.0}, r"factor is 1\.0\n.*below 1"),
        ({"schedule": "plateau", "monitor": "x", "smoothing_factor": 1.0}, r"smoothing_factor is 1\.0"),
        ({"schedule": "plateau", "monitor": "x", "monitor_interval": "batch"}, "monitor_interval is 'batch'"),
        ({"warmup": "linear", "warmup_length": -1}, "warmup_length is -1"),
    ],
)
def test_mistakes(keys, message):
    with pytest.raises(ConfigError, match=message):
        LearningRate(adam(), **keys)


@pytest.mark.parametrize("kind", ["untuned_linear", "untuned_exponential", "radam"])
def test_an_optimizer_without_betas(kind):
    with pytest.raises(ConfigError, match="the optimizer has no betas"):
        LearningRate(SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1), warmup=kind)


def test_radam_with_a_small_beta2():
    with pytest.raises(ConfigError, match=r"beta2 is 0\.6\n.*above 0\.6 and below 1"):
        LearningRate(adam(betas=(0.9, 0.6)), warmup="radam")


def test_learning_rates_of_zero():
    with pytest.raises(ConfigError, match="all learning rates of the optimizer are 0"):
        LearningRate(adam(0.0, 0.0))
