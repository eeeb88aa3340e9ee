"""Frames per second of the command that a user types, ``nequip-train``, ours and peers' in turn.

    python benchmarks/training_run.py --system ethanol=train.xyz --system 3bpa=train_300K.xyz --batches 1 5 16 \\
      --peer nequip=PYTHON --peer nequip_compiled=PYTHON --json out.json

A system is a file of structures with energies and forces; of those with stress this is trained, too. Every code trains
the same architecture (NequIP, 4 layers of 32, l = 1 without parity, float32) on the same frames with the same batch,
loss, optimizer, average of weights, validation after each epoch, checkpoints (best and last) and CSV logger, with its
own defaults for the rest. Epochs from the second on count, validation and checkpoints included; what the first one
takes, compilation among it, does not. ``ratio`` is our frames per second over the peer's, median (least to largest) of
rounds in turn. ``compiled`` is the share of a step's wall time inside compiled code in a run of ours with a stopwatch.

The peers are NequIP (eager), ``nequip_compiled`` (its ``compile_mode: compile``), and ``earlier``, an earlier commit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from command import machine, print_row, processors, pythons_of
from nequip_config import ARCHITECTURE, CSV_LOGGER, MONITORED, weigh_errors, write_nequip_config

FOLDER = Path(__file__).parent
CODES = ("nequip", "nequip_compiled", "earlier")
HELD_OUT = 10  # frames of the validation
# Adam, as NequIP has it; our default, SOAP, takes longer for a step.
OURS = """\
defaults: [train, override optimizer: adam, _self_]
run: [train]
data: {{train: {folder}/train.xyz, val: {folder}/val.xyz, batch_size: {batch}}}
cutoff_radius: 5.0
model: {model}
trainer: {{accelerator: cpu, max_epochs: {epochs}}}
trusted_packages: [epoch_times]
callbacks: {{epoch_times: {{_target_: epoch_times.EpochTimes}}}}
"""


def write_data(source: Path, folder: Path, frames: int) -> dict:
    """Frames for training and validation, all of the size that most have.

    Args:
        source: Labelled structures.
        folder: Where train.xyz and val.xyz are written.
        frames: Most training frames.

    Returns:
        Number of atoms and of training frames, species, and whether there is stress.
    """
    from ase.io import read, write

    everything = [atoms for atoms in read(source, index=":") if "forces" in atoms.calc.results]
    size = Counter(map(len, everything)).most_common(1)[0][0]
    chosen = [atoms for atoms in everything if len(atoms) == size]
    count = min(frames, len(chosen) - HELD_OUT)
    if count < 1:
        raise SystemExit(f"{source} has {len(chosen)} frames of {size} atoms; {HELD_OUT} are held out")
    write(folder / "train.xyz", chosen[:count])
    write(folder / "val.xyz", chosen[count : count + HELD_OUT])
    species = sorted({symbol for atoms in chosen[: count + HELD_OUT] for symbol in atoms.symbols})
    stress = all("stress" in atoms.calc.results for atoms in chosen[: count + HELD_OUT])
    return {"atoms": size, "frames": count, "types": ", ".join(species), "has_stress": stress}


def write_config(code: str, data: dict, folder: Path, batch: int, epochs: int) -> str:
    """The config of a run."""
    if code in ("ours", "earlier"):
        return OURS.format(folder=folder, batch=batch, epochs=epochs, model=json.dumps(ARCHITECTURE))
    has_stress = data["has_stress"]
    targets = ["total_energy", "forces", *(["stress"] if has_stress else [])]
    return write_nequip_config(
        data["types"].split(", "),
        {"seed": 0, "train_file_path": f"{folder}/train.xyz", "val_file_path": f"{folder}/val.xyz"},
        {
            "max_epochs": epochs,
            "enable_progress_bar": False,
            "logger": {"_target_": CSV_LOGGER, "save_dir": "."},
            "callbacks": [
                {"_target_": "epoch_times.EpochTimes"},
                {
                    "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "dirpath": "${hydra:runtime.output_dir}",
                    "monitor": MONITORED,
                    "filename": "best",
                    "save_last": True,
                },
            ],
        },
        {
            "loss": weigh_errors("Loss", targets, has_stress),
            "val_metrics": weigh_errors("Metrics", ["total_energy_mae", "forces_mae"], has_stress),
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.005},
        },
        {"seed": 1, "compile_mode": "compile" if code == "nequip_compiled" else "eager"},
        batch_size=batch,
    )


def run(code: str, python: str, config: str, options: argparse.Namespace, compiled: bool = False) -> dict:
    """Train once; what :class:`epoch_times.EpochTimes` tells.

    Args:
        code: "ours" or a peer.
        python: Its interpreter.
        config: The config.
        options: Of the command line.
        compiled: Whether the time in compiled code is measured.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text(config)
        told = Path(folder) / "epoch_times.json"
        path = os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH"))))
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "EPOCH_TIMES": str(told),
            "OMP_NUM_THREADS": str(options.threads),
        }
        if compiled:
            environment["TIME_COMPILED"] = "1"
        script = str(Path(python).with_name("nequip-train"))
        place = [] if code in ("ours", "earlier") else ["-cp", folder]
        own = options.override if code == "ours" else []
        command = [script, *place, "-cn", "config", *own]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=options.limit
        )
        if done.returncode or not told.is_file():
            raise RuntimeError(
                f"{code} ended with status {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
            )
        return json.loads(told.read_text())


