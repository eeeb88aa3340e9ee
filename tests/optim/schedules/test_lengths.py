"""Epochs and steps."""

import pytest

from nequip_like.errors import ConfigError
from nequip_like.optim.schedules.lengths import RunLength, check_length, in_epochs, in_steps

RUN = RunLength(steps_per_epoch=79, epochs=100)


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        (10, 790),
        (10.0, 790),
        ({"epochs": 10}, 790),
        ({"steps": 790}, 790),
        (0.5, 40),  # 39.5: the nearest even one, as Python rounds
        (0.001, 1),
    ],
)
def test_in_steps(length, steps):
    check_length("T_max", length)
    assert in_steps("T_max", length, RUN) == steps


def test_units():
    assert [in_epochs(length) for length in (1, {"epochs": 1}, {"steps": 1})] == [True, True, False]


@pytest.mark.parametrize(
    ("run", "total"),
    [
        (RUN, 7900),
        (RunLength(79, 100, 500), 500),
        (RunLength(79, 2, 500), 158),
        (RunLength(79, None, 500), 500),
        (RunLength(None, 100, 500), 500),
        (RunLength(79), None),
        (RunLength(None, 100), None),
    ],
)
def test_length_of_a_run(run, total):
    assert run.total == total


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (-1, r"T_max is -1\n.*\{steps: 790\}"),
        (0, "T_max is 0"),
        (float("inf"), "T_max is inf"),
        (True, "T_max is true"),
        ({}, "T_max is {}"),
        ({"epoch": 3}, "T_max is {'epoch': 3}"),
        ({"epochs": 3, "steps": 4}, "T_max is {'epochs': 3, 'steps': 4}"),
        ({"epochs": -3}, "T_max is {'epochs': -3}"),
        ({"steps": 1.5}, r"T_max has 1\.5 steps\n.*whole number"),
    ],
)
def test_no_lengths(length, message):
    with pytest.raises(ConfigError, match=message):
        check_length("T_max", length)


def test_epochs_without_a_number_of_steps():
    with pytest.raises(ConfigError, match=r"T_0 is given in epochs, but .* no fixed number.*\n.*\{steps: 1000\}"):
        in_steps("T_0", 3, RunLength(epochs=5))
