"""What it is worth that the C library keeps freed memory (nequip_like.process_settings.keep_memory), and what it costs.

    python benchmarks/allocator.py --kernel auto --json allocator.json

Each case runs in two processes in turn, one with the settings and one without (glibc's own). ``ms`` is the least wall
time of the repetitions, ``cpu_ms`` the least processor time, which other programs disturb less; ``peak_mb`` the growth
of the process's peak memory. ``ratio`` is glibc's own time over that with the settings; above 1 they win.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

SECONDS = 4.0  # repeated for so long, but at least three times


def fill(megabytes: int) -> Callable[[], object]:
    """Write to a new tensor."""
    import torch

    return lambda: torch.empty(megabytes * 2**18).fill_(1.0)


def neighbors() -> Callable[[], object]:
    """The neighbour list of a crystal of 97,556 atoms."""
    from ase.build import bulk

    from nequip_like.data.io.structures import graph_from_atoms
    from nequip_like.data.neighbors import add_neighbors

    graph = graph_from_atoms(bulk("Cu", cubic=True, a=3.6).repeat(29))
    return lambda: add_neighbors(graph, 5.5)


def forces(l_max: int, copies: int, kernel: str) -> Callable[[], object]:
    """One step of dynamics of water."""
    from ase.build import molecule

    from nequip_like.integrations.ase import NequIPCalculator
    from nequip_like.model import NequIPGNNModel

    model = NequIPGNNModel(
        seed=0,
        model_dtype="float32",
        type_names=["H", "O"],
        r_max=5.0,
        num_layers=4,
        num_features=32,
        l_max=l_max,
        parity=False,
        avg_num_neighbors=50.0,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
        kernel=kernel,
    )
    atoms = molecule("H2O", cell=[3.1] * 3, pbc=True).repeat(copies)
    calculator = NequIPCalculator(model.requires_grad_(False).eval())
    return lambda: calculator.calculate(atoms)


CASES = {
    "fill_16_mb": lambda _: fill(16),
    "fill_64_mb": lambda _: fill(64),
    "fill_512_mb": lambda _: fill(512),
    "neighbors_97556": lambda _: neighbors(),
    "forces_l1_192": lambda kernel: forces(1, 4, kernel),
    "forces_l1_3993": lambda kernel: forces(1, 11, kernel),
    "forces_l2_3993": lambda kernel: forces(2, 11, kernel),
}


def peak_mb() -> float:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3


def serve(case: str, kernel: str, keep: bool) -> None:
    """Measure once for each line on standard input."""
    from nequip_like.process_settings import keep_memory

    if keep and not keep_memory():
        sys.exit("the C library did not take the settings, or the environment has some already")
    import torch

    torch.set_num_threads(1)
    work = CASES[case](kernel)
    before = peak_mb()
    work()
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        seconds = {"s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        print(json.dumps({**seconds, "peak_mb": peak_mb() - before}), flush=True)


def ask(worker: subprocess.Popen) -> dict:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    return json.loads(worker.stdout.readline())


def compare(case: str, kernel: str) -> dict:
    command = [sys.executable, __file__, "--cases", case, "--kernel", kernel, "--serve"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    crew = {name: subprocess.Popen([*command, name], **pipes) for name in ("glibc", "kept")}
    answers: dict[str, list[dict]] = {name: [] for name in crew}
    try:
        for worker in crew.values():
            assert worker.stdout is not None
            worker.stdout.readline()
        end = time.perf_counter() + SECONDS
        while len(answers["kept"]) < 3 or time.perf_counter() < end:
            for name, worker in crew.items():
                answers[name].append(ask(worker))
    finally:
        for worker in crew.values():
            worker.kill()
            worker.wait()
    row: dict = {"case": case}
    for key in ("s", "cpu_s"):
        least = {name: min(answer[key] for answer in answers[name]) for name in crew}
        label = key.removesuffix("s") + "ms"
        row |= {f"{name}_{label}": 1e3 * value for name, value in least.items()}
        row[key.removesuffix("s") + "ratio"] = least["glibc"] / least["kept"]
    return row | {f"{name}_peak_mb": answers[name][-1]["peak_mb"] for name in crew}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--kernel", default="auto", help="our model.kernel")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--serve", choices=("glibc", "kept"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.cases[0], options.kernel, options.serve == "kept")
    rows = []
    for case in options.cases:
        rows.append(compare(case, options.kernel))
        print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in rows[-1].items()), flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"cases": rows}, file, indent=1)


if __name__ == "__main__":
    main()
