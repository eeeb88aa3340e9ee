"""The recommended recipe against the tutorial's: force errors on held-out frames at equal wall time.

    python benchmarks/recipes.py --data 3bpa --seeds 0 1 2 --json recipes.json

--data is a folder with train_300K.xyz and iso_atoms.xyz of 3BPA. Both recipes (recipes/*.yaml) train the same model on
the same frames; for each seed they run in turn, as ``nequip-train`` does. ``forces_rmse`` is in meV/Angstrom,
``energy_rmse`` in meV/atom, both of the frames held out; ``seconds`` is the time of the whole command, start and test
included.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
from pathlib import Path

from command import machine, processors, run_training

FOLDER = Path(__file__).parent / "recipes"
VALUES = {"forces_rmse": "test0_epoch/forces_rmse", "energy_rmse": "test0_epoch/per_atom_energy_rmse"}


def run(recipe: str, data: Path, seed: int, threads: int, overrides: list[str]) -> dict:
    """Train and test once.

    Args:
        recipe: Name of a file in recipes/.
        data: Folder of 3BPA.
        seed: Seed of weights and order.
        threads: Number of threads.
        overrides: Further ``key=value`` for both.
    """
    with tempfile.TemporaryDirectory() as folder:
        keys = [f"hydra.run.dir={folder}/run", f"data.path={data}", f"seed={seed}", *overrides]
        done, seconds = run_training([str(FOLDER / f"{recipe}.yaml"), *keys], folder, threads)
        if done.returncode:
            sys.exit(f"{recipe} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        with (Path(folder) / "run" / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get(VALUES["forces_rmse"])]
    values = {name: 1000 * float(rows[-1][key]) for name, key in VALUES.items()}
    return {"recipe": recipe, "seed": seed, "seconds": seconds, **values}


def main() -> None:
    """Run all, and print one row for each run and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--recipes", nargs="+", default=("tutorial_3bpa", "recommended_3bpa"))
    parser.add_argument("--threads", type=int, default=processors())
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("overrides", nargs="*", help="key=value for all recipes")
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        for recipe in options.recipes:
            rows.append(run(recipe, options.data.absolute(), seed, options.threads, options.overrides))
            print(
                " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in rows[-1].items()),
                flush=True,
            )
    means = [
        {"recipe": recipe}
        | {
            name: statistics.mean(row[name] for row in rows if row["recipe"] == recipe)
            for name in ("seconds", "forces_rmse", "energy_rmse")
        }
        for recipe in options.recipes
    ]
    for row in means:
        print("mean: " + " ".join(f"{k}={v:.4g}" if isinstance(v, float) else v for k, v in row.items()))
    if options.json:
        result = {"machine": machine(options.threads), "rows": rows, "means": means}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
