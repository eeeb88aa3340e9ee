"""Jobs that ``nequip-slurm`` wrote, in a real SLURM of two nodes: to the end, over the limit of time, and preempted."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, list_missing

ROOT = Path(__file__).parents[2]
CONFIG = """\
defaults: [train, _self_]
run: [train]
data: {train: molecules.xyz, val: 7, global_batch_size: 5}
cutoff_radius: 4.0
model: {l_max: 1, num_layers: 1, num_features: 2, radial_mlp_depth: 1, radial_mlp_width: 4, kernel: batched}
trainer: {max_epochs: 4, log_every_n_steps: 1}
"""
URGENT = """\
#!/bin/bash
#SBATCH --job-name=urgent --partition=urgent --nodes=2 --ntasks-per-node=1 --time=5 --output=urgent.log
sleep 2
"""
# Of each batch, so that a signal comes while the run goes on.
SLOW = "+callbacks.slow={_target_: tests.slurm.slow.Slow, seconds: 0.4}"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(list_missing()), reason=f"SLURM's programs are not here: {', '.join(list_missing())}"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # of a short name: sockets are in it
    started = Cluster(folder)
    try:
        started.start()
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder)


@pytest.fixture
def folder(tmp_path: Path, molecule_file: Path) -> Path:
    shutil.copy(molecule_file, tmp_path / "molecules.xyz")
    (tmp_path / "config.yaml").write_text(CONFIG)
    # The processes are those of this checkout, and find each other on this machine, whose nodes have no addresses.
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "nequip-train"
    command.write_text(f'#!/bin/bash\nexec "{sys.executable}" -m nequip_like.cli.train "$@"\n')
    command.chmod(0o755)
    return tmp_path


def write(folder: Path, *options: str, nodes: int = 2) -> Path:
    """Write a script as a user does, for nodes of one task each."""
    setup = [
        f'export PATH="{folder}/bin:$PATH" PYTHONPATH={ROOT}',
        "export MASTER_ADDR=127.0.0.1 GLOO_SOCKET_IFNAME=lo",
    ]
    size = [f"--nodes={nodes}", "--tasks-per-node=1", "--cpus-per-task=1", "--name=mol"]
    given = ["--time=20", *options]
    done = subprocess.run(
        [sys.executable, "-m", "nequip_like.cli.slurm", "config.yaml", *size, *(f"--setup={s}" for s in setup), *given],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "mol.sbatch"


def submit(cluster: Cluster, script: Path) -> str:
    answer = cluster.ask("sbatch", "--chdir", str(script.parent), str(script))
    match = re.search(r"Submitted batch job (\d+)", answer)
    assert match is not None, answer
    return match[1]


def end(cluster: Cluster, folder: Path, *jobs: str, seconds: float = 400) -> str:
    """Wait until jobs are over; their logs."""
    over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
    try:
        cluster.wait_for(lambda: all(cluster.describe(job).get("JobState") in over for job in jobs), seconds)
    except RuntimeError as error:
        raise AssertionError(f"{error}\n{read_log(folder)}") from error
    log = read_log(folder)
    for job in jobs:
        facts = cluster.describe(job)
        assert facts["JobState"] == "COMPLETED", f"{facts}\n{log}"
    return log


def read_log(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("mol-*.log")))


def steps(folder: Path) -> list[int]:
    """Steps whose loss was logged, in the order of the file."""
    with (folder / "metrics.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row.get("train_loss_step/weighted_sum")]


def nothing_is_left(folder: Path, job: str) -> bool:
    """Neither a process of the job, nor the file by which a run holds its folder."""
    return no_process_of(job) and not list(folder.glob("runs/**/.running-*"))


def wait_for_steps(cluster: Cluster, run: Path, number: int) -> None:
    """Wait until a run has done so many steps."""
    cluster.wait_for(lambda: (run / "metrics.csv").is_file() and len(steps(run)) >= number, 300)


def test_two_nodes(cluster, folder):
    """A job of two nodes trains to its end; both processes are tasks of SLURM's, one on each node."""
    job = submit(cluster, write(folder))
    log = end(cluster, folder, job)
    run = folder / "runs" / "mol"
    assert (run / "model.safetensors").is_file()
    assert log.count("epoch    3 |") == 1  # one process speaks
    assert "UserWarning" not in log
    assert cluster.describe(job)["Restarts"] == "0"
    assert steps(run) == list(range(16))  # 17 frames in steps of 5
    assert nothing_is_left(folder, job)


def test_signal_before_the_limit(cluster, folder):
    """SIGUSR1 to all tasks, as ``--signal`` sends it: a checkpoint, the same job again, and the same logged run."""
    job = submit(cluster, write(folder, SLOW, "trusted_packages=[tests]"))
    run = folder / "runs" / "mol"
    wait_for_steps(cluster, run, 5)
    cluster.ask("scancel", "--signal=USR1", job)
    log = end(cluster, folder, job)
    assert cluster.describe(job)["Restarts"] == "1"
    assert log.count("stopped by SIGUSR1") == 1
    assert log.count(f"job {job} is queued again") == 1
    assert log.count("going on from") == 1
    assert steps(run) == list(range(16))
    assert (run / "model.safetensors").is_file()
    assert nothing_is_left(folder, job)


