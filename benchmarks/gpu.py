"""Tests of the GPU kernels, and times of training and dynamics on a GPU beside NequIP's, within a budget of minutes.

    benchmarks/gpu.sh                          # a fresh machine with a GPU: installs into a temporary venv, then this
    benchmarks/gpu.sh --minutes 40             # all cells, as far as we can foresee
    benchmarks/gpu.sh --dry-run --device cpu   # tiny, nothing installed: does the script itself work?

Cells are taken in the order of importance (gpu_cells.py), each in a process of its own with a limit. What no time is
left for is recorded as ``skipped: out of time``; what fails with the last line of its error. After each cell the JSON
file and the table beside it are written anew. The exit status is 1 if anything of ours failed, or nothing of ours ran.

Training steps are of batches of 27 atoms: frames of ``--molecule FILE`` (3BPA), or droplets of water with labels that
are drawn at random. Steps of dynamics go through the ASE calculators, neighbour list and copies to the CPU included,
with boxes of water, made from the first frame of ``--water FILE`` or out of nothing (systems.py): fit for times, not
for accuracy. Models: cases.py, never trained; nequip gets our weights. ``difference``: of the first loss (relative), or
of the forces (largest, over the largest force), against our batched kernel in float32; ours fails if it is too large.
Memory: the most that torch held on the GPU, or of the whole process on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median

import command
import gpu_cells
from cases import ARCHITECTURE
from gpu_cells import Cell
from gpu_machine import ROOT, CellFailedError, commit, driver, installed, last_error_line, probe
from gpu_table import table
from workers import LeftOut, Limits, Worker

RESERVE = 8.0  # seconds kept to end a process and write the files
ROUNDS, ROUND_SECONDS, ALL_SECONDS = 5, 0.2, 10.0
FEWEST, MOST = {"train": 2, "md": 8}, 50  # steps of a round; a kept neighbour list lasts about 8
# Largest difference that counts as the same numbers in float32, ten times what a CPU shows or more.
SAME = {"train": 1e-4, "md": 1e-3}
FRAMES = 16  # different droplets; larger batches take them again


class OutOfTimeError(Exception):
    """The budget ended before the cell did."""


@dataclass
class Bench:
    """One run.

    Attributes:
        options: Of the command line.
        folder: For data, weights, compiled models and forces.
        deadline: When everything has to be done, in time.time().
        environments: "ours" and "nequip" to interpreter and what :func:`probe` told.
        rows: Cell to row, in the order of the plan.
    """

    options: argparse.Namespace
    folder: Path
    deadline: float
    environments: dict[str, tuple[str, dict]] = field(default_factory=dict)
    rows: dict[Cell, dict] = field(default_factory=dict)

    def left(self) -> float:
        """Seconds that a cell may still take."""
        return self.deadline - RESERVE - time.time()

    def row(self, cell: Cell) -> dict:
        """The row of a cell that is run now, or why it is not."""
        python, environment = self.environments["ours" if cell.is_ours else "nequip"]
        missing = [name for name in cell.needs(self.options.device) if name not in environment["modules"]]
        if missing:
            return {"status": "skipped", "why": f"{missing[0]} is not installed"}
        if cell.code == "ours triton" and self.options.device == "cpu":
            return {"status": "skipped", "why": "runs on a GPU only"}
        seconds = min(cell.limit, self.left())
        if self.left() < (1.0 if self.options.dry_run else cell.least):
            return {"status": "skipped", "why": "out of time"}
        try:
            run = self.run_tests if cell.kind == "tests" else self.run_worker
            return run(cell, python, seconds)
        except OutOfTimeError:
            return {"status": "skipped", "why": "out of time"}
        except CellFailedError as error:
            return {"status": "failed", "why": str(error)}

    def run_tests(self, cell: Cell, python: str, seconds: float) -> dict:
        """Run a file of tests; what pytest says of it."""
        marks = "slow" if cell.case == "slow" else "not slow"
        side_by_side = ["-n", "4"] if self.options.device == "cuda" else []  # most of the time is Triton's compiler
        # Warnings of libraries that were never seen on a GPU are no errors: what counts here is the kernels' numbers.
        options = ["-q", "-rfE", "-W", "default", "-p", "no:cacheprovider", *side_by_side, "-m", marks]
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [python, "-m", "pytest", *options, cell.code],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its workers end with it
            )
            try:
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise self.stopped(cell, seconds) from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            output.seek(0)
            lines = [line for line in output.read().splitlines() if line.strip()] or ["no output"]
        if status:
            named = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
            raise CellFailedError(f"{(named or lines)[0 if named else -1]} ({lines[-1].strip('= ')})"[:300])
        return {"status": "passed", "why": lines[-1].strip("= ")}

    def stopped(self, cell: Cell, seconds: float) -> Exception:
        """What it means that a cell was stopped after so many seconds."""
        return OutOfTimeError() if seconds < cell.limit else CellFailedError(f"not done within {seconds:g} s")

    def run_worker(self, cell: Cell, python: str, seconds: float) -> dict:
        """Measure in a process of its own."""
        begin = time.time()
        spec = self.spec(cell)
        script = f"{cell.kind}_worker.py"
        compiled = {}
        with tempfile.TemporaryFile("w+") as messages:
            try:
                if cell.kind == "md" and cell.code.endswith("_compiled") and not Path(spec["compiled"]).exists():
                    limits = Limits(seconds, self.options.memory, seconds)
                    compiler = Worker(python, script, {**spec, "prepare": True}, limits, messages)
                    compiler.close()
                    compiled = {"compile_s": compiler.info["compile_s"]}
                seconds_left = max(1.0, seconds - (time.time() - begin))
                limits = Limits(seconds_left, self.options.memory, seconds_left)
                row = measure(Worker(python, script, spec, limits, messages), cell.kind)
            except LeftOut as error:
                if "within" in str(error):
                    raise self.stopped(cell, seconds) from None
                messages.seek(0)
                text = messages.read()
                told = "status" in str(error) and text  # it was not stopped, but ended with an error of its own
                raise CellFailedError(last_error_line(text) if told else str(error)) from None
        return {**row, **compiled, **self.agreement(cell, row["value"])}

    def spec(self, cell: Cell) -> dict:
        """What the worker gets; files are made that are not there yet."""
        code, _, kernel = cell.code.partition(" ")
        place = f"{cell.kind}_{cell.case}"
        spec = {
            **{"code": code, "kernel": kernel, "case": cell.case, "threads": self.options.threads},
            **{"device": self.options.device, "precision": cell.precision},
            "weights": str(self.folder / f"weights_{place}.npz"),
        }
        if cell.kind == "train":
            return {**spec, "batch": cell.size, "data": str(self.frames())}
        return {
            **{**spec, "skin": 0.5, "warmup": 3, "species": ARCHITECTURE["type_names"]},
            "system": str(self.water(cell.size)),
            "compiled": str(self.folder / f"{place}_{code}.nequip.pt2"),
            "forces": str(self.forces(cell)),
        }

    def frames(self) -> Path:
        """The file of the training frames."""
        path = self.options.molecule or self.folder / "frames.xyz"
        if not path.exists():
            from ase.io import write
            from systems import made_droplets

            write(path, made_droplets(FRAMES))
        return path.resolve()

    def water(self, molecules: int) -> Path:
        """The file of a box of water."""
        import systems
        from ase.io import write

        path = self.folder / f"water_{molecules}.npz"
        if not path.exists():
            source = self.options.water or self.folder / "water.xyz"
            if not source.exists():
                write(source, systems.made_water())
            systems.save(path, systems.water(str(source), molecules))
        return path

    def forces(self, cell: Cell) -> Path:
        """The file of a cell's first forces."""
        return self.folder / f"forces_{cell.name.replace(' ', '_')}.npz"

    def agreement(self, cell: Cell, value: float) -> dict:
        """How far a cell's numbers are from those of our batched kernel, which is torch's and autograd's throughout.

        A kernel of ours that gives other numbers in float32 has failed.
        """
        reference = Cell(cell.kind, "ours batched", cell.case, cell.size)
        if cell == reference or "value" not in self.rows.get(reference, {}):
            return {}
        if cell.kind == "md":
            import numpy as np

            ours, theirs = (np.load(self.forces(each))["forces"] for each in (reference, cell))
            difference = float(abs(theirs - ours).max() / abs(ours).max())
        else:
            expected = self.rows[reference]["value"]
            difference = abs(value - expected) / abs(expected)
        if cell.is_ours and cell.precision == "float32" and not difference <= SAME[cell.kind]:
            why = f"differs from the batched kernel by {difference:.2g}"
            return {"status": "failed", "why": why, "difference": difference}
        return {"difference": difference}


