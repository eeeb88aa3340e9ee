"""The script of a job that trains with several tasks: what ``nequip-slurm`` writes."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nequip_like.errors import ConfigError, OutputError
from nequip_like.whole_files import output_errors, written_whole

#: First words of each script, by which one of ours is known.
WRITTEN_BY = "# Written by nequip-slurm"
_UNITS = (1, 60, 3600, 86400)  # seconds, minutes, hours, days
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
# Overrides that the script gives itself, and the option that decides each.
_OURS = {
    "trainer.num_nodes": "--nodes",
    "trainer.devices": "--gpus-per-node or --tasks-per-node",
    "trainer.strategy": "the number of tasks",
    "hydra.run.dir": "--run-dir",
    "hydra.sweep.dir": "--run-dir",
    "hydra.sweep.subdir": "the script: it is the number of the run",
    "hydra/launcher": "the script: SLURM begins the runs",
    "hydra.mode": "-m",
    "output_dir": "--run-dir",
    "resume": "the script: it goes on in its folder, or begins",
    "ckpt_path": "the script: to begin with the weights of another run give finetune.source=RUN",
}


@dataclass(frozen=True)
class SlurmJob:
    """What is asked of SLURM, and what is run.

    Args:
        config: The words behind ``nequip-train`` that name the config: ``["config.yaml"]``.
        nodes: Machines.
        tasks_per_node: Processes on each machine: one for each GPU, or on CPUs as many as share its cores.
        gpus_per_node: GPUs of each machine; 0 for a training on CPUs.
        cpus_per_task: Cores of each process.
        time: Limit of the job in SLURM's words: ``08:00:00``, ``2-00:00:00``, or minutes.
        name: Name of the job.
        run_dir: Folder of the run, the same each time that the job runs.
        overrides: ``key=value`` for each run.
        runs: Overrides that vary, of each task of an array; none: one run.
        signal_seconds: How long before its limit the job is told of it.
        options: Further options of sbatch, such as ``--partition=gpu``.
        setup: Lines of bash before the run, such as ``module load cuda``.
        folder: Where relative paths begin, and where the script changes to.

    Raises:
        ConfigError: If it cannot work, naming the option.
    """

    config: Sequence[str]
    nodes: int
    tasks_per_node: int
    gpus_per_node: int
    cpus_per_task: int
    time: str
    name: str
    run_dir: str
    overrides: Sequence[str] = ()
    runs: Sequence[Sequence[str]] = ()
    signal_seconds: int = 300
    options: Sequence[str] = ()
    setup: Sequence[str] = ()
    folder: Path = field(default_factory=Path.cwd)

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        counts = {
            "--nodes": self.nodes,
            "--tasks-per-node": self.tasks_per_node,
            "--cpus-per-task": self.cpus_per_task,
            "--signal-before": self.signal_seconds,
        }
        for option, number in counts.items():
            if number < 1:
                raise ConfigError(f"{option} is {number}", "give a whole number, 1 or more")
        if self.gpus_per_node not in (0, self.tasks_per_node):
            raise ConfigError(
                f"there are {self.gpus_per_node} GPUs and {self.tasks_per_node} tasks on each node",
                "leave out --tasks-per-node: each GPU gets one task",
            )
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"the name of the job is '{self.name}'", "give letters, digits and ._+-: --name=mgo")
        if self.signal_seconds >= (seconds := read_time(self.time)):
            raise ConfigError(
                f"--time is {seconds} s, and the run is to be told {self.signal_seconds} s before its end",
                "give more time, or a smaller --signal-before, more than a step, a validation and a checkpoint take",
            )
        if "${now:" in self.run_dir:
            raise ConfigError(
                f"--run-dir is '{self.run_dir}', another folder each time that the job runs",
                "give one that stays: --run-dir=runs/NAME",
            )
        self._check_overrides()
        for option in self.options:
            if not option.startswith("--"):
                raise ConfigError(f"--sbatch is '{option}'", "write an option of sbatch: --sbatch=--mem=64G")

    def _check_overrides(self) -> None:
        for override in (*self.overrides, *itertools.chain(*self.runs)):
            key, _, _ = override.lstrip("+~").partition("=")
            if override.startswith("-") or (not override.startswith("~") and "=" not in override):
                raise ConfigError(f"'{override}' is no override", "write key=value, as behind nequip-train")
            if key in _OURS:
                raise ConfigError(f"{key} is decided by {_OURS[key]}", f"leave out {override}")

    @property
    def processes(self) -> int:
        """Number of processes of a run."""
        return self.nodes * self.tasks_per_node

    def list_own_overrides(self) -> list[str]:
        """Overrides that a run gets from the script, as they are known before SLURM starts it."""
        own = [f"trainer.num_nodes={self.nodes}", f"trainer.devices={self.tasks_per_node}"]
        own += [f"trainer.accelerator={'gpu' if self.gpus_per_node else 'cpu'}"] if not self._has_accelerator() else []
        return [*own, f"trainer.strategy={'ddp' if self.processes > 1 else 'auto'}", "resume=auto"]

    def _has_accelerator(self) -> bool:
        return any(override.startswith("trainer.accelerator=") for override in self.overrides)


def read_time(text: str) -> int:
    """Seconds of a limit as sbatch takes it.

    Args:
        text: Minutes, ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` or ``D-HH:MM:SS``.

    Raises:
        ConfigError: If it is none of these.

    Example:
        >>> read_time("90"), read_time("08:00:00"), read_time("2-12")
        (5400, 28800, 216000)
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise ConfigError(f"--time is '{text}'", "write HH:MM:SS, or D-HH:MM:SS for days: --time=08:00:00")
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    first = 2 if days is not None or len(numbers) == 3 else 1  # hours, else minutes
    units = _UNITS[first::-1]
    return int(days or 0) * _UNITS[3] + sum(n * unit for n, unit in zip(numbers, units, strict=False))


def write_script(job: SlurmJob, path: Path) -> None:
    """Write the script of a job.

    Args:
        job: The job.
        path: The file. A script of ours is written over.

    Raises:
        OutputError: If another file is there, or it cannot be written.
    """
    with output_errors(path):
        if path.is_file() and WRITTEN_BY not in path.read_text(errors="replace")[:200]:
            raise OutputError(f"{path} is there, and not written by nequip-slurm", "give another name: --output FILE")
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            partial.write_text(format_script(job, path))
            partial.chmod(0o755)


def format_script(job: SlurmJob, path: Path) -> str:
    """The text of a job's script.

    Args:
        job: The job.
        path: Where it will be, for the comment that says how to submit it.
    """
    lines = ["#!/bin/bash", *_comment(job, path), "", *_ask(job), "", "set -euo pipefail"]
    lines += [f"cd {shlex.quote(str(job.folder))}", ""]
    lines += [*job.setup, ""] if job.setup else []
    lines += _set_environment(job)
    lines += _choose_of_array(job) if job.runs else [f"RUN={shlex.quote(job.run_dir)}"]
    lines += ["", *_run(job)]
    return "\n".join(lines) + "\n"


def _comment(job: SlurmJob, path: Path) -> list[str]:
    hardware = f"with {job.gpus_per_node} GPUs each" if job.gpus_per_node else "without GPUs"
    nodes = f"{job.nodes} nodes" if job.nodes > 1 else "one node"
    runs = f"{len(job.runs)} runs, each on " if job.runs else ""
    return [
        f"{WRITTEN_BY}: {runs}{nodes} {hardware}, {job.processes} processes of nequip-train.",
        "#",
        f"#   sbatch {path.name}",
        "#",
        f"# {job.signal_seconds} s before the time limit, and when a job with a higher priority takes the nodes,",
        "# the run writes a checkpoint and queues this job again, which goes on from there until the training is done.",
        "# Submitted once more it goes on as well: after more epochs were asked for, or after the job was cancelled.",
    ]


def _ask(job: SlurmJob) -> list[str]:
    """Lines for sbatch."""
    asked: list[Any] = [
        f"--job-name={job.name}",
        f"--nodes={job.nodes}",
        "# One process for each GPU." if job.gpus_per_node else "# Processes on each node, which share its cores.",
        f"--ntasks-per-node={job.tasks_per_node}",
        *([f"--gpus-per-node={job.gpus_per_node}"] if job.gpus_per_node else []),
        f"--cpus-per-task={job.cpus_per_task}",
        f"--time={job.time}",
        "# To the processes, before the limit: more than the longest step, validation and checkpoint take.",
        f"--signal=SIGUSR1@{job.signal_seconds}",
        "--requeue",
        "# The log goes on, too.",
        "--open-mode=append",
        f"--output={job.name}-{'%A_%a' if job.runs else '%j'}.log",
        *([f"--array=0-{len(job.runs) - 1}"] if job.runs else []),
        *job.options,
    ]
    return [line if line.startswith("#") else f"#SBATCH {line}" for line in asked]


def _set_environment(job: SlurmJob) -> list[str]:
    lines = [
        'export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"',
        "# srun does not take it from sbatch any more (SLURM 22.05 and later).",
        'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
    ]
    if job.nodes > 1:
        lines += [
            "# If the processes do not find each other, name the network between the nodes (ip -brief address):",
            f"# export {'NCCL' if job.gpus_per_node else 'GLOO'}_SOCKET_IFNAME=ib0",
        ]
    return [*lines, ""]


def _choose_of_array(job: SlurmJob) -> list[str]:
    """The values of this task of the array, by its number."""
    return [
        "# The table of runs: what each task of the array is given, by its number.",
        'case "$SLURM_ARRAY_TASK_ID" in',
        *(f"    {number}) CHOSEN=({' '.join(map(shlex.quote, varied))}) ;;" for number, varied in enumerate(job.runs)),
        "esac",
        f'RUN={shlex.quote(job.run_dir)}/"$SLURM_ARRAY_TASK_ID"',
    ]


def _run(job: SlurmJob) -> list[str]:
    words = ["srun", "--kill-on-bad-exit=1", "nequip-train", *job.config]
    lines = ["# One command for the begin and for going on: resume=auto takes the newest checkpoint in the folder."]
    if job.runs:
        words.append("--one-of-several")
        lines.append(f"# A run that ends writes the table of those that have: {job.run_dir}/runs.csv, and runs.png.")
    arguments = [*job.list_own_overrides(), *job.overrides]
    lines.append(" ".join(map(shlex.quote, words)) + " \\")
    lines += [f"    {shlex.quote(argument)} \\" for argument in arguments]
    lines += ['    "${CHOSEN[@]}" \\'] if job.runs else []
    return [*lines, '    hydra.run.dir="$RUN"']
