"""Which processes work together, by variables of our own."""

from __future__ import annotations

import os
import warnings

import pytest
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

from nequip_like.errors import ConfigError
from nequip_like.workflow import setup
from nequip_like.workflow.slurm import tasks

TASK = {"JOB_ID": "1", "JOB_NAME": "mgo", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
STEP = TASK | {"STEP_ID": "0"}


@pytest.fixture
def job(monkeypatch):
    """Sets the variables of a job, and only these."""
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_", "OMPI_"))]:
        monkeypatch.delenv(name)

    def set_variables(variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"SLURM_{name}", value)

    return set_variables


NOT_BY_SRUN = "this SLURM job has 4 tasks, but the command was not started by srun"


@pytest.mark.parametrize(
    ("variables", "trainer", "message", "advice"),
    [
        (TASK | {"NTASKS": "4"}, {}, NOT_BY_SRUN, "write srun before the command, or ask for one task: --ntasks=1"),
        (TASK | {"NTASKS": "4", "NTASKS_PER_NODE": "4"}, {"devices": 4}, NOT_BY_SRUN, "write srun before the command"),
        (
            STEP | {"NTASKS": "4"},
            {"devices": 4},
            "this SLURM job has 4 tasks, but does not say how many run on each node",
            "write --nodes and --ntasks-per-node in place of --ntasks=4",
        ),
        (
            STEP | {"NTASKS": "4", "NTASKS_PER_NODE": "4", "NNODES": "1"},
            {},
            "trainer.devices makes 1 processes on each node, but this SLURM job has 4 tasks there",
            "write trainer.devices=4, or --ntasks-per-node=1",
        ),
        (
            STEP | {"NTASKS": "4", "NTASKS_PER_NODE": "2", "NNODES": "2", "PROCID": "3"},
            {"devices": [0, 1]},
            "trainer.num_nodes is 1, but this SLURM job has 2 nodes",
            "write trainer.num_nodes=2",
        ),
        (
            STEP | {"NTASKS": "3", "NTASKS_PER_NODE": "2", "NNODES": "2"},
            {"devices": "0,1", "num_nodes": 2},
            "trainer.devices and trainer.num_nodes make 4 processes, but srun started 3",
            "make both the same: trainer.devices tasks on each of trainer.num_nodes nodes",
        ),
        (
            STEP | {"NTASKS": "four"},
            {},
            "the environment variable SLURM_NTASKS is 'four', which is no number",
            "unset SLURM_NTASKS",
        ),
    ],
    ids=["no srun", "no srun, devices right", "no tasks per node", "devices", "nodes", "step of fewer", "no number"],
)
def test_jobs_that_cannot_work(job, variables, trainer, message, advice):
    job(variables)
    with pytest.raises(ConfigError) as error:
        tasks.check_slurm_tasks(trainer)
    assert error.value.message == message
    assert error.value.advice.startswith(advice)


ONE_PROCESS = [
    {},
    {"JOB_ID": "1", "NTASKS": "4"},  # a shell of salloc
    TASK | {"NTASKS": "4", "STEP_ID": "4294967290"},  # a shell of salloc on a node of its allocation
    TASK | {"NTASKS": "4", "JOB_NAME": "bash"},
    STEP | {"NTASKS": "4", "JOB_NAME": "bash", "PTY_PORT": "40000"},  # srun --ntasks=4 --pty bash
]


@pytest.mark.parametrize("variables", ONE_PROCESS)
def test_one_process(job, variables):
    job(variables)
    assert type(tasks.choose_cluster_environment({"devices": 1})) is LightningEnvironment


@pytest.mark.parametrize("name", ["mgo", "bash", "interactive"])
def test_tasks_of_srun(job, name, recwarn):
    """Whatever the job is called: Lightning takes two names for shells, and each task would train alone."""
    job(STEP | {"NTASKS": "4", "NTASKS_PER_NODE": "2", "NNODES": "2", "JOB_NAME": name, "PROCID": "3", "LOCALID": "1"})
    environment = tasks.choose_cluster_environment({"devices": 2, "num_nodes": 2})
    assert isinstance(environment, SLURMEnvironment)
    assert (environment.world_size(), environment.global_rank(), environment.local_rank()) == (4, 3, 1)
    assert environment.auto_requeue is False
    assert not recwarn.list


def test_one_task_with_several_devices_starts_its_own_processes(job):
    """Lightning's SLURM would make one process, which takes a quarter of the data."""
    job(STEP | {"NTASKS": "1"})
    assert type(tasks.choose_cluster_environment({"devices": 4})) is LightningEnvironment
    assert isinstance(tasks.choose_cluster_environment({"devices": 1}), SLURMEnvironment)


def test_torchrun_within_a_job(job, monkeypatch):
    job(TASK | {"NTASKS": "4"})
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert isinstance(tasks.choose_cluster_environment({"devices": 2}), TorchElasticEnvironment)


def test_environment_that_the_user_names(job):
    job(TASK | {"NTASKS": "4"})
    plugin = {"_target_": "lightning.fabric.plugins.environments.LightningEnvironment"}
    tasks.check_slurm_tasks({"plugins": [plugin]})
    tasks.check_slurm_tasks({"plugins": plugin})


def test_srun_that_is_not_used(tmp_path, monkeypatch, job, compose):
    """Where SLURM is installed, and there is no job, nothing is said of it."""
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The `srun` command")
        environment = setup.build_trainer(compose())._accelerator_connector.cluster_environment
    assert type(environment) is LightningEnvironment
