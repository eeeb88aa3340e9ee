"""The text of a job's script, and what is refused before one is written."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from nequip_like.errors import ConfigError, OutputError
from nequip_like.workflow.slurm.job_script import SlurmJob, format_script, read_time, write_script

SIZE: dict[str, Any] = {
    "config": ["config.yaml"],
    "nodes": 4,
    "tasks_per_node": 4,
    "gpus_per_node": 4,
    "cpus_per_task": 8,
    "time": "08:00:00",
    "name": "mgo",
    "run_dir": "runs/mgo",
    "folder": Path("/home/me/my data"),
}


def make(**changes: Any) -> SlurmJob:
    return SlurmJob(**{**SIZE, **changes})


def asked(job: SlurmJob) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in lines(job) if line.startswith("#SBATCH ")]


def lines(job: SlurmJob) -> list[str]:
    return format_script(job, Path("mgo.sbatch")).splitlines()


def test_four_nodes_with_four_gpus():
    job = make(options=["--partition=gpu"], overrides=["trainer.max_epochs=50", "data.val=[5, 1]"])
    assert asked(job) == [
        "--job-name=mgo",
        "--nodes=4",
        "--ntasks-per-node=4",
        "--gpus-per-node=4",
        "--cpus-per-task=8",
        "--time=08:00:00",
        "--signal=SIGUSR1@300",
        "--requeue",
        "--open-mode=append",
        "--output=mgo-%j.log",
        "--partition=gpu",
    ]
    text = lines(job)
    assert "cd '/home/me/my data'" in text
    assert "RUN=runs/mgo" in text
    assert text[text.index("srun --kill-on-bad-exit=1 nequip-train config.yaml \\") :] == [
        "srun --kill-on-bad-exit=1 nequip-train config.yaml \\",
        "    trainer.num_nodes=4 \\",
        "    trainer.devices=4 \\",
        "    trainer.accelerator=gpu \\",
        "    trainer.strategy=ddp \\",
        "    resume=auto \\",
        "    trainer.max_epochs=50 \\",
        "    'data.val=[5, 1]' \\",
        '    hydra.run.dir="$RUN"',
    ]
    assert "# export NCCL_SOCKET_IFNAME=ib0" in text


def test_tasks_on_cpus():
    job = make(nodes=1, tasks_per_node=2, gpus_per_node=0)
    assert job.processes == 2
    assert not [option for option in asked(job) if "gpu" in option]
    assert job.list_own_overrides() == [
        "trainer.num_nodes=1",
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "trainer.strategy=ddp",
        "resume=auto",
    ]
    assert not [line for line in lines(job) if "SOCKET" in line]
    single = make(nodes=1, tasks_per_node=1, gpus_per_node=1, overrides=["trainer.accelerator=cuda"])
    assert single.list_own_overrides()[2:] == ["trainer.strategy=auto", "resume=auto"]


def run_with(job: SlurmJob, folder: Path, number: int) -> list[str]:
    """What srun is called with, by the script as bash reads it."""
    (folder / "srun").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (folder / "srun").chmod(0o755)
    path = folder / "mgo.sbatch"
    write_script(job, path)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_CPUS_PER_TASK": "8", "SLURM_ARRAY_TASK_ID": str(number)}
    done = subprocess.run(["bash", str(path)], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_sweep(tmp_path):
    """One task of the array for each combination; what bash makes of it are the words that were given."""
    runs = [[f"seed={seed}", f"data.val={val}"] for seed in (0, 1) for val in ("[5, 1]", "[7, 2]")]
    job = make(runs=runs, folder=tmp_path)
    assert "--array=0-3" in asked(job)
    assert "--output=mgo-%A_%a.log" in asked(job)
    for number, varied in enumerate(runs):
        words = run_with(job, tmp_path, number)
        assert words[:4] == ["--kill-on-bad-exit=1", "nequip-train", "config.yaml", "--one-of-several"]
        assert words[-3:] == [*varied, f"hydra.run.dir=runs/mgo/{number}"]


def test_strange_names(tmp_path):
    folder = tmp_path / "it's a $folder"
    folder.mkdir()
    job = make(folder=folder, run_dir="runs/my run", overrides=["run_name='a b'", "monitored_metric=${x}"])
    words = run_with(job, tmp_path, 0)
    assert words[-3:] == ["run_name='a b'", "monitored_metric=${x}", "hydra.run.dir=runs/my run"]
    assert words[:3] == ["--kill-on-bad-exit=1", "nequip-train", "config.yaml"]


@pytest.mark.parametrize(
    ("changes", "message", "advice"),
    [
        ({"nodes": 0}, "--nodes is 0", "give a whole number"),
        ({"tasks_per_node": 2}, "there are 4 GPUs and 2 tasks on each node", "leave out --tasks-per-node"),
        ({"time": "tomorrow"}, "--time is 'tomorrow'", "write HH:MM:SS"),
        ({"time": "5"}, "--time is 300 s, and the run is to be told 300 s before its end", "give more time"),
        ({"name": "a b"}, "the name of the job is 'a b'", "give letters"),
        (
            {"run_dir": "runs/${now:%H}"},
            "--run-dir is 'runs/${now:%H}', another folder each time",
            "give one that stays",
        ),
        (
            {"overrides": ["trainer.devices=2"]},
            "trainer.devices is decided by --gpus-per-node",
            "leave out trainer.devices",
        ),
        ({"overrides": ["resume=auto"]}, "resume is decided by the script", "leave out resume=auto"),
        ({"overrides": ["seed"]}, "'seed' is no override", "write key=value"),
        ({"runs": [["seed=1"], ["trainer.devices=2"]]}, "trainer.devices is decided by", "leave out trainer.devices=2"),
        (
            {"overrides": ["hydra/launcher=joblib"]},
            "hydra/launcher is decided by the script",
            "leave out hydra/launcher",
        ),
        ({"options": ["partition=gpu"]}, "--sbatch is 'partition=gpu'", "write an option of sbatch"),
    ],
)
def test_what_cannot_work(changes, message, advice):
    with pytest.raises(ConfigError) as error:
        make(**changes)
    assert error.value.message.startswith(message)
    assert error.value.advice.startswith(advice)


def test_only_a_script_of_ours_is_written_over(tmp_path):
    path = tmp_path / "mgo.sbatch"
    path.write_text("#!/bin/bash\necho mine\n")
    with pytest.raises(OutputError, match="not written by nequip-slurm"):
        write_script(make(), path)
    path.unlink()
    write_script(make(), path)
    write_script(make(nodes=2), path)
    assert "#SBATCH --nodes=2\n" in path.read_text()
    assert path.stat().st_mode & 0o100


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("10:30", 630), ("08:00:00", 28800), ("2-12", 216000), ("1-00:30", 88200), ("1-00:00:05", 86405)],
)
def test_times(text, seconds):
    assert read_time(text) == seconds
