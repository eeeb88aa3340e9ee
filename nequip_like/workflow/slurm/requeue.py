"""A job that SLURM ends before its run is done is queued again, once the run has written its checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from nequip_like.summaries import print_line

_TIME_IS_UP = "TIMEOUT"


@rank_zero_only
def requeue_after(number: signal.Signals, console: Console) -> None:
    """Queue this SLURM job again if the signal that ended training was SLURM's; outside of SLURM nothing happens.

    SIGUSR1 is what a job script asks for some time before the limit (``#SBATCH --signal=SIGUSR1@120``). SIGTERM comes
    at the limit itself, and when a job with a higher priority takes the nodes. SLURM queues a preempted job again only
    if it has to kill it: of one that ends by itself within the time of grace it says that it failed. Whoever cancels a
    job, or ends a process by hand, wants it to end.

    Args:
        number: The signal.
        console: Where to say it.
    """
    job = read_job_id()
    if job is None:
        return
    if number == signal.SIGUSR1 or (number == signal.SIGTERM and _is_ended_by_slurm(job)):
        _requeue(job, console)


def _is_ended_by_slurm(job: str) -> bool:
    """Whether a job with SIGTERM is preempted, or at the limit of its time."""
    _, text = _call_scontrol("show", "job", "--oneliner", job)
    facts = dict(word.split("=", 1) for word in text.split() if "=" in word)
    preempted = facts.get("PreemptTime", "None") not in ("None", "Unknown", "")
    return facts.get("JobState") == _TIME_IS_UP or (preempted and facts.get("JobState") != "CANCELLED")


def _requeue(job: str, console: Console) -> None:
    status, text = _call_scontrol("requeue", job)
    message = f"job {job} could not be queued again: {text.strip()}" if status else f"job {job} is queued again"
    print_line(console, message)


def _call_scontrol(*arguments: str) -> tuple[int, str]:
    """Exit status and output of ``scontrol``; of one that cannot be started the reason."""
    try:
        done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        return 1, str(error)
    return done.returncode, done.stderr if done.returncode else done.stdout


def read_job_id() -> str | None:
    """Read the number of this job as ``scontrol`` takes it; None outside of SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
