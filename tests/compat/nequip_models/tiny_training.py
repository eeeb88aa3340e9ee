"""A training of NequIP's own, as small as it can be: what the tests read was made by it.

``python -m tests.compat.nequip_models.tiny_training PYTHON`` makes ``tests/compat/reference/nequip_model`` anew, with
an interpreter that has NequIP 0.19.1.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

REFERENCE = Path(__file__).parents[1] / "reference" / "nequip_model"
CONFIG = """\
run: [train]
types: [H, C, O]
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 1
  train_file_path: train.xyz
  val_file_path: train.xyz
  transforms:
    - {_target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper, model_type_names: "${types}"}
    - {_target_: nequip.data.transforms.NeighborListTransform, r_max: 3.5}
  train_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: 2}
  val_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: 4}
  stats_manager: {_target_: nequip.data.CommonDataStatisticsManager, type_names: "${types}"}
trainer:
  _target_: lightning.Trainer
  accelerator: cpu
  max_epochs: 2
  num_sanity_val_steps: 0
  enable_progress_bar: false
  logger: false
  callbacks:
    - _target_: lightning.pytorch.callbacks.ModelCheckpoint
      dirpath: .
      filename: best
      monitor: val0_epoch/forces_mae
training_module:
  _target_: nequip.train.EMALightningModule
  ema_decay: 0.5
  loss: {_target_: nequip.train.EnergyForceStressLoss, coeffs: {total_energy: 1.0, forces: 1.0, stress: 1.0}}
  val_metrics: {_target_: nequip.train.EnergyForceMetrics, coeffs: {total_energy_mae: 1.0, forces_mae: 1.0}}
  optimizer: {_target_: torch.optim.Adam, lr: 0.01}
  model:
    _target_: nequip.model.NequIPGNNModel
    seed: 3
    model_dtype: float64
    type_names: ${types}
    r_max: 3.5
    num_layers: 2
    l_max: 1
    parity: true
    num_features: 4
    type_embed_num_features: 3
    radial_mlp_depth: 1
    radial_mlp_width: 4
    num_bessels: 4
    per_edge_type_cutoff: {H: {C: 2.1}, O: 2.5}
    bessel_trainable: true
    per_type_energy_shifts_trainable: true
    avg_num_neighbors: ${training_data_stats:num_neighbors_mean}
    per_type_energy_scales: ${training_data_stats:per_type_forces_rms}
    per_type_energy_shifts: ${training_data_stats:per_atom_energy_mean}
    pair_potential: {_target_: nequip.nn.pair_potential.ZBL, units: metal, chemical_species: "${types}"}
"""
# Trains a model of a package, with other energies of isolated atoms.
FINE_TUNED = """\
  model:
    _target_: nequip.model.modify
    modifiers:
      - {modifier: modify_PerTypeScaleShift, shifts: {H: -13.6}, shifts_trainable: true}
    model: {_target_: nequip.model.ModelFromPackage, package_path: model.nequip.zip}
"""
TESTED = """\
  model: {_target_: nequip.model.ModelFromCheckpoint, checkpoint_path: written.ckpt}
"""


def write_frames(path):
    """Eight labelled frames of a periodic box with H, C and O."""
    random = np.random.default_rng(0)
    frames = []
    places = [[0, 0, 0], [1.3, 0.1, 0], [-0.6, 0.9, 0.1], [-0.5, -0.9, 0.2], [2.0, 1.9, 0.8], [2.9, 1.7, 1.1]]
    for _ in range(8):
        cell = np.diag([4.1, 4.3, 4.6]) + random.normal(0, 0.1, (3, 3))
        atoms = Atoms("COHHOH", positions=places, cell=cell, pbc=True)
        atoms.rattle(0.08, rng=random)
        stress = random.normal(0, 0.01, 6)
        atoms.calc = SinglePointCalculator(
            atoms, energy=float(random.normal() - 10), forces=random.normal(size=(6, 3)), stress=stress
        )
        frames.append(atoms)
    ase.io.write(path, frames)


def run(python, folder, command, *arguments):
    """Run a command of NequIP's in a folder."""
    program = str(Path(python).with_name(command))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return done.stdout + done.stderr


def train(python, folder, model=None, name="config"):
    """Train in a folder with another model than that of CONFIG if one is given; writes ``best.ckpt``."""
    write_frames(folder / "train.xyz")
    head = CONFIG[: CONFIG.index("  model:\n")]
    (folder / f"{name}.yaml").write_text(CONFIG if model is None else head + model)
    (folder / "best.ckpt").unlink(missing_ok=True)
    run(python, folder, "nequip-train", "-cp", str(folder), "-cn", name)
    return folder / "best.ckpt"


def package(python, checkpoint, output):
    """Package a checkpoint."""
    run(python, checkpoint.parent, "nequip-package", "build", str(checkpoint), str(output))
    return output


def keep_data(source, target):
    """A package without NequIP's code, which is most of it, and which nothing here looks at."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as kept:
        for entry in whole.infolist():
            parts = entry.filename.split("/")
            if (parts[1] == ".data" and parts[-1].endswith(".storage")) or parts[-1] in WANTED:
                kept.writestr(entry, whole.read(entry))


WANTED = ("config.yaml", "package_metadata.txt", "eager_model.pkl")


def main(python):
    from nequip_like.compat.nequip_models.peers import run_in_nequip

    REFERENCE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = train(python, folder)
        keep_data(package(python, checkpoint, folder / "model.nequip.zip"), REFERENCE / "tiny.nequip.zip")
        (REFERENCE / "tiny.ckpt").write_bytes(checkpoint.read_bytes())
        run_in_nequip(python, "peer_dump.py", [str(checkpoint), str(REFERENCE)], "open it")


if __name__ == "__main__":
    main(sys.argv[1])
