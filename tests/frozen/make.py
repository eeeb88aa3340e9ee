"""Writes the files of the present format version that later versions must go on reading.

    python tests/frozen/make.py tests/frozen/v2

A tiny model, trained for one epoch with EMA and without: checkpoints to resume, the
exported models, and what they predict. The files are made once for each format version and then never again.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import ase.io
import torch
from hydra import compose, initialize_config_module

from nequip_like.data.dataset import load_dataset
from nequip_like.data.graph import collate
from nequip_like.inference import model_file
from nequip_like.workflow.config.values import register_resolvers, tutorial_data
from nequip_like.workflow.train import train

MODULES = ("ema", "default")
SETTINGS = (
    "run=[train]",
    "data.train=frames.xyz",
    "data.val=3",
    "data.batch_size=4",
    "cutoff_radius=3.5",
    "model.num_layers=1",
    "model.num_features=2",
    "model.l_max=1",
    "model.num_bessels=4",
    "model.radial_mlp_depth=1",
    "model.radial_mlp_width=4",
    "model.model_dtype=float64",
    "model.seed=1",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
    "output_dir=run",
)


def settings(module: str) -> list[str]:
    return [*SETTINGS, f"training_module={module}"]


def write_frames(path: Path) -> None:
    ase.io.write(path, ase.io.read(tutorial_data("ethanol/train.xyz"), ":18"), format="extxyz")


def predictions(model: Path, frames: Path) -> dict[str, list]:
    potential = model_file.read_model(model)
    batch = collate(list(load_dataset(frames, potential.type_names, potential.cutoff))[-2:])
    found = potential(batch)
    return {name: found[name].tolist() for name in ("total_energy", "forces")}


def main(target: Path) -> None:
    register_resolvers()
    target.mkdir(parents=True)
    write_frames(Path("frames.xyz"))
    for module in MODULES:
        with initialize_config_module("nequip_like.conf", version_base="1.3"):
            train(compose("train", settings(module)))
        shutil.copy("run/checkpoints/last.ckpt", target / f"{module}.ckpt")
        shutil.copy("run/model.safetensors", target / f"{module}.safetensors")
        expected = predictions(Path("run/model.safetensors"), Path("frames.xyz"))
        (target / f"{module}.json").write_text(json.dumps(expected))
        shutil.rmtree("run")


if __name__ == "__main__":
    where = Path(sys.argv[1]).absolute()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main(where)
