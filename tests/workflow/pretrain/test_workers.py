"""Processes that label: none is left behind, and what is wrong in one is told."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from nequip_like.errors import ConfigError
from nequip_like.workflow.pretrain import workers
from nequip_like.workflow.pretrain.dynamics import Steepness
from nequip_like.workflow.pretrain.jobs import FrameJob, TrajectoryJob, perform
from nequip_like.workflow.pretrain.workers import Workers, count_workers
from tests.processes import environment

COPPER = bulk("Cu", a=3.6, cubic=True)


def test_answers_of_jobs() -> None:
    """A trajectory of 4 structures with its strained start, and two frames with how steep they are."""
    jobs = [FrameJob(COPPER, (0,), True), TrajectoryJob(COPPER, 300.0, 3, (1,), False), FrameJob(COPPER, (2,), True)]
    with Workers("emt", 2) as pool:
        answers = list(pool.answer(jobs, math.inf))
    for number, job in enumerate(jobs):
        *mine, end = [answer for index, answer, _ in answers if index == number]
        assert end is None
        for one, (other, _) in zip(mine, perform(job, EMT()), strict=True):
            assert type(one) is type(other)
            if isinstance(one, Atoms):
                assert np.allclose(one.positions, other.positions, atol=1e-9)
                assert np.allclose(one.get_stress(), other.get_stress(), atol=1e-9)
            else:
                assert isinstance(one, Steepness)
                assert one == pytest.approx(other, abs=1e-9)


def test_one_that_is_killed_ends_the_run() -> None:
    with Workers("emt", 1) as pool:
        answers = pool.answer([FrameJob(COPPER, (0,))] * 100_000, math.inf)
        next(answers)
        os.kill(pool._processes[0].pid, signal.SIGKILL)
        with pytest.raises(ConfigError, match=r"teacher emt: a process that labels ended with signal 9; "):
            list(answers)


def test_what_is_wrong_in_one_is_told() -> None:
    """Anything but a failure of the calculator: here, a job that is none."""
    with Workers("emt", 1) as pool, pytest.raises(ConfigError) as caught:
        list(pool.answer(["nothing"], math.inf))  # type: ignore[list-item]
    assert caught.value.message == (
        "pretrain.teacher emt: a process that labels ended with status 1; the last that it said: "
        "AttributeError: 'str' object has no attribute 'work'"
    )


def test_the_time_is_over() -> None:
    """Whatever they do: a trajectory of an hour ends at once, and so do the processes."""
    began = time.monotonic()
    with Workers("emt", 1) as pool:
        job = TrajectoryJob(COPPER.repeat(6), 300.0, 100_000, (0,), False)
        answers = list(pool.answer([job], time.monotonic() + 0.5))
        processes = pool._processes
    assert all(answer is not None for _, answer, _ in answers)
    assert [process.returncode for process in processes] == [-signal.SIGTERM]
    assert time.monotonic() - began < 30.0


def test_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "count_usable_cores", lambda: 8)
    for given, count in (("3", 3), ("16", 8), ("2,1", 2), ("0", 8), ("", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert count_workers() == count
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert count_workers() == 8


def test_a_process_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, nequip_like.workflow.pretrain.worker\nprint([m for m in ('torch', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def _find_workers(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                status = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"nequip_like.workflow.pretrain.worker" in words and int(status[1]) == parent and status[0] != "Z":
                found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=["term", "int", "kill"])
def test_a_signal_ends_the_processes_too(number: signal.Signals, molecule_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tblite")
    command = [
        *(sys.executable, "-m", "nequip_like.cli.train", f"data.train={molecule_file}", "data.val=5"),
        *("cutoff_radius=4.0", "model.num_layers=1", "model.num_features=2", "model.kernel=batched"),
        *("pretrain.teacher=gfn2", "pretrain.frames=1000000", f"hydra.run.dir={tmp_path / 'run'}"),
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(command, cwd=tmp_path, env=environment(), **quiet)
    try:
        while not (found := _find_workers(running.pid)):
            assert running.poll() is None
            time.sleep(0.1)
        time.sleep(2.0)
        running.send_signal(number)
        running.wait(60.0)
    finally:
        running.kill()
    assert running.returncode != 0
    deadline = time.monotonic() + 20.0
    while any(Path(f"/proc/{pid}").is_dir() and _is_alive(pid) for pid in found):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
