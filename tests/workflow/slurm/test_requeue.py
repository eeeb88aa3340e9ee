"""When a job is queued again, with a `scontrol` of our own; tests/slurm has the real one."""

from __future__ import annotations

import signal

import pytest
from rich.console import Console

from nequip_like.workflow.slurm.requeue import requeue_after

RUNNING = "JobId=17 JobName=mgo JobState=RUNNING Reason=None PreemptTime=None Requeue=1"
PREEMPTED = RUNNING.replace("PreemptTime=None", "PreemptTime=2026-11-30T00:27:07")


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Write a `scontrol` that notes its arguments, tells of a job, and ends with a status when it is to requeue one."""

    def write(status: int = 0, job: str = RUNNING):
        script = tmp_path / "scontrol"
        script.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ "$1" = show ] && echo "{job}" && exit 0\n'
            f'echo "not allowed" >&2\nexit {status}\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return tmp_path / "asked"

    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    return write


def said(capsys, number=signal.SIGUSR1) -> str:
    requeue_after(number, Console())
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_outside_of_slurm(number, scontrol, capsys):
    asked = scontrol()
    assert said(capsys, number) == ""
    assert not asked.exists()


def test_queued_again(scontrol, capsys, monkeypatch):
    asked = scontrol()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert said(capsys) == "job 17 is queued again"
    assert asked.read_text() == "requeue 17\n"


@pytest.mark.parametrize(
    ("job", "again"),
    [
        (RUNNING, False),  # somebody ended the process
        (PREEMPTED, True),
        (RUNNING.replace("RUNNING", "TIMEOUT"), True),
        (RUNNING.replace("RUNNING", "CANCELLED"), False),
        (PREEMPTED.replace("RUNNING", "CANCELLED"), False),
    ],
)
def test_sigterm_comes_of_several_reasons(job, again, scontrol, capsys, monkeypatch):
    asked = scontrol(job=job)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert said(capsys, signal.SIGTERM) == ("job 17 is queued again" if again else "")
    assert asked.read_text() == "show job --oneliner 17\n" + "requeue 17\n" * again


def test_interrupts_end_a_job(scontrol, capsys, monkeypatch):
    asked = scontrol()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert said(capsys, signal.SIGINT) == ""
    assert not asked.exists()


def test_job_of_an_array(scontrol, capsys, monkeypatch):
    asked = scontrol()
    for name, value in (("SLURM_JOB_ID", "18"), ("SLURM_ARRAY_JOB_ID", "17"), ("SLURM_ARRAY_TASK_ID", "3")):
        monkeypatch.setenv(name, value)
    assert said(capsys) == "job 17_3 is queued again"
    assert asked.read_text() == "requeue 17_3\n"


def test_refused(scontrol, capsys, monkeypatch):
    scontrol(1)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert said(capsys) == "job 17 could not be queued again: not allowed"


def test_no_scontrol(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert said(capsys).startswith("job 17 could not be queued again: ")
    assert said(capsys, signal.SIGTERM) == ""
