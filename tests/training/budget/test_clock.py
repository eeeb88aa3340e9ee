"""The age of a process, as far as it can be told without waiting."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nequip_like.training.budget import clock
from nequip_like.training.budget.clock import clock_from_now, clock_of_process

# The module alone: the package takes its time.
_LOAD = """
import os, sys, time
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("clock", sys.argv[1])
clock = module_from_spec(spec)
{before}
spec.loader.exec_module(clock)
{after}
"""


def _print_age(before: str, after: str) -> float:
    script = _LOAD.format(before=before, after=after)
    done = subprocess.run([sys.executable, "-c", script, clock.__file__], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_the_clock_of_a_process_began_before_the_imports():
    age = _print_age("time.sleep(1.0)", "print(clock.clock_of_process()())")
    assert age >= (1.0 if sys.platform == "linux" else 0.0)


def test_clocks_go_on():
    for make in (clock_from_now, clock_of_process):
        began = make()
        first = began()
        assert 0.0 <= first <= began()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_began_with_the_fork():
    """What its parent had imported long before does not count."""
    in_child = "print(clock.clock_of_process()(), flush=True); os._exit(0)"
    age = _print_age("", f"time.sleep(1.0)\nif not os.fork(): {in_child}\nos.wait()")
    assert 0.0 <= age < 0.9