def measure(worker: Worker, kind: str) -> dict:
    """Times of a step, and what the worker told."""
    summary = fmean if kind == "md" else median  # the median would leave out that neighbour lists are built anew
    try:
        once = worker.round(1)
        steps = max(FEWEST[kind], min(MOST, int(ROUND_SECONDS / once)))
        steps = min(steps, max(1, int(ALL_SECONDS / once / ROUNDS)))
        times = [1e3 * worker.round(steps, summary) for _ in range(ROUNDS)]
    finally:
        worker.close()
    told = {key: worker.info[key] for key in ("value", "atoms", "edges", "parameters") if key in worker.info}
    return {
        **{"status": "measured", "ms": median(times), "ms_min": min(times), "ms_max": max(times), "steps": steps},
        **{"first_s": worker.first_seconds, "peak_mb": worker.peak_mb, **told},
    }


def has_failed(rows: Mapping[Cell, Mapping], device: str) -> bool:
    """Whether anything of ours failed, or nothing of ours ran. What had no time left is no failure."""
    ours = {cell: row for cell, row in rows.items() if cell.is_ours}
    failed = any(row["status"] == "failed" for row in ours.values())
    # On a GPU gpu.sh has installed what they need.
    missing = device == "cuda" and any("not installed" in row.get("why", "") for row in ours.values())
    return failed or missing or not any(row["status"] == "measured" for row in ours.values())


