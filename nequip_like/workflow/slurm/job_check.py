"""Whether the runs of a job can work, as far as it is known before the job waits for hours to begin."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nequip_like.errors import ConfigError
from nequip_like.workflow.config.check import CheckedConfig
from nequip_like.workflow.slurm.job_script import SlurmJob


def check_run_of_job(checked: CheckedConfig, job: SlurmJob) -> None:
    """Refuse a run that a job of this size cannot do.

    Args:
        checked: The config of the run, with the overrides of the script, which is sound in itself.
        job: The job.

    Raises:
        ConfigError: Naming key or option.
    """
    _check_accelerator(checked.values["trainer"], job)
    if "train" not in checked.tasks:
        raise ConfigError(
            f"run is {list(checked.tasks)}, and tests take one process",
            "write run=[train,test], or call nequip-test in a job of one task",
        )


def _check_accelerator(trainer: Mapping[str, Any], job: SlurmJob) -> None:
    accelerator = trainer.get("accelerator", "auto")
    if job.gpus_per_node and accelerator == "cpu":
        raise ConfigError("trainer.accelerator is cpu, but GPUs are asked for", "leave out --gpus-per-node")
    if not job.gpus_per_node and accelerator in ("gpu", "cuda"):
        raise ConfigError(
            f"trainer.accelerator is {accelerator}, but no GPUs are asked for", "give --gpus-per-node=4, say"
        )


def submit(path: Path) -> str:
    """Submit a script.

    Args:
        path: The script.

    Returns:
        What ``sbatch`` says, which has the number of the job.

    Raises:
        ConfigError: If there is no ``sbatch``, or it refuses the script.
    """
    program = shutil.which("sbatch")
    if program is None:
        raise ConfigError("there is no sbatch here", f"submit it where SLURM is: sbatch {path}")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"sbatch refused {path}: {done.stderr.strip()}", "change the options of nequip-slurm")
    return done.stdout.strip()
