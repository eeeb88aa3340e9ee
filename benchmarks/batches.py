"""How evenly batches of frames, atoms and edges cost: how full they are, and how much their training steps differ.

Run it on one or several files, which are joined::

    python benchmarks/batches.py --mixture oc20.xyz ethanol.xyz:300 --atoms 256

Steps are timed by the time that the processor spent in them, one thread, each kind of batches in turn, so that other
processes of the machine matter little. What four processes would wait for each other is told by the edges alone: in a
step all wait for the one that has most.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import ase.io
import numpy as np
import torch
from ase import Atoms

from nequip_like.data.batches.batch_size import BatchSize
from nequip_like.data.datamodule import DataModule
from nequip_like.data.graph import collate
from nequip_like.data.samplers import FrameBatchSampler
from nequip_like.model import NequIPGNNModel

CUTOFF, PROCESSES = 5.0, 4


def build_samplers(size: BatchSize, data: DataModule, processes: int) -> list[FrameBatchSampler]:
    """The order of each process in the first epoch."""
    table = data.train_set.table
    costs = None if size.by_frames else size.measure_frames(table)
    return [
        FrameBatchSampler(
            len(table), size.limit, costs=costs, shuffle=True, seed=0, rank=rank, world_size=processes
        )
        for rank in range(processes)
    ]  # fmt: skip


def measure_waiting(size: BatchSize, data: DataModule) -> float:
    """Share of the time in which processes wait for the one with the most edges."""
    edges = data.train_set.table.edges
    loads = np.array([[edges[batch].sum() for batch in order] for order in build_samplers(size, data, PROCESSES)])
    return float(1.0 - loads.mean() / loads.max(axis=0).mean())


def measure_fill(size: BatchSize, batches: Sequence[Sequence[int]], data: DataModule) -> str:
    """Mean and least share of the limit that batches have."""
    if size.by_frames:
        return "-"
    costs = np.minimum(size.measure_frames(data.train_set.table), size.limit)
    loads = np.array([costs[list(batch)].sum() for batch in batches]) / size.limit
    return f"{loads.mean():.1%} ({loads.min():.1%})"


def time_steps(data: DataModule, batches: dict[str, list[list[int]]], steps: int) -> dict[str, np.ndarray]:
    """Seconds of the processor for training steps of each kind of batches, in turn."""
    model = NequIPGNNModel(
        type_names=data.type_names, r_max=CUTOFF, l_max=1, num_layers=3, num_features=32, avg_num_neighbors=30.0
    ).train()
    optimizer = torch.optim.Adam(model.parameters())
    times: dict[str, list[float]] = {name: [] for name in batches}
    for number in range(-1, steps):  # the first step compiles
        for name, listed in batches.items():
            batch = collate(data.train_set.__getitems__(listed[number % len(listed)]))
            began = time.process_time()
            optimizer.zero_grad()
            prediction = model(batch)
            (prediction["total_energy"].square().mean() + prediction["forces"].square().mean()).backward()
            optimizer.step()
            if number >= 0:
                times[name].append(time.process_time() - began)
    return {name: np.array(values) for name, values in times.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mixture", nargs="+", required=True, metavar="FILE[:FRAMES]")
    parser.add_argument("--atoms", type=int, default=256, help="of a batch; frames and edges are as many on average")
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    structures: list[Atoms] = []
    for entry in arguments.mixture:
        name, _, count = entry.rpartition(":") if entry.rpartition(":")[2].isdigit() else (entry, "", "")
        structures += [Atoms(atoms) for atoms in ase.io.read(name, f":{count}")]  # without labels, which no step needs
    data = DataModule(structures, cutoff_radius=CUTOFF, reference_energies=None).prepare()
    table = data.train_set.table
    by_atoms = BatchSize(arguments.atoms, "atoms")
    frames = by_atoms.count_frames(table)
    # A limit of edges that has as many frames on average.
    by_edges = BatchSize(round(frames * float(np.minimum(table.edges, frames * table.edges.mean()).mean())), "edges")
    sizes = {"frames": BatchSize(max(1, round(frames))), "atoms": by_atoms, "edges": by_edges}
    batches = {name: list(build_samplers(size, data, 1)[0]) for name, size in sizes.items()}
    times = time_steps(data, batches, arguments.steps)
    extent = f"{table.atoms.min()} to {table.atoms.max()} atoms, {table.edges.min()} to {table.edges.max()} edges"
    print(f"{len(table)} frames of {extent}")
    print("| batch_size | steps | full (least) | step: spread | largest / mean | waiting of 4 processes |")
    print("|---|---|---|---|---|---|")
    for name, size in sizes.items():
        spent = times[name]
        spread = f"{spent.std() / spent.mean():.0%} | {spent.max() / spent.mean():.2f}"
        full = measure_fill(size, batches[name], data)
        print(f"| {size} | {len(batches[name])} | {full} | {spread} | {measure_waiting(size, data):.1%} |")


if __name__ == "__main__":
    main()
