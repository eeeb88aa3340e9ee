"""Short trainings at learning rates from far too low to far too high: how each ends, beside its best epoch.

    python benchmarks/rate_sweep.py --sets ethanol=ethanol.xyz mo=Mo.xyz --rates 1e-4 1e-3 1e-2 1e-1 0.3 1

Each is a run of ``nequip-train`` on one thread with a small model (l=1 without parity), a warm-up of two epochs and a
cosine down to nearly nothing. ``best`` and ``last`` are the validation's weighted sums of the best and of the last
epoch, ``above`` is by how much the last exceeds the best, ``rollbacks`` how often the run went back to earlier weights.
A run that ended with an error has its first words in place of the last value. With
``--overrides training_module.on_divergence.action=ignore`` the same without the watch.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path

from command import machine, run_training

VALUE = "val0_epoch/weighted_sum"
MODEL = ("model.l_max=1", "model.parity=false", "model.num_features=16", "model.num_layers=3", "cutoff_radius=4.5")
SCHEDULE = ("lr_scheduler=warmup_cosine", "training_module.lr_scheduler.warmup_length=2")


def run(file: Path, rate: float, options: argparse.Namespace) -> dict:
    """Train once.

    Args:
        file: The data.
        rate: Learning rate of Adam.
        options: Of the command line.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = f"data.train={{file: {file.absolute()}, index: ':{options.frames}'}}"
        keys = [data, "data.val=20", "data.batch_size=5", *MODEL, *SCHEDULE, "trainer.accelerator=cpu", "run=[train]"]
        last = [f"training_module.optimizer.lr={rate}", f"trainer.max_epochs={options.epochs}", *options.overrides]
        done, seconds = run_training(["-cn", "train", *keys, *last, f"output_dir={folder}/run"], folder, threads=1)
        history = Path(folder) / "run" / "metrics.csv"
        rows = list(csv.DictReader(history.open(newline=""))) if history.is_file() else []
    values = [float(row[VALUE]) for row in rows if row.get(VALUE)]
    error = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["?"])[0][:200]
    return {
        "rate": rate,
        "best": min(values, default=None),
        "last": values[-1] if values else None,
        "epochs": len(values),
        "rollbacks": done.stdout.count("back to the weights of step"),
        "seconds": seconds,
        "error": error,
        "said": [line for line in done.stdout.splitlines() if "back to the weights" in line],
    }


def format_row(name: str, row: dict) -> str:
    """One line of the table."""
    head = f"{name:12s} {row['rate']:8.0e} "
    if row["best"] is None:
        return f"{head} {row['error']}"
    above = 100 * (row["last"] / row["best"] - 1)
    values = f"{row['best']:9.4f} {row['last']:11.4g} {above:9.1f} %"
    return f"{head} {values} {row['rollbacks']:9d} {row['seconds']:7.0f}  {row['error']}".rstrip()


def main() -> None:
    """Run all, and print one row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", required=True, metavar="NAME=FILE")
    parser.add_argument("--rates", type=float, nargs="+", default=(1e-4, 1e-3, 1e-2, 1e-1, 0.3, 1.0))
    parser.add_argument("--frames", type=int, default=120, help="of each file, 20 of which are the validation's")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--overrides", nargs="*", default=(), help="further key=value for all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    print(f"{'set':12s} {'rate':>8s}  {'best':>9s} {'last':>11s} {'above':>11s} {'rollbacks':>9s} {'seconds':>7s}")
    for entry in options.sets:
        name, _, file = entry.partition("=")
        for rate in options.rates:
            row = run(Path(file), rate, options)
            results.append({"set": name, **row})
            print(format_row(name, row), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(1), "runs": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
