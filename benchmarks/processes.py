"""What several processes bring, and what they cost: measured on this machine, and predicted for many GPUs.

    python benchmarks/processes.py                    # all parts
    python benchmarks/processes.py --only predict     # the table of 64 GPUs, without a run

1. ``train``: whole runs of ``nequip-train`` on the same steps, of one process with two threads and of two processes
   with one, in turn; frames per second of the epochs after the first (the callback ``training_stats``).
2. ``step``: which collectives a step of such a run has, with their bytes, as they are called.
3. ``check``: two processes sum vectors of a few lengths (gloo), which gives a latency and a rate; with them the model
   below predicts the communication of a step of the presets S, M and L, which two and four processes then do.
4. ``predict``: the same by the model for 8 nodes with 8 GPUs each.

On a machine that others use, too, what is quoted is the tenth part of the repeats that was the fastest.

The model. A step of ``trainer.strategy=ddp`` has one large collective, the sum of the gradients, and two small ones:
the sums and counts of the loss, and the vote whether to stop. So it takes

    T = 3 L(p) + 2 (p - 1) / p * bytes / rate,          L(p) = 2 log2(p) * latency

with ``bytes`` = parameters times the size of their type, ``rate`` that of the slowest link that a ring of the processes
goes through (between nodes, where there are several), and ``latency`` of one message. Nothing is hidden behind the
computation: T comes on top, and the efficiency of p processes with the same frames each is ``t / (t + T)``, with t the
time of a step of one process. What the processes wait for each other, because their frames are not of the same size, is
not in it; batches of so many atoms keep that small.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

PARTS = ("train", "step", "check", "predict")
PRESETS = ("S", "M", "L", "XL")
CHECKED = ("S", "M", "L")
SPECIES = ("H", "C", "N", "O")
ROOT = Path(__file__).parents[1]
ETHANOL = ROOT / "tutorials" / "data" / "ethanol" / "train.xyz"
# Rate of a link (B/s) and latency of a message (s) between nodes: what such networks reach, not what they are sold as.
NETWORKS = {
    "InfiniBand HDR, 1 x 200 Gbit/s": (22e9, 5e-6),
    "InfiniBand NDR, 8 x 400 Gbit/s": (320e9, 5e-6),
    "Ethernet, 25 Gbit/s": (2.8e9, 25e-6),
}
NODES, GPUS = 8, 8
LENGTHS = (8, 4_000, 400_000, 4_000_000, 20_000_000)  # bytes of the vectors that latency and rate are fitted to
SUMS, VOTE = 20 * 8, 8  # bytes of the sums of the loss, and of the vote whether to stop
RECORDED = ("all_reduce", "all_gather_into_tensor", "all_gather_single", "all_gather_object", "broadcast", "barrier")
STEPS = (0.02, 0.1)  # seconds of a step of one GPU: a small and a usual batch
RUN = (
    *("-cn", "train", "data.val=20", "run=[train]", "cutoff_radius=4.0", "trainer.accelerator=cpu", "console=none"),
    *("callbacks=[default,training_stats]", "callbacks.training_stats.every_n_steps=null", "lr_scheduler=plateau"),
)


# --- whole runs


def train(processes: int, threads: int, data: Path, batch: int, epochs: int, *changes: str) -> list[dict[str, str]]:
    """What a run logged: rows of ``metrics.csv``."""
    with tempfile.TemporaryDirectory() as folder:
        several = ("trainer.strategy=ddp",) if processes > 1 else ()
        own = (f"data.train={data}", f"data.global_batch_size={batch}", f"trainer.max_epochs={epochs}")
        command = [sys.executable, "-m", "nequip_like.cli.train", *RUN, *own, f"hydra.run.dir={folder}", *several]
        paths = os.pathsep.join(path for path in (str(ROOT), os.environ.get("PYTHONPATH")) if path)
        environment = {
            **os.environ,
            **{"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "PYTHONPATH": paths},
        }
        command += [f"trainer.devices={processes}", *changes]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        with (Path(folder) / "metrics.csv").open() as file:
            return list(csv.DictReader(file))


def measure_rate(processes: int, threads: int, data: Path, batch: int, epochs: int) -> float:
    """Frames per second of a run, the median of its epochs after the first."""
    rows = train(processes, threads, data, batch, epochs)
    rates = [row.get("training_stats/epoch_frames_per_second") for row in rows]
    return statistics.median([float(rate) for rate in rates if rate][1:])


def compare_runs(data: Path, batch: int, epochs: int, rounds: int) -> dict[str, list[float]]:
    """Frames per second of both ways, of each of some rounds in turn."""
    ways = {"1 process x 2 threads": (1, 2), "2 processes x 1 thread": (2, 1)}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (processes, threads) in ways.items():
            found[name].append(measure_rate(processes, threads, data, batch, epochs))
    return found


# --- the collectives of a step


class CollectiveRecord(lightning.Callback):
    """Writes down which collectives the steps of a run call, with their bytes.

    Args:
        path: The file, JSON: a list for each step.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.steps: list[list[tuple[str, int]]] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for name in RECORDED:
            if (function := getattr(torch.distributed, name, None)) is not None:
                setattr(torch.distributed, name, self._wrap(name, function))

    def _wrap(self, name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            tensor = next((value for value in arguments[::-1] if isinstance(value, torch.Tensor)), None)
            if self.steps:
                self.steps[-1].append((name, 0 if tensor is None else tensor.numel() * tensor.element_size()))
            return function(*arguments, **options)

        return call

    def on_train_batch_start(self, *_: Any) -> None:
        self.steps.append([])

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            Path(self.path).write_text(json.dumps(self.steps))


def list_collectives(data: Path, batch: int) -> list[tuple[str, int]]:
    """The collectives of a usual step of two processes: what most steps of an epoch have."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "steps.json"
        record = f"+callbacks.record={{_target_: benchmarks.processes.CollectiveRecord, path: {path}}}"
        train(2, 1, data, batch, 1, record, "trusted_packages=[benchmarks]")
        steps = [tuple(map(tuple, step)) for step in json.loads(path.read_text())]
    return list(max(set(steps), key=steps.count))


# --- what they take


def measure(processes: int, calls: Sequence[Sequence[int]], repeats: int) -> list[float]:
    """Seconds in which processes (gloo) sum vectors one after the other: a time for each list of bytes."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        arguments = (processes, port, [list(sizes) for sizes in calls], repeats, folder)
        torch.multiprocessing.start_processes(_sum_vectors, arguments, nprocs=processes, start_method="fork")
        return json.loads((Path(folder) / "times.json").read_text())


def _sum_vectors(rank: int, processes: int, port: int, calls: list[list[int]], repeats: int, folder: str) -> None:
    torch.set_num_threads(1)
    place = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=processes)
    fastest = []
    for sizes in calls:
        vectors, times = [torch.zeros(max(1, size // 4)) for size in sizes], []
        for _ in range(repeats):
            torch.distributed.barrier()
            began = time.perf_counter()
            for vector in vectors:
                torch.distributed.all_reduce(vector)
            times.append(time.perf_counter() - began)
        fastest.append(sorted(times)[repeats // 10])
    if rank == 0:
        (Path(folder) / "times.json").write_text(json.dumps(fastest))
    torch.distributed.destroy_process_group()


def fit_link(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Rate (B/s) and latency of a message (s), of the times in which two processes sum vectors.

    Of two processes ``T = 2 latency + bytes / rate``; each time counts by its relative error.

    Example:
        >>> rate, latency = fit_link([8, 10**7], [2e-4 + 8e-9, 2e-4 + 1e-2])
        >>> round(rate), round(latency, 7)
        (1000000000, 0.0001)
    """
    weights = 1 / np.asarray(seconds)
    columns = np.stack([2 * np.ones(len(sizes)), np.asarray(sizes, dtype=float)], axis=1)
    (latency, inverse), *_ = np.linalg.lstsq(columns * weights[:, None], np.ones(len(sizes)), rcond=None)
    return float(1 / inverse), float(latency)


def check_model(repeats: int) -> None:
    """Fit the link, and print what the model predicts for a step beside what 2 and 4 processes take."""
    seconds = measure(2, [[size] for size in LENGTHS], repeats)
    for size, value in zip(LENGTHS, seconds, strict=True):
        print(f"sum of {size:>10,} B by 2 processes (gloo): {1e3 * value:.3f} ms")
    rate, latency = fit_link(LENGTHS, seconds)
    print(f"fitted: {1e-9 * rate:.2f} GB/s, {1e6 * latency:.0f} us a message\n")
    print("| processes | model | predicted, ms | measured, ms |\n|---|---|---|---|")
    counts = [count_parameters(preset) for preset in CHECKED]
    for processes in (2, 4):
        measured = measure(processes, [[4 * count, SUMS, VOTE] for count in counts], repeats)
        for preset, count, value in zip(CHECKED, counts, measured, strict=True):
            predicted = predict_step(count, processes, rate, latency)
            print(f"| {processes} | {preset} | {1e3 * predicted:.2f} | {1e3 * value:.2f} |")


# --- the model


def predict_step(parameters: int, processes: int, rate: float, latency: float, size: int = 4) -> float:
    """Seconds of a step's communication.

    Args:
        parameters: Trained parameters.
        processes: Their number.
        rate: Of the slowest link, B/s.
        latency: Of a message, s.
        size: Bytes of a parameter.

    Example:
        >>> round(1e3 * predict_step(1_000_000, 64, 22e9, 5e-6), 2)
        0.54
    """
    message = 2 * math.log2(processes) * latency
    return 3 * message + 2 * (processes - 1) / processes * parameters * size / rate


def count_parameters(preset: str) -> int:
    """Trained parameters of a preset for four species."""
    from nequip_like.model import PresetNequIPGNNModel

    model = PresetNequIPGNNModel(preset=preset, type_names=list(SPECIES), r_max=5.0, avg_num_neighbors=20.0, seed=0)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def print_predictions() -> None:
    """Print the table of all presets and networks."""
    processes = NODES * GPUS
    print(f"\n{processes} GPUs on {NODES} nodes, {', '.join(SPECIES)}; efficiency with steps of {STEPS} s on one GPU\n")
    print("| model | parameters | MB | network | communication, ms | efficiency |\n|---|---|---|---|---|---|")
    for preset in PRESETS:
        parameters = count_parameters(preset)
        for network, (rate, latency) in NETWORKS.items():
            seconds = predict_step(parameters, processes, rate, latency)
            efficiency = ", ".join(f"{step / (step + seconds):.1%}" for step in STEPS)
            size = f"{4e-6 * parameters:.2f}"
            print(f"| {preset} | {parameters:,} | {size} | {network} | {1e3 * seconds:.2f} | {efficiency} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--data", type=Path, default=ETHANOL)
    parser.add_argument("--batch", type=int, default=10, help="frames of a step, of all processes (default: 10)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=50, help="of each sum (default: 50)")
    arguments = parser.parse_args()
    if "train" in arguments.only:
        rates = compare_runs(arguments.data, arguments.batch, arguments.epochs, arguments.rounds)
        for name, values in rates.items():
            rounds = ", ".join(f"{value:.1f}" for value in values)
            print(f"{name}: {statistics.median(values):.1f} frames/s (rounds: {rounds})", flush=True)
    if "step" in arguments.only:
        for name, size in list_collectives(arguments.data, arguments.batch):
            print(f"a step calls {name} with {size:,} B", flush=True)
    if "check" in arguments.only:
        check_model(arguments.repeats)
    if "predict" in arguments.only:
        print_predictions()


if __name__ == "__main__":
    main()
