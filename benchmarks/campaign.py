"""Training recipes against each other: errors on held-out frames, at equal length of the runs.

    python benchmarks/campaign.py --data FOLDER --sets ethanol 3bpa Mo --seeds 0 1 --length budget=180s \
        --recipe default --recipe 'l2: model.l_max=2 model.parity=false' --json out.json

--data holds the folders of the sets (SETS below), as they were published. A recipe is a name and overrides of the
default config. --length is given to all, before the recipe's own: ``budget=180s``, or
``trainer.max_epochs=null trainer.max_steps=2000`` where the machine has other work. Runs are of one thread each, --jobs
of them at a time.

A row: ``forces`` and ``stress`` are root mean squares in meV/Angstrom and GPa, ``energy`` in meV/atom, of the frames
held out, with the weights that were exported; ``forces_mae`` in meV/Angstrom; ``best`` and ``last`` are the monitored
value at the best validation and at the last; ``seconds`` is the whole command, start and test included.

Two recipes are no configs of ours: ``nequip-auto`` gives the frames and the time of the budget to that command, and
``nequip`` is NequIP 0.19.1 with its tutorial's recipe (--nequip PYTHON; see campaign_nequip.py).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shlex
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from campaign_nequip import run_nequip
from command import machine, run_module, run_training

from nequip_like.training.budget.durations import read_budget

# How each set is divided: the same frames for all recipes and seeds of weights.
SETS = {
    "ethanol": "rmd17_ethanol/ethanol_train_01.xyz +data.train_size=450 data.val=50 data.test=500",
    "ethanol50": "rmd17_ethanol/ethanol_train_01.xyz +data.train_size=40 data.val=10 data.test=500",
    "3bpa": "3bpa/train_300K.xyz data.val=50 data.test=50 data.reference_energies=DATA/3bpa/iso_atoms.xyz",
    "3bpa45": "3bpa/train_300K.xyz +data.train_size=36 data.val=9 data.test=300",
    "Mo": "mlearn/Mo_train.xyz data.val=20 data.test=DATA/mlearn/Mo_test.xyz targets=energy_force_stress",
    "water": "water_pbe0/water_pbe0_64.xyz data.val=8 data.test=16",
    "tio2": "tio2_aenet/tio2.xyz data.val=12 data.test=20 +data.allow_overlap=true",
    "elements": "many_elements/materials_400.xyz data.val=30 data.test=50 targets=energy_force_stress",
    # Not looked at while recipes are chosen: the final check.
    "co2": "co2_ni100/co2_ni100_300.xyz data.val=30 data.test=60",
    "TiAl": "key_zoo/TiAl_tutorial.xyz data.val=30 data.test=60 targets=energy_force_stress",
}
GPA = 160.21766208  # of 1 eV/Angstrom^3
VALUES = {
    "forces": ("test0_epoch/forces_rmse", 1000.0),
    "forces_mae": ("test0_epoch/forces_mae", 1000.0),
    "energy": ("test0_epoch/per_atom_energy_rmse", 1000.0),
    "stress": ("test0_epoch/stress_rmse", GPA),
}


def read_recipe(text: str) -> tuple[str, list[str]]:
    """Name and overrides of a recipe on the command line."""
    name, _, overrides = text.partition(":")
    return name.strip(), shlex.split(overrides)


def run(
    recipe: str, data: Path, name: str, seed: int, length: list[str], threads: int, nequip: str | None = None
) -> dict[str, Any]:
    """Train and test once.

    Args:
        recipe: As on the command line.
        data: Folder of the sets.
        name: Name of the set.
        seed: Seed of weights and order.
        length: Overrides that say how long the run is.
        threads: Of the run.
        nequip: Interpreter with NequIP.
    """
    label, overrides = read_recipe(recipe)
    file, *division = SETS[name].replace("DATA", str(data)).split()
    row: dict[str, Any] = {"set": name, "recipe": label, "seed": seed}
    if label == "nequip":
        if nequip is None:
            raise SystemExit("the recipe nequip needs --nequip PYTHON")
        told = run_nequip(nequip, [f"data.train={data}/{file}", *division], seed, read_seconds(length), threads)
        rows = told.pop("rows", None)
        return row | told if rows is None else row | told | read_errors(rows)
    with tempfile.TemporaryDirectory() as folder:
        keys = [*division, f"seed={seed}", *overrides, "report.format=[]"]
        if label == "nequip-auto":
            options = ["--minutes", f"{read_seconds(length) / 60:g}", "--output", f"{folder}/run"]
            done, seconds = run_module("auto", [f"{data}/{file}", *options, *keys], folder, threads)
        else:
            keys = [f"hydra.run.dir={folder}/run", f"data.train={data}/{file}", *length, *keys]
            done, seconds = run_training(["-cn", "train", *keys], folder, threads)
        row |= {"seconds": seconds}
        if done.returncode:
            return row | {"failed": (done.stderr or done.stdout)[-400:]}
        with (Path(folder) / "run" / "metrics.csv").open(newline="") as log:
            return row | read_errors(list(csv.DictReader(log)), best_again=True)


def read_seconds(length: list[str]) -> float:
    """The time of a length that is a budget."""
    budgets = [entry.partition("=")[2] for entry in length if entry.startswith("budget=")]
    if not budgets:
        raise SystemExit("nequip-auto and nequip need a time: --length budget=180s")
    budget = read_budget(budgets[-1])
    assert budget is not None
    return budget.seconds


def read_errors(rows: list[dict[str, str]], best_again: bool = False) -> dict[str, Any]:
    """Errors of the test, and how the monitored value went.

    Args:
        rows: Of ``metrics.csv``.
        best_again: Whether the best weights were validated once more in the end, as ours are.
    """
    tested = next(row for row in reversed(rows) if row.get(VALUES["forces"][0]))
    monitored = [float(row["val0_epoch/weighted_sum"]) for row in rows if row.get("val0_epoch/weighted_sum")]
    monitored = monitored[:-1] if best_again else monitored
    steps = [int(row["step"]) for row in rows if row.get("step")]
    errors = {key: factor * float(tested[column]) for key, (column, factor) in VALUES.items() if tested.get(column)}
    return errors | {"best": min(monitored), "last": monitored[-1], "steps": max(steps), "epochs": len(monitored)}


def describe(row: dict[str, Any]) -> str:
    """A row as one line."""
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()
    )


def compute_means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds, of each set and recipe; of errors geometric ones, so that a factor counts as a factor."""
    means = []
    for key in dict.fromkeys((row["set"], row["recipe"]) for row in rows):
        mine = [row for row in rows if (row["set"], row["recipe"]) == key and "failed" not in row]
        if mine:
            values = {
                value: math.exp(statistics.mean(math.log(row[value]) for row in mine))
                for value in VALUES
                if value in mine[0]
            }
            means.append({"set": key[0], "recipe": key[1], "runs": len(mine), **values})
    return means


