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

from nequip_like.composition.compose import compose
from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.workflow.pretrain.geometries import convert_frames
from nequip_like.workflow.setup import build_data

# Its tutorial.yaml: 4 layers of 32, l = 1 with parity, Adam at 0.01, a plateau, EMA, ZBL. Not compiled: that would take
# longer than the training. The time is that of the training alone; start and test come on top of it.
CONFIG = """\
run: [train, test]
types: [{types}]
monitor: val0_epoch/weighted_sum
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: {seed}
  train_file_path: {folder}/train.xyz
  val_file_path: {folder}/val.xyz
  test_file_path: {folder}/test.xyz
  transforms:
    - {{_target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper, model_type_names: "${{types}}"}}
    - {{_target_: nequip.data.transforms.NeighborListTransform, r_max: 5.0}}
  train_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 5, shuffle: true}}
  val_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 10}}
  test_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 10}}
  stats_manager: {{_target_: nequip.data.CommonDataStatisticsManager, type_names: "${{types}}"}}
trainer:
  _target_: lightning.Trainer
  accelerator: cpu
  max_epochs: 1000
  max_time: "00:{hours:02d}:{minutes:02d}:{seconds:02d}"
  num_sanity_val_steps: 0
  enable_progress_bar: false
  logger: {{_target_: lightning.pytorch.loggers.CSVLogger, save_dir: {folder}, name: log, version: ""}}
  callbacks:
    - _target_: lightning.pytorch.callbacks.EarlyStopping
      monitor: ${{monitor}}
      min_delta: 1.0e-3
      patience: 20
    - _target_: lightning.pytorch.callbacks.ModelCheckpoint
      dirpath: {folder}
      monitor: ${{monitor}}
      filename: best
      save_last: true
training_module:
  _target_: nequip.train.EMALightningModule
  ema_decay: 0.999
  loss:
    _target_: nequip.train.EnergyForce{stress}Loss
    per_atom_energy: true
    coeffs: {{total_energy: 1.0, forces: 1.0{stress_coeff}}}
  val_metrics:
    _target_: nequip.train.EnergyForce{stress}Metrics
    coeffs: {{total_energy_mae: 1.0, forces_mae: 1.0{stress_metric}}}
  test_metrics: ${{training_module.val_metrics}}
  optimizer: {{_target_: torch.optim.Adam, lr: 0.01}}
  lr_scheduler:
    scheduler:
      _target_: torch.optim.lr_scheduler.ReduceLROnPlateau
      factor: 0.6
      patience: 5
      threshold: 0.2
      min_lr: 1.0e-6
    monitor: ${{monitor}}
    interval: epoch
    frequency: 1
  model:
    _target_: nequip.model.NequIPGNNModel
    compile_mode: eager
    seed: {seed}
    model_dtype: float32
    type_names: ${{types}}
    r_max: 5.0
    num_layers: 4
    l_max: 1
    parity: true
    num_features: 32
    radial_mlp_depth: 2
    radial_mlp_width: 64
    avg_num_neighbors: ${{training_data_stats:num_neighbors_mean}}
    per_type_energy_scales: ${{training_data_stats:per_type_forces_rms}}
    per_type_energy_shifts: ${{training_data_stats:per_atom_energy_mean}}
    pair_potential: {{_target_: nequip.nn.pair_potential.ZBL, units: metal, chemical_species: "${{types}}"}}
"""

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
        config = CONFIG.format(
            types=", ".join(types),
            seed=seed,
            folder=folder,
            hours=int(seconds // 3600),
            minutes=int(seconds // 60 % 60),
            seconds=int(seconds % 60),
            stress="Stress" if has_stress else "",
            stress_coeff=", stress: 1.0" if has_stress else "",
            stress_metric=", stress_mae: 1.0" if has_stress else "",
        )
        Path(folder, "config.yaml").write_text(config)
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


def to_atoms(graph: Graph) -> Atoms:
    """A frame with its labels, as ASE has it."""
    (atoms,) = convert_frames([graph])
    labels: dict[str, Any] = {"energy": float(graph[fields.TOTAL_ENERGY]), "forces": graph[fields.FORCES].numpy()}
    if fields.STRESS in graph:
        labels["stress"] = graph[fields.STRESS].reshape(3, 3).numpy()
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms
