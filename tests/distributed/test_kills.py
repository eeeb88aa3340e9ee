"""One of two processes fails, is killed, or gets a signal: the run ends as promised, says why once, and can go on.

Commands as users type them; the batch at which it happens is drawn anew each time.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
LIMIT = 400  # seconds: a run that hangs fails
STEPS = 18  # 12 frames in steps of 4 are 3 steps, for 6 epochs
RUN = (
    "data.val=[7,1]",
    "data.test=4",
    "data.global_batch_size=4",
    "cutoff_radius=4.0",
    "optimizer=sgd",
    "training_module.lr_scheduler=null",
    "trainer.devices=2",
    "trainer.strategy=ddp",
    "trainer.max_epochs=6",
    "trusted_packages=[tests]",
    "callbacks=[default,periodic_checkpoint]",
    "callbacks.periodic_checkpoint.every_n_updates=1",
    "seed=3",
)
MARK = "NEQUIP_LIKE_TEST_RUN"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * LIMIT)]


@dataclass
class Ended:
    """What a command left."""

    status: int
    output: str
    seconds: float


Train = Callable[..., Ended]


@pytest.fixture(scope="module")
def train(tiny: list[str], molecule_file: Path) -> Train:
    def train(folder: Path, *changes: str, torchrun: tuple[str, ...] = ()) -> Ended:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *torchrun] if torchrun else []
        command = [sys.executable, *launcher, "-m", "nequip_like.cli.train", "-cn", "train", *tiny, *RUN]
        command += [f"data.train={molecule_file}", f"hydra.run.dir={folder}", *changes]
        mark = uuid.uuid4().hex
        names = ("PYTEST", "PL_", "HYDRA", "NEQUIP_LIKE")
        own = {name: value for name, value in os.environ.items() if not name.startswith(names)}
        began = time.monotonic()
        done = subprocess.run(
            command,
            cwd=folder.parent,
            env=own | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), MARK: mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        seconds = time.monotonic() - began
        end = time.monotonic() + 40
        while (left := list_processes(mark)) and time.monotonic() < end:
            time.sleep(0.2)
        assert not left, f"{left} are left\n{done.stdout}"
        return Ended(done.returncode, done.stdout, seconds)

    return train


def list_processes(mark: str) -> list[int]:
    """Processes that a command started, by what they inherited."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and f"{MARK}={mark}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except OSError:
            continue  # ended meanwhile
    return found


def fault(ranks: list[int], kind: str | int, batch: int) -> str:
    where = f"ranks: {ranks}, kind: {kind}, batch: {batch}"
    return f"+callbacks.fault={{_target_: tests.distributed.faults.Fault, {where}}}"


def draw_batch() -> int:
    batch = random.SystemRandom().randrange(2, STEPS - 1)
    print(f"batch {batch}")  # shown if the test fails
    return batch


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}


def losses(folder: Path) -> list[tuple[int, float]]:
    with (folder / "metrics.csv").open() as file:
        name = "train_loss_step/weighted_sum"
        return [(int(row["step"]), float(row[name])) for row in csv.DictReader(file) if row.get(name)]


