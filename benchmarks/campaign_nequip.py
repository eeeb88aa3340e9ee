"""NequIP 0.19.1 with the recipe of its own tutorial, on the frames of the campaign."""

from __future__ import annotations

import csv
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from nequip_config import CSV_LOGGER, MONITORED, weigh_errors, write_nequip_config

from nequip_like.composition.compose import compose
from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.workflow.pretrain.geometries import convert_frames
from nequip_like.workflow.setup import build_data

_COMPOSING = threading.Lock()  # Hydra's registers are not made for threads


def run_nequip(python: str, source: list[str], seed: int, seconds: float, threads: int) -> dict[str, Any]:
    """Train and test NequIP once.

    Args:
        python: Its interpreter.
        source: Our overrides that say what the data are and how they are divided.
        seed: Of weights and order.
        seconds: Of the training.
        threads: Of the run.

    Returns:
        ``rows`` of its log and ``seconds`` of the whole command; in place of the rows ``failed`` if it did.
    """
    with tempfile.TemporaryDirectory() as folder:
        with _COMPOSING:
            data = build_data(compose("train", source))
        held_out = (next(iter(sets.values())) for sets in (data.val_sets, data.test_sets))
        sets = dict(zip(("train", "val", "test"), (data.train_set, *held_out), strict=True))
        images = {name: [to_atoms(dataset[index]) for index in range(len(dataset))] for name, dataset in sets.items()}
        for name, frames in images.items():
            write(f"{folder}/{name}.xyz", frames)
        has_stress = "stress" in images["train"][0].calc.results and any("stress" in entry for entry in source)
        types = sorted({symbol for frames in images.values() for atoms in frames for symbol in atoms.symbols})
        Path(folder, "config.yaml").write_text(write_tutorial_config(folder, types, has_stress, seed, seconds))
        command = [str(Path(python).with_name("nequip-train")), "-cp", folder, "-cn", "config"]
        began = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
        )
        row: dict[str, Any] = {"seconds": time.perf_counter() - began}
        if done.returncode:
            return row | {"failed": (done.stderr or done.stdout)[-400:]}
        with Path(folder, "log", "metrics.csv").open(newline="") as file:
            return row | {"rows": list(csv.DictReader(file))}


def write_tutorial_config(folder: str, types: list[str], has_stress: bool, seed: int, seconds: float) -> str:
    """NequIP's tutorial.yaml: 4 layers of 32, l = 1 with parity, Adam at 0.01, a plateau, averaged weights, ZBL.

    It is not compiled, which would take longer than the training.

    Args:
        folder: Where the frames are, and all is written.
        types: Symbols of the species.
        has_stress: Whether stress is trained.
        seed: Of weights and order.
        seconds: Of the training alone; start and test come on top of it.
    """
    labels = ["total_energy", "forces", *(["stress"] if has_stress else [])]
    errors = [f"{label}_mae" for label in labels]
    hours, minutes = int(seconds // 3600), int(seconds // 60 % 60)
    return write_nequip_config(
        types,
        {"seed": seed, **{f"{part}_file_path": f"{folder}/{part}.xyz" for part in ("train", "val", "test")}},
        {
            "max_epochs": 1000,
            "max_time": f"00:{hours:02d}:{minutes:02d}:{int(seconds % 60):02d}",
            "enable_progress_bar": False,
            "logger": {"_target_": CSV_LOGGER, "save_dir": folder, "name": "log", "version": ""},
            "callbacks": [
                {
                    "_target_": "lightning.pytorch.callbacks.EarlyStopping",
                    "monitor": MONITORED,
                    "min_delta": 1.0e-3,
                    "patience": 20,
                },
                {
                    "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "dirpath": folder,
                    "monitor": MONITORED,
                    "filename": "best",
                    "save_last": True,
                },
            ],
        },
        {
            "ema_decay": 0.999,
            "loss": weigh_errors("Loss", labels, has_stress, per_atom_energy=True),
            "val_metrics": weigh_errors("Metrics", errors, has_stress),
            "test_metrics": weigh_errors("Metrics", errors, has_stress),
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
            "lr_scheduler": {
                "scheduler": {
                    "_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau",
                    "factor": 0.6,
                    "patience": 5,
                    "threshold": 0.2,
                    "min_lr": 1.0e-6,
                },
                "monitor": MONITORED,
                "interval": "epoch",
                "frequency": 1,
            },
        },
        {
            "compile_mode": "eager",
            "seed": seed,
            "parity": True,
            "pair_potential": {
                "_target_": "nequip.nn.pair_potential.ZBL",
                "units": "metal",
                "chemical_species": "${types}",
            },
        },
        tests=True,
    )


def to_atoms(graph: Graph) -> Atoms:
    """A frame with its labels, as ASE has it."""
    (atoms,) = convert_frames([graph])
    labels: dict[str, Any] = {"energy": float(graph[fields.TOTAL_ENERGY]), "forces": graph[fields.FORCES].numpy()}
    if fields.STRESS in graph:
        labels["stress"] = graph[fields.STRESS].reshape(3, 3).numpy()
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms
