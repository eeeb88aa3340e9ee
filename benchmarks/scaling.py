"""Time per atom and memory against the size of a crystal, or training throughput against the batch size.

    python benchmarks/scaling.py --peer nequip=PYTHON --cases l1 l2 --json out.json --plot out.png
    python benchmarks/scaling.py --train train_300K.xyz --cases l1 l2 --json out.json --plot out.png

Without ``--train``: energy and forces of rattled crystals of 10 to 100,000 atoms through the ASE calculators, neighbour
list included, as in inference.py (models, movement, memory and peers: see there). A peer that needs more than
``--limit`` seconds for a round or more than ``--memory`` GB is left out from that size on. At the end: the largest over
the smallest of our times per atom from 1,000 atoms on.

With ``--train FILE``: frames per second of training steps for ``--batches``, as in train_step.py (peers: see there).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import command
import systems
import train_step
from cases import CASES
from md import PEERS, PRINTED, Bench, add_options

SIZES = (10, 100, 1000, 10_000, 100_000)
FLAT_FROM = 900  # atoms; a crystal of about 1,000 may have a few less
ATOMS_A_ROUND = 20_000
FEWEST = 2  # steps of a round


def run_sizes(options: argparse.Namespace, pythons: dict[str, str]) -> list[dict]:
    """Rows of all cases and sizes."""
    table = command.Table(options.json, command.machine(options.threads), PRINTED)
    species = {"NaCl": ["Na", "Cl"], "Ni": ["Ni"]}[options.crystal]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(pythons, options, species, Path(folder))
        for case in options.cases:
            running = dict(pythons)
            for size in options.sizes:
                system = systems.crystal(size, options.crystal)
                steps = min(options.steps, max(FEWEST, ATOMS_A_ROUND // size))
                crew = bench.run(case, system, steps, running)
                table.add([{"system": options.crystal, **row} for row in bench.rows(case, crew)], crew)
                for peer in crew.left_out:
                    print(f"{case}: {peer} stops before {len(system['numbers'])} atoms")
                    running.pop(peer)
    return table.rows


def run_batches(options: argparse.Namespace, pythons: dict[str, str]) -> list[dict]:
    """Rows of all cases and batch sizes."""
    options.data = options.train
    keys = (*train_step.PRINTED, "ours_frames_per_s", "peer_frames_per_s")
    table = command.Table(options.json, command.machine(options.threads), keys)
    for case in options.cases:
        for batch in options.batches:
            crew = train_step.run_case(case, batch, pythons, options)
            rows = train_step.rows_of(case, batch, crew)
            speeds = [{f"{c}_frames_per_s": 1e3 * batch / row[f"{c}_ms"] for c in _codes(row)} for row in rows]
            table.add([row | speed for row, speed in zip(rows, speeds, strict=True)], crew)
    return table.rows


def _codes(row: dict) -> tuple[str, ...]:
    return ("ours", "peer") if row.get("peer") else ("ours",)


def print_flatness(rows: list[dict]) -> None:
    """How flat our time per atom is."""
    for case in dict.fromkeys(row["case"] for row in rows):
        times = [row["ours_us_per_atom"] for row in rows if row["case"] == case and row["atoms"] > FLAT_FROM]
        if times:
            print(f"{case}: time per atom from 1,000 atoms on: largest / smallest = {max(times) / min(times):.3f}")


def curves(rows: list[dict], x: str, ours: str, theirs: str) -> dict[str, list[tuple[float, float]]]:
    """Points of each code and case: ours under the key ``ours``, a peer's under ``theirs``."""
    found: dict[str, dict[float, float]] = {}
    for row in rows:
        found.setdefault(f"{row['case']} ours", {})[row[x]] = row[ours]
        if row.get("peer"):
            found.setdefault(f"{row['case']} {row['peer']}", {})[row[x]] = row[theirs]
    return {name: sorted(points.items()) for name, points in found.items()}


def plot(rows: list[dict], path: Path, training: bool) -> None:
    """Draw the curves of all codes."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    if training:
        panels = [("batch", "ours_frames_per_s", "peer_frames_per_s", "batch size", "frames/s")]
    else:
        panels = [
            ("atoms", "ours_us_per_atom", "peer_us_per_atom", "atoms", "time per atom (µs)"),
            ("atoms", "ours_step_mb", "peer_step_mb", "atoms", "memory of a step (MB)"),
        ]
    figure, axes = plt.subplots(1, len(panels), figsize=(5.5 * len(panels), 4), squeeze=False, layout="constrained")
    for axis, (x, ours, theirs, xlabel, ylabel) in zip(axes[0], panels, strict=True):
        for name, points in curves(rows, x, ours, theirs).items():
            axis.plot(*zip(*points, strict=True), "o-", label=name)
        axis.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize="small")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=["l1"], choices=list(CASES))
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--crystal", choices=list(systems.CRYSTALS), default="NaCl")
    parser.add_argument("--train", metavar="FILE", help="extxyz with energies and forces: time training steps instead")
    parser.add_argument("--batches", type=int, nargs="*", default=(1, 2, 5, 16, 32))
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    add_options(parser, rounds=3, steps=40)
    options = parser.parse_args()
    pythons = command.pythons_of(parser, options, train_step.PEERS if options.train else PEERS)
    rows = run_batches(options, pythons) if options.train else run_sizes(options, pythons)
    if not options.train:
        print_flatness(rows)
    if options.plot:
        plot(rows, options.plot, bool(options.train))


if __name__ == "__main__":
    main()