def main() -> None:
    """Run all, and print one row for each run and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--recipe", action="append", required=True, metavar="NAME[: OVERRIDES]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--length", nargs="+", default=["budget=180s"], metavar="KEY=VALUE")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--nequip", metavar="PYTHON", help="interpreter with NequIP, for the recipe of this name")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="written after each run; rows that it has are not run anew"
    )
    options = parser.parse_args()
    kept = json.loads(options.json.read_text())["rows"] if options.json and options.json.exists() else []
    rows = list(kept)
    done = {(row["set"], row["recipe"], row["seed"]) for row in kept}
    data = options.data.absolute()
    with ThreadPoolExecutor(options.jobs) as pool:
        waiting = [
            pool.submit(run, recipe, data, name, seed, options.length, options.threads, options.nequip)
            for seed in options.seeds
            for name in options.sets
            for recipe in options.recipe
            if (name, read_recipe(recipe)[0], seed) not in done
        ]
        for future in waiting:
            rows.append(future.result())
            print(describe(rows[-1]), flush=True)
            if options.json:
                result = {"machine": machine(options.threads), "length": options.length, "rows": rows}
                options.json.write_text(json.dumps(result | {"means": compute_means(rows)}, indent=1) + "\n")
    for row in compute_means(rows):
        print("mean: " + describe(row))


if __name__ == "__main__":
    main()
