"""Limits of time as users write them. That training stops where it can go on: tests/workflow/test_resume.py."""

from __future__ import annotations

import os
import signal
from datetime import timedelta

import pytest

from nequip_like.errors import ConfigError
from nequip_like.training.budget.durations import read_duration
from nequip_like.training.graceful_stop import GracefulStop


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("00:00:00:30", 30),
        ("01:02:03:04", 86400 + 2 * 3600 + 3 * 60 + 4),
        ({"hours": 2}, 7200),
        (timedelta(minutes=1), 60),
    ],
)
def test_durations(written, seconds):
    assert read_duration(written).total_seconds() == seconds
    assert GracefulStop(max_time=written).seconds == seconds


@pytest.mark.parametrize("written", ["1 hour", "00:10:00", "a:b:c:d", {"weeks": "x"}, {"fortnights": 1}, 3.5])
def test_durations_that_cannot_be_understood(written):
    with pytest.raises(ConfigError, match=r"^max_time is") as caught:
        GracefulStop(max_time=written)
    assert caught.value.advice == "write DD:HH:MM:SS, for example 00:12:00:00"


def test_no_limits():
    stop = GracefulStop()
    assert stop.seconds is None
    assert stop.max_steps == -1


def test_a_second_signal_ends_the_process():
    """The first one is only noted."""
    pid = os.fork()
    if pid == 0:
        stop = GracefulStop()
        signal.signal(signal.SIGTERM, stop._receive_signal)
        signal.raise_signal(signal.SIGTERM)
        if stop.signal == signal.SIGTERM:
            signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
