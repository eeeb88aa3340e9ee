"""What the tests of fine-tuning share: a source, data labelled by it, and a run before its first step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.data.datamodule import DataModule
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.model import NequIPGNNModel, Potential
from nequip_like.nn.native.compiler import find_compiler
from nequip_like.training.module import NequIPLightningModule
from nequip_like.workflow import setup
from nequip_like.workflow.finetune import run as finetune
from nequip_like.workflow.finetune.run import FineTuning

EXACT = 1e-12
KERNELS = ["batched", pytest.param("fused", marks=pytest.mark.skipif(find_compiler() is None, reason="no C compiler"))]
READOUT = "energy_model.readout.weights.0"
REFERENCES = "data.reference_energies={H:-1.0,C:-2.0,O:-3.0,S:-8.0}"
MOVED = {"H": 0.5, "C": -20.0, "O": 3.0}


def source_potential(**changes: Any) -> Potential:
    """A model of the size of all tests here, which is like no other: species, scales and shifts of its own."""
    arguments = {
        "seed": 11, "model_dtype": "float64", "type_names": ["O", "H", "C", "N"], "r_max": 4.0, "num_layers": 2,
        "num_features": 4, "radial_mlp_depth": 1, "radial_mlp_width": 8, "avg_num_neighbors": 7.5,
        "per_type_energy_scales": {"O": 0.5, "H": 0.25, "C": 0.75, "N": 1.0}, "kernel": "batched",
        "per_type_energy_shifts": {"O": -3.0, "H": -1.0, "C": -2.0, "N": -4.0}, "type_embed_num_features": 4,
    }  # fmt: skip
    return NequIPGNNModel(**{**arguments, **changes}).eval()


def plain(*overrides: str) -> Any:
    """A config of somebody who says nothing of the model."""
    from hydra import compose, initialize_config_module

    from nequip_like.workflow.config.values import register_resolvers

    register_resolvers()
    with initialize_config_module("nequip_like.conf", version_base="1.3"):
        return compose("train", list(overrides))


def begun(config: Any) -> tuple[FineTuning, DataModule, NequIPLightningModule]:
    """Everything as it is before the first step."""
    tuning = finetune.begin(config, None)
    assert tuning is not None
    data = setup.build_data(config, tuning.source.type_names)
    model = tuning.build(config, data)
    return tuning, data, setup.build_module(config, data, {}, model)


def write(path: Path, frames: list[Atoms], label: Callable[[Atoms], tuple[float, np.ndarray]]) -> Path:
    labelled = []
    for atoms in frames:
        energy, forces = label(atoms)
        copy = atoms.copy()
        copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces)
        labelled.append(copy)
    ase.io.write(path, labelled)
    return path


def shaken(names: list[str], repeats: int = 2, seed: int = 0) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    frames = [molecule(name) for name in names for _ in range(repeats)]
    for atoms in frames:
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
    return frames


def as_source(source: Path, changes: dict[str, float]) -> Callable[[Atoms], tuple[float, np.ndarray]]:
    """Labels of the source, with other reference energies."""
    calculator = NequIPCalculator(source)

    def label(atoms: Atoms) -> tuple[float, np.ndarray]:
        known = atoms.copy()
        known.calc = calculator
        moved = sum(changes.get(symbol, 0.0) for symbol in atoms.get_chemical_symbols())
        return known.get_potential_energy() + moved, known.get_forces()

    return label


def nothing(atoms: Atoms) -> tuple[float, np.ndarray]:
    return -1.0 * len(atoms), np.zeros((len(atoms), 3))
