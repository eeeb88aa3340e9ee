"""The age of a process, as far as it can be told without waiting."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nequip_like.training.budget import clock
from nequip_like.training.budget.clock import clock_from_now, clock_of_process

# A second before the module is imported, alone: the package takes its time.
_SCRIPT = """
import sys, time
time.sleep(1.0)
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("clock", sys.argv[1])
module = module_from_spec(spec)
spec.loader.exec_module(module)
print(module.clock_of_process()())
"""


def test_the_clock_of_a_process_began_before_the_imports():
    done = subprocess.run([sys.executable, "-c", _SCRIPT, clock.__file__], capture_output=True, text=True, check=True)
    least = 1.0 if sys.platform == "linux" else 0.0
    assert float(done.stdout) >= least


def test_clocks_go_on():
    for make in (clock_from_now, clock_of_process):
        began = make()
        first = began()
        assert 0.0 <= first <= began()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_began_with_the_fork():
    """What its parent had imported long before does not count."""
    script = (
        "import os, time\n"
        "from nequip_like.training.budget.clock import clock_of_process\n"
        "time.sleep(1.0)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    print(clock_of_process()(), flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 0.0 <= float(done.stdout) < 0.9
