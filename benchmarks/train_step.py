"""Time of one training step (loss, gradients of the force loss, optimizer): ours and peers' in turn.

    python benchmarks/train_step.py --data train_300K.xyz --peer nequip=PYTHON --peer nequip_compiled=PYTHON \\
        --peer mlip=PYTHON --cases l1 l1_parity l2 l2_parity l3 --batch 5 --json out.json
    python benchmarks/train_step.py --data train_300K.xyz --cases l1 --batches 1 2 5 16 32   # time against batch size

PYTHON is the interpreter of an environment with the peer: ``pip install nequip==0.19.1`` or ``pip install mlip``.
``nequip_compiled`` is nequip with ``compile_mode: compile`` (torch.compile; minutes before its first step).

All have NequIP's architecture with 4 layers of 32 features, radial network 2 x 64, cutoff 5 Angstrom, float32, energies
and forces, and one batch of the same frames. nequip gets our initial weights: ``loss_difference`` is the relative
difference of the losses before the first step, ``loss_difference_4`` the largest of the first four steps, so it sees a
wrong gradient, too. mlip (JAX) has an architecture and weights of its own and fewer parameters; its loss is not ours.

``ratio`` is the peer's time over ours (median of the rounds, with the least and the largest); above 1 we are faster.
``first_s`` is the time from the start of a process to the end of its first step; what earlier runs left in caches makes
it shorter: for nequip_compiled from nothing, set TORCHINDUCTOR_CACHE_DIR to an empty folder. ``roofline``: see
roofline.py.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import command
import roofline
import workers
from cases import ARCHITECTURE, CASES

PEERS = ("nequip", "nequip_compiled", "mlip")
SAME = 1e-5  # relative difference of losses
PRINTED = (
    *("case", "batch", "ours_ms", "peer", "peer_ms", "ratio", "ratio_min", "ratio_max", "ours_ms_per_frame"),
    *("ours_first_s", "peer_first_s", "parameters", "peer_parameters", "same_parameters"),
    *("same_loss", "loss_difference", "loss_difference_4"),
)


def run_case(case: str, batch: int, pythons: dict[str, str], options: argparse.Namespace) -> workers.Crew:
    """Time the training step of all codes."""
    with tempfile.TemporaryDirectory() as folder:
        spec = {
            "case": case,
            "batch": batch,
            "data": str(Path(options.data).resolve()),
            "threads": options.threads,
            "kernel": options.kernel,
            "weights": str(Path(folder, "weights.npz")),
        }
        return workers.run_in_turn(
            pythons,
            "train_worker.py",
            lambda code: {**spec, "code": code},
            command.limits_of(options),
            options.rounds,
            options.steps,
        )


def losses(info: dict) -> list[float]:
    """Losses of a worker's first steps."""
    return [info["value"], *info["warmup"]]


def against_peer(crew: workers.Crew, peer: str) -> dict:
    """Whether it is the same work: number of parameters, and losses where the peer has our weights."""
    ours, theirs = crew.workers["ours"].info, crew.workers[peer].info
    row = {
        "same_parameters": ours["parameters"] == theirs["parameters"],
        "peer_parameters": theirs["parameters"],
    }
    if theirs.get("our_weights"):
        differences = [abs(a - b) / abs(b) for a, b in zip(losses(ours), losses(theirs), strict=True)]
        row |= {
            "same_loss": differences[0] <= SAME,
            "loss_difference": differences[0],
            "loss_difference_4": max(differences),
        }
    return row


def rows_of(case: str, batch: int, crew: workers.Crew) -> list[dict]:
    """One row for each peer."""
    info = crew.workers["ours"].info
    found = []
    for peer in workers.peers_of(crew):
        row = {"case": case, "batch": batch, **workers.comparison(crew, peer), "parameters": info["parameters"]}
        row |= {"ours_ms_per_frame": row["ours_ms"] / batch}
        found.append(row | against_peer(crew, peer) if peer else row)
    return found


def limits_of_case(case: str, crew: workers.Crew, rates: dict) -> dict:
    """The roofline of a case."""
    info = crew.workers["ours"].info
    work = roofline.training_step(ARCHITECTURE, CASES[case], info["atoms"], info["edges"])
    if work.parameters != info["parameters"]:
        raise RuntimeError(f"roofline.py counts {work.parameters} parameters, the model has {info['parameters']}")
    line = roofline.against_limits(work, crew.median("ours"), rates)
    return {"atoms": info["atoms"], "edges": info["edges"], **rates, **line}


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="extxyz with energies and forces (3BPA's train_300K.xyz)")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="*", help="several batch sizes instead of --batch")
    command.add_options(parser, PEERS, rounds=7, steps=5)
    options = parser.parse_args()
    pythons = command.pythons_of(parser, options, PEERS)

    table = command.Table(options.json, command.machine(options.threads), PRINTED)
    for case in options.cases:
        for batch in options.batches or [options.batch]:
            rates = roofline.rates(options.threads)  # each time: the machine's speed drifts
            crew = run_case(case, batch, pythons, options)
            rows = rows_of(case, batch, crew)
            line = limits_of_case(case, crew, rates)
            table.add([row | {"roofline": line} for row in rows], crew)
            command.print_row({"roofline": case, "batch": batch, **line})


if __name__ == "__main__":
    main()
