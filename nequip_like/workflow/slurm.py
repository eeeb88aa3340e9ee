"""Batch jobs: a job that is about to reach its time limit asks to be queued again."""

from __future__ import annotations

import os
import subprocess

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console


@rank_zero_only
def requeue(console: Console) -> None:
    """Queue this SLURM job again; outside of SLURM nothing happens.

    SLURM sends the signal that leads here a while before the time limit, if the job script says so
    (``#SBATCH --signal=SIGUSR1@120``).
    """
    job = job_id()
    if job is None:
        return
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        problem = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        problem = str(error)
    said = f"job {job} could not be queued again: {problem}" if problem else f"job {job} is queued again"
    console.print(said, markup=False, highlight=False, soft_wrap=True)


def job_id() -> str | None:
    """This job as ``scontrol`` knows it, None outside of SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
