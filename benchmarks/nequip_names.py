"""What NequIP 0.19.1 logs for the configs of tests/compat: names, and the last numbers with the weights they belong to.

    python benchmarks/nequip_names.py --peer PYTHON            compare with the stored names
    python benchmarks/nequip_names.py --peer PYTHON --store    write tests/compat/reference

PYTHON is that of an environment with nequip 0.19.1; `python benchmarks/nequip_parity.py --make-env DIR` makes one.
NequIP trains each config for two epochs on slices of the bundled data, in a temporary folder.
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "tests" / "compat"
STORED = CONFIGS / "reference" / "logged_names.json"
TRAINED = CONFIGS / "reference" / "trained.npz"
# The config whose last validation and test are stored: its files are given, its network is float64.
NUMBERS_OF = "nequip_names"
DATA = ROOT / "tutorials" / "data"
# Config -> {file it names: (bundled file, first frame, last frame)}
SLICES = {
    "nequip_tutorial": {"tutorial_data.xyz": ("ethanol/train.xyz", 3, 43)},
    "nequip_names": {
        "train.xyz": ("mgo/train.xyz", 0, 6),
        "val_a.xyz": ("mgo/train.xyz", 6, 10),
        "val_b.xyz": ("mgo/train.xyz", 10, 12),
        "test_a.xyz": ("mgo/test.xyz", 0, 3),
        "test_b.xyz": ("mgo/test.xyz", 3, 6),
    },
}
# A checkpoint of NequIP's is a pickle: its own environment reads it.
_WEIGHTS = """
import glob, numpy, torch
state = torch.load(glob.glob("**/best.ckpt", recursive=True)[0], map_location="cpu", weights_only=False)["state_dict"]
numpy.savez("weights.npz", **{key: value.numpy() for key, value in state.items() if key.endswith("weight")})
"""
CSV = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": ".", "name": "logged", "version": ""}


def write_data(name, folder):
    """Write the files that a config names into a folder."""
    import ase.io

    for file, (source, start, stop) in SLICES[name].items():
        ase.io.write(Path(folder, file), ase.io.read(DATA / source, f"{start}:{stop}"), format="extxyz")


def logged_names(path):
    """Columns of a metrics.csv without the counters, which are ours and Lightning's."""
    with open(path, newline="") as file:
        return sorted(set(next(csv.reader(file))) - {"epoch", "step", "micro_step", "update_step"})


def last_values(path):
    """The last value of each validation and test metric in a metrics.csv."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith(("val", "test"))]
    return {name: float([row[name] for row in rows if row[name]][-1]) for name in names}


def run_peer(python, name):
    """Train with NequIP; gives the sorted names in its CSV, the last values, and the best weights."""
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    config["trainer"]["logger"] = CSV  # what the config names may need an account
    with tempfile.TemporaryDirectory() as folder:
        write_data(name, folder)
        Path(folder, "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"OMP_NUM_THREADS": "1"}
        subprocess.run(
            [python, "-m", "nequip.scripts.train", "-cp", folder, "-cn", "config.yaml", "hydra.run.dir=run"],
            cwd=folder, env=environment, check=True,
        )  # fmt: skip
        subprocess.run([python, "-c", _WEIGHTS], cwd=folder, env=environment, check=True)
        with np.load(Path(folder, "weights.npz"), allow_pickle=False) as stored:
            weights = {key: stored[key] for key in stored.files}
        table = Path(folder, "logged", "metrics.csv")
        return logged_names(table), last_values(table), weights


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="python of an environment with nequip 0.19.1")
    parser.add_argument("--store", action="store_true", help="write the reference of the tests")
    arguments = parser.parse_args()
    results = {name: run_peer(arguments.peer, name) for name in SLICES}
    found = {name: result[0] for name, result in results.items()}
    if arguments.store:
        STORED.parent.mkdir(parents=True, exist_ok=True)
        STORED.write_text(json.dumps({"nequip": "0.19.1", "names": found}, indent=1) + "\n")
        _, values, weights = results[NUMBERS_OF]
        np.savez_compressed(TRAINED, values=np.array(json.dumps(values)), **weights)
        print(f"wrote {STORED}, {TRAINED}: " + ", ".join(f"{name} {len(names)} names" for name, names in found.items()))
        return 0
    stored = json.loads(STORED.read_text())["names"]
    for name, names in found.items():
        print(f"{name}: {len(names)} names, {'as stored' if stored.get(name) == names else 'NOT as stored'}")
    with np.load(TRAINED, allow_pickle=False) as file:
        expected = json.loads(str(file["values"]))
    values = results[NUMBERS_OF][1]
    names = sorted(values.keys() | expected.keys())
    off = max(abs(values.get(n, math.inf) - expected.get(n, 0.0)) / abs(expected.get(n, 1.0)) for n in names)
    print(f"{NUMBERS_OF}: {len(names)} numbers, off by {off:.1e} of the stored ones at most")
    return 0 if stored == found and off < 1e-6 else 1


if __name__ == "__main__":
    sys.exit(main())
