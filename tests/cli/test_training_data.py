"""Several data sets, forces of a part of the frames, differences and compounds, as a user types them."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import ase.io
import pytest

from nequip_like.inference.model_file import read_card
from tests.processes import environment, run_python

CONFIG = """\
defaults: [train, _self_]
data:
  train:
    warm: {file: warm.xyz, weight: 3.0}
    cold: cold.xyz
  val:
    warm: {part: 2, of: warm}
    cold: {part: 2, of: cold}
  sampling: {force_fraction: 0.5, force_resample_num_epochs: 1}
  base_targets: {base_energy: total_energy, base_forces: forces}
  reference_energies: {compounds: [CH2O], fixed: {H: -0.5, C: -1.0}}
cutoff_radius: 4.0
model: {num_layers: 2, num_features: 4, radial_mlp_depth: 1, radial_mlp_width: 8}
trainer: {max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}
run: [train]
output_dir: out
"""


@pytest.fixture
def folder(tmp_path, molecule_file) -> Path:
    """18 molecules in one file, 6 in another, each with a base of half of its energy and no forces."""
    frames = ase.io.read(molecule_file, ":")
    for atoms in frames:
        atoms.info["base_energy"] = atoms.get_potential_energy() / 2
        atoms.arrays["base_forces"] = atoms.get_forces() * 0
    ase.io.write(tmp_path / "cold.xyz", frames[:18])
    ase.io.write(tmp_path / "warm.xyz", frames[18:])
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def type_in(folder):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ("-m", "nequip_like.cli.train", "config.yaml", *arguments)
        return run_python(*command, cwd=folder, env=environment(COLUMNS="250"))

    return run


def test_a_run_of_everything(type_in, folder):
    """4 of 6 and 16 of 18 frames train: with weights of 3 and 1, 20 draws have 12 * 20 / 28 = 8.6 and 11.4."""
    done = type_in()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in each epoch: warm 9 of 4 frames (45.0%), cold 11 of 16 frames (55.0%)" in done.stdout
    assert "those of 10 of 20 frames are trained on, drawn anew each epoch" in done.stdout
    assert "reference_compounds" in done.stdout
    assert "from CH2O; H, C given" in done.stdout
    with (folder / "out" / "metrics.csv").open() as file:
        names = next(csv.reader(file))
    assert {"val0_epoch/forces_rmse", "val1_epoch/forces_rmse"} <= set(names)
    card = read_card(folder / "out" / "model.safetensors")
    assert card["base"] == {"kind": "labels", "base": {"base_energy": "total_energy", "base_forces": "forces"}}
    # Shares decide which frames an epoch has: a run cannot go on with others.
    done = type_in("data.train.warm.weight=2.0", "resume=auto", "trainer.max_epochs=3")
    assert done.returncode == 2
    assert "error: data.train.warm.weight was 3.0 in the run that" in done.stderr


def test_mistakes(type_in):
    for arguments, parts in (
        (["++data.sampling.temperature=-1"], ["data.sampling.temperature is -1", "above 0"]),
        (["data.val.warm.of=hot"], ["data.val.warm is a part of 'hot', which is no set of data.train"]),
        (["data.train.cold=none.xyz"], ["none.xyz"]),
        (["data.reference_energies.fixed.H=null"], ["data.reference_energies.fixed.H is null"]),
    ):
        done = type_in(*arguments)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert all(part in done.stderr for part in parts), done.stderr
