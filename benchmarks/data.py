"""Frames per second through the whole pipeline of data (read, neighbour lists, batches), ours and NequIP's in turn.

    python benchmarks/data.py --small 3bpa/train_300K.xyz --large water_pbe0/water_pbe0_64.xyz --nequip PYTHON

``epoch`` is a pass over the loader with batches of 5, the mean of --epochs passes after one that is not counted, best
of --rounds; ``start`` is what comes before the first batch: reading, checks, statistics. Rows: frames of an extended
XYZ file in memory; a prepared set, read from its file in each epoch; the same, held in memory. NequIP's: its
ASEDataModule, which makes neighbour lists in each epoch, and its LMDB data set, without and with neighbour lists in it.

``hidden``: the time of a training step that takes its batch from the loader over that of a step on one batch that is
there already, in turn, for each kind of data.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from command import machine

from nequip_like.data.datamodule import DataModule
from nequip_like.data.prepared.preparing import prepare_set
from nequip_like.data.prepared.tasks import PreparationRequest

CUTOFF = 5.0
BATCH = 5


def time_epochs(make: Callable[[], Any], epochs: int) -> float:
    """Mean seconds of a pass over a loader, after one that is not counted."""
    for _ in make():
        pass
    begin = time.perf_counter()
    for _ in range(epochs):
        for _ in make():
            pass
    return (time.perf_counter() - begin) / epochs


def measure_ours(source: str, held_memory: float, epochs: int) -> dict[str, float]:
    """Seconds before the first batch and of an epoch, and the number of frames."""
    begin = time.perf_counter()
    data = DataModule(source, cutoff_radius=CUTOFF, batch_size=BATCH, held_memory=held_memory, reference_energies=None)
    data.prepare()
    next(iter(data.train_dataloader()))
    start = time.perf_counter() - begin
    return {"start": start, "epoch": time_epochs(data.train_dataloader, epochs), "frames": len(data.train_set)}


def measure_nequip(python: str, file: str, epochs: int, folder: str) -> dict[str, dict[str, float]]:
    """The same of NequIP, by name of the data set."""
    worker = Path(__file__).with_name("data_nequip.py")
    command = [python, str(worker), file, str(CUTOFF), str(BATCH), str(epochs), folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"NequIP failed: {done.stderr[-2000:]}")
    rows: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def measure_hiding(source: str, held_memory: float, steps: int, rounds: int, workers: int) -> float:
    """Time of a training step with the loader over that of one on a batch that is there, the median of rounds."""
    from nequip_like.model import NequIPGNNModel

    data = DataModule(
        source, cutoff_radius=CUTOFF, batch_size=BATCH, held_memory=held_memory, num_workers=workers,
        reference_energies=None,
    ).prepare()  # fmt: skip
    model = NequIPGNNModel(
        seed=0, model_dtype="float32", r_max=CUTOFF, type_names=data.type_names, num_layers=4, l_max=2, parity=False,
        num_features=32, avg_num_neighbors=data.statistics["num_neighbors_mean"],
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(batch: dict[str, torch.Tensor]) -> None:
        optimizer.zero_grad()
        out = model(batch)
        loss = (out["forces"] - batch["forces"]).square().mean() + (out["total_energy"]).square().mean() * 1e-9
        loss.backward()
        optimizer.step()

    loader = data.train_dataloader()

    def endless() -> Any:
        while True:
            yield from loader

    batches, cached = endless(), cycle([next(iter(data.train_dataloader()))])
    for _ in range(10):
        step(next(batches))
    ratios = []
    for _ in range(rounds):
        seconds = []
        for source_of in (batches, cached):
            begin = time.perf_counter()
            for _ in range(steps):
                step(next(source_of))
            seconds.append(time.perf_counter() - begin)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", required=True, metavar="FILE", help="extended XYZ of some 27 atoms a frame")
    parser.add_argument("--large", required=True, metavar="FILE", help="extended XYZ of some 200 atoms a frame")
    parser.add_argument("--nequip", metavar="PYTHON", help="interpreter with NequIP 0.19.1 and lmdb")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="of a round of the hidden loading")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"machine": machine(1)}
    for title, file in (("small", options.small), ("large", options.large)):
        with tempfile.TemporaryDirectory() as folder:
            prepared = f"{folder}/set.frames"
            begin = time.perf_counter()
            prepare_set(PreparationRequest([file], CUTOFF), prepared)
            rows: dict[str, list[dict[str, float]]] = {}
            preparing = time.perf_counter() - begin
            for _ in range(options.rounds):
                for name, source, held in (
                    ("extended XYZ", file, 2.0), ("prepared", prepared, 0.0), ("prepared, held", prepared, 2.0)
                ):  # fmt: skip
                    rows.setdefault(name, []).append(measure_ours(source, held, options.epochs))
                if options.nequip:
                    for name, row in measure_nequip(options.nequip, file, options.epochs, folder).items():
                        rows.setdefault(f"NequIP, {name}", []).append(row)
            best = {name: {key: min(row[key] for row in each) for key in each[0]} for name, each in rows.items()}
            for name, row in best.items():
                rate = row["frames"] / row["epoch"]
                print(f"{title:6} {name:32} start {row['start']:7.2f} s  {rate:9.0f} frames/s", flush=True)
            hidden = {
                f"{name}, {workers} workers": measure_hiding(source, held, options.steps, options.rounds, workers)
                for name, source, held, workers in (
                    ("extended XYZ", file, 2.0, 0), ("prepared", prepared, 0.0, 0), ("prepared", prepared, 0.0, 1)
                )
            }  # fmt: skip
            for name, ratio in hidden.items():
                print(f"{title:6} step with the loader / on one batch, {name}: {ratio:.3f}", flush=True)
            result[title] = {"rows": best, "hidden": hidden, "preparing": preparing}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
