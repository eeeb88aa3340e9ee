"""Processes of a run, which are tasks of a SLURM job or not: which of them work together, and whether they can."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from nequip_like.errors import ConfigError
from nequip_like.process_settings import rank

_INTERACTIVE = ("bash", "interactive")  # names of jobs by which Lightning knows a shell
_FIRST_SPECIAL_STEP = 2**32 - 16  # the batch script, an interactive shell and others have the numbers from here on


def choose_cluster_environment(trainer: Mapping[str, Any]) -> ClusterEnvironment:
    """Choose how the processes of a run find each other.

    Lightning would choose by itself, but takes a shell or script with several tasks for one of several processes, and
    waits for the others for ever; and where ``srun`` is installed and not used, it warns in each process.

    Args:
        trainer: Arguments of the trainer.

    Raises:
        ConfigError: As :func:`check_slurm_tasks`.
    """
    check_slurm_tasks(trainer)
    if TorchElasticEnvironment.detect():  # torchrun also works within a job
        return TorchElasticEnvironment()
    tasks = _read_number("SLURM_NTASKS") if _is_task() else None
    if tasks is not None and (tasks > 1 or count_processes(trainer) == 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # by the job's name it may take this for a shell, and advise srun
            # Lightning would answer the signal before the time limit in its own way, and later go on from a file that
            # happens to lie in the current folder.
            return SLURMEnvironment(auto_requeue=False)
    environments = (LSFEnvironment, MPIEnvironment)
    return next((kind() for kind in environments if kind.detect()), LightningEnvironment())


def check_slurm_tasks(trainer: Mapping[str, Any]) -> None:
    """Refuse a SLURM job whose processes would wait for each other for ever, or each train alone.

    Args:
        trainer: Arguments of the trainer.

    Raises:
        ConfigError: If a job with several tasks was not started by ``srun``, or devices and nodes are not its tasks.
    """
    tasks = _read_number("SLURM_NTASKS") or 1
    if tasks == 1 or not _is_task() or TorchElasticEnvironment.detect() or _has_named_environment(trainer):
        return
    if not _is_of_srun():
        raise ConfigError(
            f"this SLURM job has {tasks} tasks, but the command was not started by srun",
            "write srun before the command, or ask for one task: --ntasks=1, with --cpus-per-task for its threads",
        )
    on_node = _read_number("SLURM_NTASKS_PER_NODE")
    if on_node is None:
        raise ConfigError(
            f"this SLURM job has {tasks} tasks, but does not say how many run on each node",
            f"write --nodes and --ntasks-per-node in place of --ntasks={tasks}",
        )
    nodes, devices = trainer.get("num_nodes", 1), _count_devices(trainer)
    if (job_nodes := _read_number("SLURM_NNODES")) not in (None, nodes):
        raise ConfigError(
            f"trainer.num_nodes is {nodes}, but this SLURM job has {job_nodes} nodes",
            f"write trainer.num_nodes={job_nodes}",
        )
    if devices not in (None, on_node):
        raise ConfigError(
            f"trainer.devices makes {devices} processes on each node, but this SLURM job has {on_node} tasks there",
            f"write trainer.devices={on_node}, or --ntasks-per-node={devices}",
        )
    if (processes := count_processes(trainer)) not in (None, tasks):
        raise ConfigError(
            f"trainer.devices and trainer.num_nodes make {processes} processes, but srun started {tasks}",
            "make both the same: trainer.devices tasks on each of trainer.num_nodes nodes",
        )


def _is_task() -> bool:
    """Whether this process counts as a task of a job; a shell in an allocation does not."""
    if any(_read_number(f"SLURM_{name}") is None for name in ("NTASKS", "PROCID", "LOCALID", "NODEID")):
        return False
    if _is_of_srun():
        return not any(name.startswith("SLURM_PTY") for name in os.environ)  # srun --pty bash
    return os.environ.get("SLURM_JOB_NAME") not in _INTERACTIVE and _read_number("SLURM_STEP_ID") is None


def _is_of_srun() -> bool:
    """Whether ``srun`` started this process: in a batch script the first task's number is set, but no step's."""
    step = _read_number("SLURM_STEP_ID")
    return bool(_read_number("SLURM_PROCID")) or (step is not None and step < _FIRST_SPECIAL_STEP)


def _read_number(name: str) -> int | None:
    """Read a number from the environment; None if there is none.

    Raises:
        ConfigError: If it is no number.
    """
    text = os.environ.get(name)
    if not text:
        return None
    if not text.isdecimal():
        raise ConfigError(f"the environment variable {name} is '{text}', which is no number", f"unset {name}")
    return int(text)


def _has_named_environment(trainer: Mapping[str, Any]) -> bool:
    """Whether the user's plugins say how processes find each other."""
    plugins = trainer.get("plugins") or []
    return any(
        str(plugin.get("_target_")).endswith("Environment")
        for plugin in (plugins if isinstance(plugins, list) else [plugins])
        if isinstance(plugin, Mapping)
    )


def check_processes(trainer: Mapping[str, Any]) -> None:
    """Refuse a further process of a launcher for a run that has one: it would be a second run in the same folder.

    Args:
        trainer: The values of the section.

    Raises:
        ConfigError: If this process is not the first, and the config asks for one.
    """
    place = rank()
    is_single = (
        trainer.get("devices") == 1 and trainer.get("num_nodes", 1) == 1 and trainer.get("strategy") in (None, "auto")
    )
    if place and is_single:
        raise ConfigError(
            f"a launcher started several processes, this is number {place} (from 0), but the config asks for one",
            "give trainer.devices=N with the number of processes on a machine, or start the command once",
        )


def check_single_process(trainer: Mapping[str, Any]) -> None:
    """Refuse several processes for the runs of a ``--multirun``: each process would begin all the runs again.

    Args:
        trainer: The values of the section.

    Raises:
        ConfigError: If a run has several, or a launcher started this one beside others.
    """
    check_processes(trainer)
    number = count_processes(trainer)
    if number is not None and number > 1:
        raise ConfigError(
            f"--multirun goes with runs of one process, and trainer asks for {number}",
            "write trainer.devices=1, or start the runs one by one, as for seed in 1 2; do nequip-train config.yaml "
            "seed=$seed; done",
        )


def count_processes(trainer: Mapping[str, Any]) -> int | None:
    """Count the processes of a run; None if only Lightning can tell.

    Args:
        trainer: Arguments of the trainer.
    """
    devices, nodes = _count_devices(trainer), trainer.get("num_nodes", 1)
    return devices * nodes if devices is not None and isinstance(nodes, int) else None


def _count_devices(trainer: Mapping[str, Any]) -> int | None:
    """Count the processes on a node; None if only Lightning can tell."""
    devices = trainer.get("devices", "auto")
    if isinstance(devices, list | tuple):
        return len(devices)
    if devices in ("auto", -1, "-1"):
        gpus = torch.cuda.device_count() if trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") else 0
        return max(1, gpus)
    if isinstance(devices, str) and "," in devices:
        return len([device for device in devices.split(",") if device.strip()])
    return int(devices) if isinstance(devices, int) or (isinstance(devices, str) and devices.isdecimal()) else None