def seconds_of_step(told: dict) -> float:
    """Wall time of a step, from the second epoch on."""
    begins = told["begins"]
    return (begins[-1] - begins[1]) / ((len(begins) - 2) * told["steps"])


def compiled_of_step(told: dict) -> float:
    """Time inside compiled code of a step, from the second epoch on."""
    compiled = told["compiled"]
    return (compiled[-1] - compiled[1]) / ((len(compiled) - 2) * told["steps"])


def row_of(place: dict, rounds: dict[str, list[dict]], watched: dict | None) -> dict:
    """One row: of each code the median of its steps, and of each peer the ratio round by round."""
    row = dict(place)
    steps = {code: [seconds_of_step(told) for told in all_told] for code, all_told in rounds.items()}
    for code, seconds in steps.items():
        median = statistics.median(seconds)
        row |= {f"{code}_ms": 1e3 * median, f"{code}_frames_s": place["batch"] / median}
        told = rounds[code][0]
        row |= {f"{code}_{key}": told[key] for key in ("parameters", "steps")}
        row[f"{code}_first_epoch_s"] = told["begins"][1] - told["begins"][0]
        if code != "ours":
            ratios = [peer / ours for peer, ours in zip(seconds, steps["ours"], strict=True)]
            row |= {f"{code}_ratio": statistics.median(ratios)}
            row |= {f"{code}_ratio_min": min(ratios), f"{code}_ratio_max": max(ratios)}
    if watched is not None:
        row["compiled_ms"] = 1e3 * compiled_of_step(watched)
        row["wall_over_compiled"] = seconds_of_step(watched) / compiled_of_step(watched)
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 5, 16])
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON", help=", ".join(CODES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4, help="of each run; all but the first count")
    parser.add_argument("--steps", type=int, default=40, help="steps of an epoch, as far as there are frames")
    parser.add_argument("--threads", type=int, default=processors(), help="of every code (default: all processors)")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds that a run may take")
    parser.add_argument("--override", action="append", default=[], help="for our runs: --override model.kernel=batched")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.epochs < 3:
        parser.error("--epochs: the first does not count, and what comes last is of two or more")
    pythons = pythons_of(parser, options, CODES)
    result: dict = {"machine": machine(options.threads), "cases": []}
    for entry in options.system:
        name, _, file = entry.partition("=")
        for batch in options.batches:
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                data = write_data(Path(file), folder, options.steps * batch)
                configs = {code: write_config(code, data, folder, batch, options.epochs) for code in pythons}
                rounds: dict[str, list[dict]] = {code: [] for code in pythons}
                for _ in range(options.rounds):
                    for code, python in pythons.items():
                        rounds[code].append(run(code, python, configs[code], options))
                watched = run("ours", pythons["ours"], configs["ours"], options, compiled=True)
            about = {"system": name, "atoms": data["atoms"], "frames": data["frames"], "batch": batch}
            result["cases"].append(row_of(about, rounds, watched))
            print_row(result["cases"][-1])
            if options.json:
                options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
