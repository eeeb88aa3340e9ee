"""Settings of every test process: threads, and no windows and no network."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("WANDB_MODE", "disabled")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes side by side share the cores: one thread each, in processes that tests start as well.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    import torch

    torch.set_num_threads(1)


import pytest  # noqa: E402 (after the settings, which torch reads when it is imported)


@pytest.fixture
def make_potential():
    """Builds a small potential with random weights: float64, of H, C and O by default."""

    def make(**arguments):
        from nequip_like.model import NequIPGNNModel

        small = {
            "type_names": ["H", "C", "O"],
            "r_max": 3.0,
            "num_features": 4,
            "num_layers": 2,
            "radial_mlp_width": 8,
            "avg_num_neighbors": 5.0,
            "per_type_energy_scales": 2.0,
            "per_type_energy_shifts": -1.5,
            "model_dtype": "float64",
        }
        return NequIPGNNModel(**{**small, **arguments}).eval()

    return make


@pytest.fixture
def write_labelled():
    """Writes an extended XYZ file of molecules and crystals with random labels (seeded) and returns its path.

    Molecules have energy and forces, crystals also stress. Every third frame has no forces.
    """

    def write(path, frames=7, seed=0, stress=True):
        import ase.io
        import numpy as np
        from ase.build import bulk, molecule
        from ase.calculators.singlepoint import SinglePointCalculator

        random = np.random.default_rng(seed)
        images = []
        for i in range(frames):
            periodic = i % 2 == 1
            atoms = bulk("CO", "zincblende", a=3.6).repeat((2, 1, 1)) if periodic else molecule("CH3CH2OH")
            atoms.rattle(0.05, rng=random)
            labels = {"energy": random.normal() - 1.5 * len(atoms)}
            if i % 3 != 2:
                labels["forces"] = random.normal(size=(len(atoms), 3))
            if periodic and stress:
                labels["stress"] = 0.01 * random.normal(size=6)
            atoms.calc = SinglePointCalculator(atoms, **labels)
            images.append(atoms)
        ase.io.write(path, images, format="extxyz")
        return path

    return write