@pytest.fixture(scope="module")
def whole(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happens to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    ended = train(folder)
    assert ended.status == 0, ended.output
    return folder


def check_it_goes_on(train: Train, folder: Path, whole: Path, done: int) -> None:
    """From the checkpoint after so many steps, to the weights and losses of the run that nothing happened to."""
    ended = train(folder, "resume=auto")
    assert ended.status == 0, ended.output
    assert f"{done} steps done" in ended.output
    one, two = weights(whole), weights(folder)
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert losses(folder) == losses(whole)
    assert [step for step, _ in losses(folder)] == list(range(STEPS))


@pytest.mark.parametrize("rank", [0, 1])
def test_killed(rank, train, whole, tmp_path):
    """``kill -9``: the other process ends, too, soon; the steps before the last checkpoint are not lost."""
    folder, batch = tmp_path / "run", draw_batch()
    ended = train(folder, fault([rank], int(signal.SIGKILL), batch))
    assert ended.status not in (0, None)
    assert "Traceback" not in ended.output
    assert ended.output.count("error: ") == 1, ended.output
    assert "process of the run is gone, and did not say why" in ended.output
    # A checkpoint at the end of an epoch waits for what comes after its last batch; the batch before is there always.
    check_it_goes_on(train, folder, whole, batch - 1)


def test_torchrun_starts_the_processes_again(train, whole, tmp_path):
    """A worker is killed; torchrun starts both again, and they go on from the last checkpoint by themselves."""
    folder, batch = tmp_path / "run", draw_batch()
    kill = fault([1], int(signal.SIGKILL), batch)
    ended = train(folder, kill, "resume=auto", torchrun=("--max-restarts=1",))
    assert ended.status == 0, ended.output
    assert ended.output.count("going on from ") == 1
    assert f"{batch - 1} steps done" in ended.output
    assert losses(folder) == losses(whole)


# --- without a launcher: each process has to end by itself


Start = Callable[..., tuple[list[int | None], str]]


@pytest.fixture(scope="module")
def start(tiny: list[str], molecule_file: Path) -> Iterator[Start]:
    """Run ``nequip-train`` in two processes; their exit statuses, and what both printed."""
    names = ("PYTEST", "PL_", "HYDRA", "NEQUIP_LIKE")
    own = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.distributed.forks"],
        cwd=ROOT,
        env=own | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def start(folder: Path, *changes: str) -> tuple[list[int | None], str]:
        assert server.stdin is not None
        assert server.stdout is not None
        output = folder.parent / f"{uuid.uuid4().hex}.txt"
        arguments = ["-cn", "train", *tiny, *RUN, f"data.train={molecule_file}", f"hydra.run.dir={folder}", *changes]
        request = {"arguments": arguments, "processes": 2, "folder": str(folder.parent), "output": str(output)}
        print(json.dumps(request | {"limit": LIMIT}), file=server.stdin, flush=True)
        return json.loads(server.stdout.readline()), output.read_text()

    yield start
    with server:  # waits for it, and closes its pipes
        server.terminate()


@pytest.mark.parametrize(("rank", "number"), [(0, signal.SIGTERM), (1, signal.SIGUSR1)])
def test_signal_to_one_process(rank, number, start, tmp_path):
    """All stop at the same step, for the same reason, with a checkpoint of it, and leave the later tasks out."""
    folder, batch = tmp_path / "run", draw_batch()
    statuses, output = start(folder, fault([rank], int(number), batch))
    assert statuses == [128 + number] * 2, output
    assert output.count(f"stopped by {number.name}") == 1
    assert "error" not in output.replace("errors", "")
    assert not (folder / "metrics.json").exists()  # of the test
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == batch
    statuses, output = start(folder, "resume=auto", "run=[train]")
    assert statuses == [0, 0], output
    assert f"{batch} steps done" in output
    assert [step for step, _ in losses(folder)] == list(range(STEPS))


@pytest.mark.parametrize("ranks", [[0], [1], [0, 1]], ids=str)
def test_error_of_the_user(ranks, start, tmp_path):
    """It is shown once, by the process that has it, without what the others say of the lost connection."""
    statuses, output = start(tmp_path / "run", fault(ranks, "user", 3))
    assert statuses == [2, 2], output
    assert output.count("error: ") == 1, output
    assert "error: batch 3 is bad\n  -> mend it" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("rank", [0, 1])
def test_any_other_error(rank, start, tmp_path):
    """Its traceback is shown, and no other."""
    statuses, output = start(tmp_path / "run", fault([rank], "bug", 3))
    assert statuses == [1, 1], output
    assert f"ValueError: process {rank} has a bug" in output
    assert output.count("Error: ") == 1, output
    assert "Connection" not in output


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_without_a_launcher(rank, start, tmp_path):
    """The process that is left says that the other is gone, and ends."""
    statuses, output = start(tmp_path / "run", fault([rank], int(signal.SIGKILL), 3))
    assert statuses[rank] == 137
    assert statuses[1 - rank] == 2, output
    assert output.count("error: ") == 1, output
    assert "process of the run is gone, and did not say why" in output
    assert "Traceback" not in output


def test_mistake_that_all_processes_find(train, tmp_path):
    """Before they are connected: the first says it."""
    ended = train(tmp_path / "run", "data.val=1000", torchrun=("--max-restarts=0",))
    assert ended.status != 0
    assert ended.output.count("error: ") == 1, ended.output
