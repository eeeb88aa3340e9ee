"""What several processes bring, and what they cost: measured on this machine, and predicted for many GPUs.

    python benchmarks/processes.py                    # all three parts
    python benchmarks/processes.py --only predict     # the table of 64 GPUs, without a run

1. ``train``: whole runs of ``nequip-train`` on the same steps, of one process with two threads and of two processes
   with one, in turn; frames per second of the epochs after the first (the callback ``training_stats``).
2. ``collectives``: how long two processes take (gloo) to sum a vector, by its length: a latency and a rate.
3. ``predict``: the time of a step's communication by the model below, for the presets on 8 nodes with 8 GPUs each.

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

PARTS = ("train", "collectives", "predict")
PRESETS = ("S", "M", "L", "XL")
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
STEPS = (0.02, 0.1)  # seconds of a step of one GPU: a small and a usual batch
RUN = (
    *("-cn", "train", "data.val=20", "run=[train]", "cutoff_radius=4.0", "trainer.accelerator=cpu", "console=none"),
    *("callbacks=[default,training_stats]", "callbacks.training_stats.every_n_steps=null", "lr_scheduler=plateau"),
)


# --- whole runs


def train(processes: int, threads: int, data: Path, batch: int, epochs: int) -> float:
    """Frames per second of a run, the median of its epochs after the first."""
    with tempfile.TemporaryDirectory() as folder:
        several = ("trainer.strategy=ddp",) if processes > 1 else ()
        own = (f"data.train={data}", f"data.global_batch_size={batch}", f"trainer.max_epochs={epochs}")
        command = [sys.executable, "-m", "nequip_like.cli.train", *RUN, *own, f"hydra.run.dir={folder}", *several]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [*command, f"trainer.devices={processes}"], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        with (Path(folder) / "metrics.csv").open() as file:
            rates = [row.get("training_stats/epoch_frames_per_second") for row in csv.DictReader(file)]
    return statistics.median([float(rate) for rate in rates if rate][1:])


def compare_runs(data: Path, batch: int, epochs: int, rounds: int) -> dict[str, float]:
    """Frames per second of both ways, the median of rounds in turn."""
    ways = {"1 process x 2 threads": (1, 2), "2 processes x 1 thread": (2, 1)}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (processes, threads) in ways.items():
            found[name].append(train(processes, threads, data, batch, epochs))
    return {name: statistics.median(rates) for name, rates in found.items()}


# --- collectives


def measure_collectives(sizes: Sequence[int], repeats: int = 30) -> dict[int, float]:
    """Seconds in which two processes sum a float32 vector, by its bytes; the median."""
    import torch.multiprocessing as mp

    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        mp.spawn(_sum_vectors, (port, list(sizes), repeats, folder), nprocs=2)
        return {int(size): seconds for size, seconds in json.loads((Path(folder) / "times.json").read_text()).items()}


def _sum_vectors(rank: int, port: int, sizes: list[int], repeats: int, folder: str) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    medians = {}
    for size in sizes:
        vector, times = torch.zeros(max(1, size // 4)), []
        for _ in range(repeats):
            dist.barrier()
            began = time.perf_counter()
            dist.all_reduce(vector)
            times.append(time.perf_counter() - began)
        medians[size] = statistics.median(times)
    if rank == 0:
        (Path(folder) / "times.json").write_text(json.dumps(medians))
    dist.destroy_process_group()


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
    arguments = parser.parse_args()
    if "train" in arguments.only:
        rates = compare_runs(arguments.data, arguments.batch, arguments.epochs, arguments.rounds)
        print("\n".join(f"{name}: {rate:.1f} frames/s" for name, rate in rates.items()))
    if "collectives" in arguments.only:
        for size, seconds in measure_collectives([4, 4_000, 400_000, 4_000_000, 40_000_000]).items():
            print(f"sum of {size:>10,} B by 2 processes (gloo): {1e3 * seconds:.3f} ms")
    if "predict" in arguments.only:
        print_predictions()


if __name__ == "__main__":
    main()