def test_preempted(cluster, folder):
    """A job with a higher priority takes the nodes: the run stops within the time of grace, waits, and goes on."""
    job = submit(cluster, write(folder, SLOW, "trusted_packages=[tests]"))
    run = folder / "runs" / "mol"
    wait_for_steps(cluster, run, 4)
    (folder / "urgent.sbatch").write_text(URGENT)
    urgent = submit(cluster, folder / "urgent.sbatch")
    log = end(cluster, folder, urgent, job)
    assert cluster.describe(job)["Restarts"] == "1"
    assert log.count("stopped by SIGTERM") == 1
    assert log.count("going on from") == 1
    assert steps(run) == list(range(16))
    assert nothing_is_left(folder, job)


def test_sweep(cluster, folder):
    """An array of two runs, each on a node of its own: a folder for each, and one table of both."""
    script = write(folder, "-m", "seed=1,2", "trainer.max_epochs=2", nodes=1)
    job = submit(cluster, script)
    cluster.wait_for(lambda: not cluster.ask("squeue", "-h", "-j", job).strip(), 600)
    sweep, logs = folder / "runs" / "mol", [path.read_text() for path in sorted(folder.glob("mol-*.log"))]
    assert len(logs) == 2
    with (sweep / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["run"], row["seed"]) for row in rows} == {("0", "1"), ("1", "2")}, "\n".join(logs)
    assert [float(row["best"]) for row in rows] == sorted(float(row["best"]) for row in rows)
    for row in rows:
        run = sweep / row["run"]
        assert (row["status"], row["folder"]) == ("done", str(run)), row
        assert (run / "model.safetensors").is_file()
        assert f"\nseed: {row['seed']}\n" in (run / "config.yaml").read_text()
        with (run / "metrics.csv").open() as file:
            values = [line["val0_epoch/weighted_sum"] for line in csv.DictReader(file)]
        assert float(row["best"]) == min(float(value) for value in values if value)
    assert (sweep / "runs.png").is_file()
    assert any(f"runs: {sweep}/runs.csv" in log for log in logs)
    assert nothing_is_left(folder, job)


def test_search(cluster, folder):
    """Hydra's submitit launcher: each run of a search is a job, two at a time; its study and table are of all."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    launcher = ("hydra/launcher=submitit_slurm", "hydra.launcher.partition=long", "hydra.launcher.cpus_per_task=1")
    search = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "hydra.sweep.dir=many")
    rates = "training_module.optimizer.lr=tag(log,interval(1e-3,1e-1))"
    size = ("hydra.launcher.timeout_min=20", "trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.devices=1")
    paths = os.pathsep.join(path for path in (str(ROOT), os.environ.get("PYTHONPATH")) if path)
    done = subprocess.run(
        [sys.executable, "-m", "nequip_like.cli.train", "config.yaml", "-m", *launcher, *search, *size, rates],
        cwd=folder,
        env=cluster.environment | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with (folder / "many" / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["run"], row["status"]) for row in rows} == {("0", "done"), ("1", "done")}
    assert len({row["training_module.optimizer.lr"] for row in rows}) == 2
    jobs = {path.name.partition("_")[0] for path in (folder / "many" / ".submitit").glob("[0-9]*_[0-9]*")}
    assert len(jobs) == 1  # an array of both
    assert f"plot: {folder}/many/runs.png" in done.stdout


def test_a_task_that_is_killed(cluster, folder):
    """The job ends, and says so, instead of waiting for ever; submitted again it goes on from its last checkpoint."""
    options = (SLOW, "trusted_packages=[tests]", "callbacks=[default,periodic_checkpoint]")
    script = write(folder, *options, "callbacks.periodic_checkpoint.every_n_updates=1")
    job = submit(cluster, script)
    run = folder / "runs" / "mol"
    wait_for_steps(cluster, run, 6)
    table = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    tasks = [int(line.split()[0]) for line in table.splitlines() if "nequip_like.cli.train" in line]
    owned = [pid for pid in tasks if read_rank(pid) == ("1", job)]
    assert len(owned) == 1
    os.kill(owned[0], 9)
    cluster.wait_for(lambda: cluster.describe(job).get("JobState") in ("FAILED", "CANCELLED"), 60)
    cluster.wait_for(lambda: no_process_of(job), 60)
    again = submit(cluster, script)
    log = end(cluster, folder, again)
    assert log.count("going on from") == 1
    assert steps(run) == list(range(16))


def read_rank(pid: int) -> tuple[str, str] | None:
    """Rank and job of a process, of its environment."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    values = dict(entry.decode(errors="replace").partition("=")[::2] for entry in entries)
    return values.get("SLURM_PROCID", ""), values.get("SLURM_JOB_ID", "")


def no_process_of(job: str) -> bool:
    return not any(
        (owner := read_rank(int(path.name))) and owner[1] == job
        for path in Path("/proc").iterdir()
        if path.name.isdigit()
    )
