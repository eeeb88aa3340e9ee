"""Queueing a job again, with a `scontrol` of our own: there is no SLURM here."""

from __future__ import annotations

import pytest
from rich.console import Console

from nequip_like.workflow import slurm


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Write a `scontrol` that notes its arguments and ends with a status."""

    def write(status: int):
        script = tmp_path / "scontrol"
        script.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho "not allowed" >&2\nexit {status}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return tmp_path / "asked"

    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    return write


def said(capsys) -> str:
    slurm.requeue(Console())
    return capsys.readouterr().out.strip()


def test_outside_of_slurm(scontrol, capsys):
    asked = scontrol(0)
    assert said(capsys) == ""
    assert not asked.exists()


def test_queued_again(scontrol, capsys, monkeypatch):
    asked = scontrol(0)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert said(capsys) == "job 17 is queued again"
    assert asked.read_text() == "requeue 17\n"


def test_job_of_an_array(scontrol, capsys, monkeypatch):
    asked = scontrol(0)
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
