"""Options, rows and files of the benchmarks of speed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from workers import Crew, Limits


def add_options(parser: argparse.ArgumentParser, codes: Sequence[str], rounds: int, steps: int) -> None:
    """Add the options that all benchmarks share.

    Args:
        parser: To add to.
        codes: Names of the peers that the benchmark knows.
        rounds: Default.
        steps: Default.
    """
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=PYTHON", help=f"code and interpreter: {', '.join(codes)}"
    )
    parser.add_argument("--threads", type=int, default=processors(), help="of every code (default: all processors)")
    parser.add_argument("--kernel", default="auto", help="our model.kernel")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--steps", type=int, default=steps, help="steps of a round")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds that a worker may take for an answer")
    parser.add_argument("--memory", type=float, default=16.0, help="GB that a worker may take")
    parser.add_argument("--json", type=Path, metavar="FILE")


def processors() -> int:
    """Number of processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pythons_of(parser: argparse.ArgumentParser, options: argparse.Namespace, codes: Sequence[str]) -> dict[str, str]:
    """Code to interpreter, ours first; ends the program if a peer is unknown or its interpreter is not there."""
    pythons = {"ours": sys.executable}
    for entry in options.peer:
        name, _, python = entry.partition("=")
        if name not in codes:
            parser.error(f"--peer {entry}: the peers are {', '.join(codes)}; write NAME=PYTHON")
        if not Path(python).is_file():
            parser.error(f"--peer {entry}: there is no file {python!r}")
        pythons[name] = python
    return pythons


def limits_of(options: argparse.Namespace) -> Limits:
    """The limits of the command line."""
    return Limits(options.limit, options.memory)


def run_training(arguments: Sequence[str], folder: str, threads: int) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run ``nequip-train``; what it printed, and the seconds that it took.

    Args:
        arguments: Config and overrides.
        folder: Where it is run.
        threads: Of the run.
    """
    return run_module("train", arguments, folder, threads)


def run_module(
    name: str, arguments: Sequence[str], folder: str, threads: int
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run one of our commands; what it printed, and the seconds that it took.

    Args:
        name: Of its module in ``nequip_like.cli``.
        arguments: Its arguments.
        folder: Where it is run.
        threads: Of the run.
    """
    command = [sys.executable, "-m", f"nequip_like.cli.{name}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done, time.perf_counter() - start


def machine(threads: int) -> dict:
    """What the figures were measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "processors": processors(),
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_at_start": os.getloadavg()[0],
    }


def print_row(row: Mapping[str, object], keys: Sequence[str] | None = None) -> None:
    """One line of key=value; of ``keys`` those that the row has, by default all."""
    chosen = {key: row[key] for key in (row if keys is None else keys) if key in row}
    cells = (f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in chosen.items())
    print(" ".join(cells), flush=True)


class Table:
    """The rows of a benchmark, printed and written to its JSON file as they come: a long run may be ended early.

    The file holds ``cases`` (rows, with ``ratio`` where there is a peer), ``left_out`` (peers that did not come
    through, and why) and ``machine``.

    Args:
        path: File, or None.
        about: What it was measured on.
        keys: What is printed of a row; the file has all.
    """

    def __init__(self, path: Path | None, about: Mapping[str, object], keys: Sequence[str]) -> None:
        self.path, self.about, self.keys = path, about, keys
        self.rows: list[dict] = []
        self.left_out: list[dict] = []

    def add(self, rows: Sequence[dict], crew: Crew) -> None:
        """Print and write the rows of one crew."""
        for row in rows:
            print_row(row, self.keys)
        self.rows += rows
        place = {key: rows[0][key] for key in ("case", "system", "atoms", "batch") if key in rows[0]}
        self.left_out += [{**place, "peer": peer, "why": why} for peer, why in crew.left_out.items()]
        write_json(self.path, self.rows, self.about, self.left_out)


def write_json(
    path: Path | None, rows: Sequence[dict], about: Mapping[str, object], left_out: Sequence[dict] = ()
) -> None:
    """Write the file of :class:`Table`, if there is a path."""
    if path:
        content = {"cases": list(rows), "left_out": list(left_out), "machine": about}
        path.write_text(json.dumps(content, indent=1) + "\n")
