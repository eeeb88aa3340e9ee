"""Time of one training step (loss, gradients of the force loss, optimizer), ours and a peer's in turn.

    python benchmarks/train_step.py --data train_300K.xyz --peer nequip=/path/to/python/with/nequip --json out.json

Both run in the same process tree, in turn: round by round, so that a machine whose speed drifts slows both. The same
architecture, batch and data: NequIP with 4 layers of 32 features, radial network 2 x 64, cutoff 5 Angstrom, float32,
energies and forces. ``ratio`` is the peer's time over ours; above 1 we are faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

CASES = {
    "l1": {"l_max": 1, "parity": False},
    "l1_parity": {"l_max": 1, "parity": True},
    "l2": {"l_max": 2, "parity": False},
    "l2_parity": {"l_max": 2, "parity": True},
    "l3": {"l_max": 3, "parity": False},
}
ARCHITECTURE = {
    "seed": 1,
    "model_dtype": "float32",
    "type_names": ["H", "C", "N", "O"],
    "r_max": 5.0,
    "num_layers": 4,
    "num_features": 32,
    "radial_mlp_depth": 2,
    "radial_mlp_width": 64,
    "avg_num_neighbors": 16.7,
    "per_type_energy_scales": 1.0,
    "per_type_energy_shifts": 0.0,
}


def read_batch(data: str, batch: int) -> list[dict]:
    """Frames as plain arrays, with a neighbour list: the same input for every code."""
    import numpy as np
    from ase.io import read
    from ase.neighborlist import neighbor_list

    frames = []
    for atoms in read(data, index=f":{batch}"):
        centre, neighbour = neighbor_list("ij", atoms, ARCHITECTURE["r_max"])
        frames.append(
            {
                "pos": atoms.positions,
                "types": np.array([ARCHITECTURE["type_names"].index(s) for s in atoms.get_chemical_symbols()]),
                "edges": np.stack([centre, neighbour]),
                "energy": atoms.get_potential_energy(),
                "forces": atoms.get_forces(),
            }
        )
    return frames


def joined(frames: list[dict]) -> dict:
    """One batch of tensors under the names that both codes use."""
    import torch

    counts = [len(frame["pos"]) for frame in frames]
    offsets = [sum(counts[:i]) for i in range(len(counts))]
    return {
        "pos": torch.cat([torch.tensor(frame["pos"]) for frame in frames]),
        "atom_types": torch.cat([torch.tensor(frame["types"]) for frame in frames]),
        "edge_index": torch.cat([torch.tensor(f["edges"]) + o for f, o in zip(frames, offsets, strict=True)], dim=1),
        "batch": torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)),
        "num_atoms": torch.tensor(counts),
        "total_energy": torch.tensor([[frame["energy"]] for frame in frames], dtype=torch.float64),
        "forces": torch.cat([torch.tensor(frame["forces"]) for frame in frames]),
    }


def worker(code: str, case: str, data: str, batch: int, threads: int, kernel: str) -> None:
    """Build the model of one code, then time one round for each line on standard input."""
    import time
    import warnings

    warnings.filterwarnings("ignore")
    import torch

    torch.set_num_threads(threads)
    target = joined(read_batch(data, batch))
    step, info = _ours(case, target, kernel) if code == "ours" else _nequip(case, target)
    first_loss = step()
    for _ in range(3):
        step()
    print(json.dumps({"loss": first_loss, **info}), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


def _ours(case: str, target: dict, kernel: str) -> tuple:
    import torch

    from nequip_like.model import NequIPGNNModel
    from nequip_like.train import EnergyForceLoss

    model = NequIPGNNModel(**ARCHITECTURE, **CASES[case], kernel=kernel)
    loss = EnergyForceLoss(type_names=ARCHITECTURE["type_names"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> float:
        optimizer.zero_grad()
        value = loss.step(model(target), target)["weighted_sum"]
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step, {"parameters": sum(p.numel() for p in model.parameters())}


def _nequip(case: str, target: dict) -> tuple:
    import torch
    from nequip.model import NequIPGNNModel
    from nequip.train import EnergyForceLoss
    from nequip.utils.global_state import set_global_state

    set_global_state()
    model = NequIPGNNModel(**ARCHITECTURE, **CASES[case])
    model.train()
    loss = EnergyForceLoss(coeffs={"total_energy": 1.0, "forces": 1.0})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> float:
        optimizer.zero_grad()
        values = loss(model(dict(target)), target, prefix="", suffix="")
        value = values["weighted_sum"]
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step, {"parameters": sum(p.numel() for p in model.parameters())}


class Child:
    """A worker process of one code."""

    def __init__(self, python: str, code: str, case: str, options: argparse.Namespace) -> None:
        command = [python, __file__, "--worker", code, "--case", case, "--data", options.data]
        command += ["--batch", str(options.batch), "--threads", str(options.threads), "--kernel", options.kernel]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.info = json.loads(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(("{", "[")):
                return line
        raise RuntimeError("a worker process ended early; its messages are above")

    def round(self, steps: int) -> float:
        """Median seconds of one step."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return statistics.median(json.loads(self._line()))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="extxyz with energies and forces (3BPA's train_300K.xyz)")
    parser.add_argument("--peer", help="NAME=PYTHON: interpreter of the environment with the peer (nequip)")
    parser.add_argument("--cases", nargs="*", default=["l1", "l1_parity", "l2", "l2_parity"], choices=list(CASES))
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kernel", default="auto", help="our model.kernel")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5, help="steps a round")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.case, options.data, options.batch, options.threads, options.kernel)
        return

    results = []
    for case in options.cases:
        children = {"ours": Child(sys.executable, "ours", case, options)}
        if options.peer:
            name, python = options.peer.split("=", 1)
            children[name] = Child(python, name, case, options)
        rounds = {name: [] for name in children}
        for _ in range(options.rounds):
            for name, child in children.items():
                rounds[name].append(child.round(options.steps))
        row = {"case": case, "batch": options.batch, "parameters": children["ours"].info["parameters"]}
        row |= {f"{name}_ms": 1e3 * statistics.median(times) for name, times in rounds.items()}
        if options.peer:
            ratios = [peer / ours for ours, peer in zip(rounds["ours"], rounds[name], strict=True)]
            row |= {"ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
            row["same_parameters"] = children[name].info["parameters"] == row["parameters"]
        for child in children.values():
            child.close()
        results.append(row)
        print(
            " ".join(
                f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()
            )
        )
    if options.json:
        options.json.write_text(json.dumps({"cases": results}, indent=1))


if __name__ == "__main__":
    main()
