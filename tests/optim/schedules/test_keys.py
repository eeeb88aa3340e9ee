"""What schedules and warm-ups are called, and which keys they take."""

import pytest

from nequip_like.errors import ConfigError
from nequip_like.optim.schedules.keys import check_schedule_keys, schedule_name, warmup_name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("cosine", "cosine"),
        ("Cosine", "cosine"),
        ("cosine_annealing", "cosine"),
        ("Cosine-Annealing", "cosine"),
        ("cosine_restarts", "cosine_restarts"),
        ("COSINE_ANNEALING_WARM_RESTARTS", "cosine_restarts"),
        ("plateau", "plateau"),
        ("reduce_on_plateau", "plateau"),
        ("linear_decay", "linear"),
        ("linear", "linear"),
        ("exponential", "exponential"),
        ("step", "step"),
        ("peak", "peak"),
        ("constant", "constant"),
        ("none", "constant"),
    ],
)
def test_schedules(written, name):
    assert schedule_name(written) == name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (None, None),
        ("none", None),
        ("null", None),
        ("Linear", "linear"),
        ("exponential", "exponential"),
        ("untuned_linear", "untuned_linear"),
        ("Untuned-Exponential", "untuned_exponential"),
        ("RAdam", "radam"),
    ],
)
def test_warmups(written, name):
    assert warmup_name(written) == name


def test_misspelt():
    with pytest.raises(ConfigError, match=r"schedule is 'cosin'\n.*did you mean 'cosine'\?"):
        schedule_name("cosin")
    with pytest.raises(ConfigError, match=r"warmup is 'untuned_linaer'\n.*did you mean 'untuned_linear'\?"):
        warmup_name("untuned_linaer")
    with pytest.raises(ConfigError, match=r"schedule is 'xyz'\n  -> there are constant, cosine, "):
        schedule_name("xyz")


@pytest.mark.parametrize(
    ("schedule", "warmup", "given", "message"),
    [
        ("cosine_restarts", None, {}, "T_0 is not given, which the schedule 'cosine_restarts' needs"),
        ("step", None, {"gamma": 0.5}, "step_size is not given"),
        ("plateau", None, {}, "monitor is not given"),
        ("peak", None, {"init_lr": 0, "final_lr": 0, "warmup_length": 1}, "transition_length is not given"),
        ("constant", "linear", {}, "warmup_length is not given, which warmup: linear needs"),
        ("cosine", None, {"warmup_length": 3}, r"warmup_length is given, but warmup is null\n.*linear or exponential"),
        ("cosine", "radam", {"warmup_length": 3}, "warmup_length is given, but warmup is 'radam'"),
        ("cosine", None, {"patience": 3}, r"patience is given, but the schedule 'cosine' has no use for it\n.*T_max, "),
        ("constant", None, {"min_lr": 3}, r"min_lr is given, .*\n  -> take it out"),
        ("peak", "linear", {}, "'peak' has a warm-up of its own"),
    ],
)
def test_keys_that_do_not_fit(schedule, warmup, given, message):
    with pytest.raises(ConfigError, match=message):
        check_schedule_keys(schedule, warmup, given)
