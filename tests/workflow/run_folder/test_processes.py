"""Whether another process lives: of this machine by its number and start, of others not to be seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nequip_like.workflow.run_folder import processes
from nequip_like.workflow.run_folder.processes import Process

TELL = (
    "import json, sys\nfrom dataclasses import asdict\nfrom nequip_like.workflow.run_folder.processes import Process\n"
    "print(json.dumps(asdict(Process.current())), flush=True)\nsys.stdin.read()\n"
)


@pytest.fixture
def other():
    """A living process: itself, and what it says of itself."""
    import json

    child = subprocess.Popen([sys.executable, "-c", TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield child, Process(**json.loads(child.stdout.readline()))
    child.kill()
    child.communicate()


def test_this_one():
    assert Process.current() == Process.current()
    assert Process.current().pid == os.getpid()
    assert Process.current().is_alive() is True


def test_until_its_end(other):
    child, process = other
    assert process.machine == Process.current().machine
    assert process.is_alive() is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, but nobody has asked how: a zombie
    assert process.is_alive() is False
    child.wait()
    assert process.is_alive() is False


def test_a_number_that_is_used_again(other):
    assert replace(other[1], began="long ago").is_alive() is False


def test_of_another_machine():
    assert replace(Process.current(), machine="elsewhere").is_alive() is None


def test_a_container_is_a_machine_of_its_own(monkeypatch, tmp_path):
    """It shares host and kernel, but its process numbers mean other processes."""
    for name in ("sys/kernel/random", "self/ns"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("one-start\n")
    (tmp_path / "self/ns/pid").symlink_to("pid:[1]")
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    assert processes._identify_machine() == "one-start pid:[1]"
    (tmp_path / "self/ns/pid").unlink()
    (tmp_path / "self/ns/pid").symlink_to("pid:[2]")
    assert processes._identify_machine() == "one-start pid:[2]"


def test_where_there_is_no_proc(monkeypatch, other):
    monkeypatch.setattr(processes, "_PROC", Path("/nonexistent"))
    mine = Process.current()
    assert mine.machine == processes.platform.node()
    assert mine.is_alive() is (True if shutil.which("ps") else None)
    if shutil.which("ps"):
        assert processes._read_start_time(other[0].pid) != ""
        other[0].kill()
        os.waitid(os.P_PID, other[0].pid, os.WEXITED | os.WNOWAIT)
        assert processes._read_start_time(other[0].pid) == ""


def test_launch():
    assert processes.launch({}) == ""
    assert processes.launch({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "RANK": "1"}) == "7/0"