def write_result(about: Mapping, rows: Mapping[Cell, Mapping], options: argparse.Namespace) -> dict:
    """Write the JSON file and the table beside it."""
    cells = [{**asdict(cell), **row} for cell, row in rows.items()]
    result = {**about, "used_s": round(time.time() - options.started, 1), "cells": cells}
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    options.json.with_suffix(".md").write_text(table(result))
    return result


def run_cells(bench: Bench, about: Mapping) -> None:
    """Run all cells in the order of the plan, and write after each."""
    for cell in bench.rows:
        bench.rows[cell] = bench.row(cell)
        command.print_row({"cell": cell.name, **bench.rows[cell]}, ("cell", "status", "ms", "first_s", "why"))
        write_result(about, bench.rows, bench.options)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; with ``--dry-run`` sizes are tiny."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, to see whether the script works")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything, with what gpu.sh installs")
    parser.add_argument("--cases", nargs="+", choices=gpu_cells.CASES)
    parser.add_argument("--batches", type=int, nargs="+", help="frames; the first is measured most thoroughly")
    parser.add_argument("--waters", type=int, nargs="+", help="molecules; the first two likewise")
    parser.add_argument("--molecule", type=Path, help="labelled frames of 27 atoms of H, C, N, O (3BPA)")
    parser.add_argument("--water", type=Path, help="a file whose first frame is a box of water")
    parser.add_argument("--peer", metavar="nequip=PYTHON", action="append", default=[], help="by default this Python")
    parser.add_argument("--threads", type=int, default=min(16, command.processors()))
    parser.add_argument("--memory", type=float, default=64.0, help="GB that a worker may take on the host")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="the table is written beside it, as .md")
    parser.add_argument("--started", type=float, default=time.time(), help="of gpu.sh: when the minutes began")
    parser.add_argument("--installed", type=Path, help="of gpu.sh: what was installed")
    options = parser.parse_args(arguments)
    options.pythons = command.pythons_of(parser, options, ("nequip",))
    for name in ("molecule", "water"):
        path = getattr(options, name)
        if path and not path.is_file():
            parser.error(f"--{name}: there is no file {str(path)!r}")
    tiny = {"cases": ("l1",), "batches": (2,), "waters": (8,)}
    whole = {"cases": gpu_cells.CASES, "batches": gpu_cells.BATCHES, "waters": gpu_cells.WATERS}
    for name, value in (tiny if options.dry_run else whole).items():
        setattr(options, name, getattr(options, name) or value)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run everything that there is time for; the exit status."""
    options = parse(arguments)
    cells = gpu_cells.plan(options.cases, options.batches, options.waters)
    machine = command.machine(options.threads)
    about = {
        **{"card": machine["cpu"] if options.device == "cpu" else "no GPU", "driver": driver(), "commit": commit()},
        **{"device": options.device, "dry_run": options.dry_run, "budget_s": 60 * options.minutes, "machine": machine},
        "data": f"molecule {options.molecule or 'made up'}, water {options.water or 'made up'}",
        "install": installed(options.installed),
    }
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder), options.started + 60 * options.minutes)
        bench.rows = {cell: {"status": "not begun"} for cell in cells}
        try:
            for name, python in (("ours", sys.executable), *options.pythons.items()):
                bench.environments[name] = (python, probe(python, options.device))
        except (CellFailedError, subprocess.TimeoutExpired) as error:  # without torch or card no cell can run
            bench.rows = {cell: {"status": "failed", "why": str(error)} for cell in cells}
            about["why"] = str(error)
        else:
            bench.environments.setdefault("nequip", bench.environments["ours"])
            about |= bench.environments["ours"][1]
            about["nequip_versions"] = bench.environments["nequip"][1]["versions"]
            run_cells(bench, about)
        print(table(write_result(about, bench.rows, options)), flush=True)
    return int(has_failed(bench.rows, options.device))


if __name__ == "__main__":
    sys.exit(main())
