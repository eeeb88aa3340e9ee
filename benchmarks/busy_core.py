"""How much one busy foreign process slows a training step, for several settings of how OpenMP threads wait.

    python benchmarks/busy_core.py --data train_300K.xyz --peer nequip=PYTHON --case l1 --json busy.json

GNU OpenMP's threads spin at a barrier before they sleep, 300,000 turns unless told otherwise. Where every processor is
ours that is fast. Where another program holds one, a thread spins while the one that it waits for has no processor.
Each setting is a worker of its own with these variables in its environment. All are asked in turn, round by round, with
0 and 1 busy loops beside them. ``slower`` is the time with a busy loop over the time without, of the same setting;
``cost`` is the time without a busy loop over that of ``default``: what the setting costs on an idle machine. All are
medians over the rounds; ``idle_least_ms`` is the least of all rounds, which says most where others use the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import command
import workers
from cases import CASES

SETTINGS = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "spin_100": {"GOMP_SPINCOUNT": "100"},
    "spin_1000": {"GOMP_SPINCOUNT": "1000"},
    "spin_3000": {"GOMP_SPINCOUNT": "3000"},
    "spin_10000": {"GOMP_SPINCOUNT": "10000"},
    "spin_30000": {"GOMP_SPINCOUNT": "30000"},
    "one_thread": {},
}
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
PEERS = ("nequip",)


@contextmanager
def variables(setting: str) -> Iterator[None]:
    """Set the environment that workers inherit."""
    before = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    os.environ.update(SETTINGS[setting])
    try:
        yield
    finally:
        for name in SETTINGS[setting]:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Run processes that do nothing but take processors."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def start(python: str, code: str, setting: str, options: argparse.Namespace, folder: str) -> workers.Worker:
    """A worker of train_step.py under one setting."""
    spec = {
        "code": code,
        "case": options.case,
        "batch": options.batch,
        "data": str(Path(options.data).resolve()),
        "threads": 1 if setting == "one_thread" else options.threads,
        "kernel": options.kernel,
        "weights": str(Path(folder, "weights.npz")),
    }
    with variables(setting):
        return workers.Worker(python, "train_worker.py", spec, command.limits_of(options))


def measure(code: str, python: str, options: argparse.Namespace, folder: str) -> list[dict]:
    """One row for each setting of one code."""
    crew = {setting: start(python, code, setting, options, folder) for setting in options.settings}
    seconds: dict[tuple[str, int], list[float]] = {(name, busy): [] for name in crew for busy in (0, 1)}
    try:
        for _ in range(options.rounds):
            for busy in (0, 1):
                with busy_loops(busy):
                    for name, worker in crew.items():
                        seconds[name, busy].append(worker.round(options.steps))
    finally:
        for worker in crew.values():
            worker.close()
    rows = []
    for name in crew:
        idle, beside = (statistics.median(seconds[name, busy]) for busy in (0, 1))
        row = {"code": code, "setting": name, "idle_ms": 1e3 * idle, "busy_ms": 1e3 * beside, "slower": beside / idle}
        row |= {"idle_least_ms": 1e3 * min(seconds[name, 0])}
        if "default" in crew:
            cost = [a / b for a, b in zip(seconds[name, 0], seconds["default", 0], strict=True)]
            row |= {"cost": statistics.median(cost)}
        rows.append(row)
        command.print_row(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--case", choices=CASES, default="l1")
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    command.add_options(parser, PEERS, rounds=5, steps=10)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for code, python in command.pythons_of(parser, options, PEERS).items():
            rows += measure(code, python, options, folder)
    command.write_json(options.json, rows, command.machine(options.threads))


if __name__ == "__main__":
    main()
