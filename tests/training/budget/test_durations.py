"""Times as users write them."""

from __future__ import annotations

import pytest

from nequip_like.errors import ConfigError
from nequip_like.training.budget.durations import Budget, format_seconds, read_budget


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        *(("90s", 90), ("30min", 1800), ("2h", 7200), ("1h30min", 5400), ("1h 30min", 5400), ("1.5h", 5400)),
        *(("1d", 86400), ("00:12:30:01", 45001), ("0.5s", 0.5)),
    ],
)
def test_times(written, seconds):
    assert read_budget(written) == Budget(seconds)


@pytest.mark.parametrize(
    "written", ["30", 30, "", "min", "30m", "30min1h", "1h1h", "0s", "-5s", "12:30:00", "5 minutes", {"repeat": 3}, []]
)
def test_what_is_no_time(written):
    with pytest.raises(ConfigError, match=r"^budget is .*\n  -> write a time, such as 90s, 30min, 1h30min or DD:HH:MM"):
        read_budget(written)


def test_no_budget_and_a_run_to_repeat():
    assert read_budget(None) is None
    assert read_budget({"repeat": "RUN/budget.json"}) == Budget(repeat="RUN/budget.json")


def test_what_is_written_can_be_read():
    for seconds in (90.0, 1800.0, 93784.0):
        assert read_budget(format_seconds(seconds)) == Budget(seconds)
