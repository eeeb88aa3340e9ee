"""Settings of every test process: threads, and no windows and no network. Small labelled data sets."""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("WANDB_MODE", "disabled")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes side by side share the cores: one thread each, in processes that tests start as well.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    import torch

    torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Half a million objects that stay are made meanwhile; nothing is gained by looking through them for garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def compose_quickly():
    """Most of composing a config is the same each time."""
    from tests import composing

    with pytest.MonkeyPatch.context() as patch:
        for remember in (composing.parse_once, composing.read_once, composing.list_once, composing.merge_once):
            remember(patch)
        composing.write_quickly(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def leave_files_in_memory():
    """No test waits for a power failure; to wait for the disk at each file would be a tenth of a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        yield


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


@pytest.fixture(scope="session")
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


# What makes a model and a run as small as they can be while every part is there, with settings that tests count on.
TINY = (
    "training_module.optimizer.lr=0.005",
    "training_module.gradient_clip=null",
    "model.l_max=1",
    "model.parity=true",
    "model.num_layers=2",
    "model.num_features=4",
    "model.radial_mlp_depth=1",
    "model.radial_mlp_width=8",
    "model.model_dtype=float64",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "uncertainty=none",
)


@pytest.fixture(scope="session")
def molecule_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 frames of shaken formaldehyde (H, C, O) with energies and forces of a Morse potential; made once."""
    import ase.io
    import numpy as np
    from ase import Atoms
    from ase.calculators.morse import MorsePotential
    from ase.calculators.singlepoint import SinglePointCalculator

    rng = np.random.default_rng(0)
    rest = [[0, 0, 0], [1.2, 0, 0], [-0.6, 0.93, 0], [-0.6, -0.93, 0]]
    frames = []
    for _ in range(24):
        atoms = Atoms("COH2", np.array(rest) + rng.normal(scale=0.05, size=(4, 3)))
        atoms.calc = MorsePotential(epsilon=1.0, r0=1.2, rho0=3.0, rcut1=3.0, rcut2=3.5)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    path = tmp_path_factory.mktemp("molecules") / "molecules.xyz"
    ase.io.write(path, frames)
    return path


@pytest.fixture(scope="session")
def crystal_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 frames of strained and shaken copper (4 atoms) with energies, forces and stress of EMT; made once."""
    import ase.io
    import numpy as np
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.calculators.singlepoint import SinglePointCalculator

    rng = np.random.default_rng(1)
    frames = []
    for _ in range(24):
        atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
        strain = np.eye(3) + rng.normal(scale=0.02, size=(3, 3))
        atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
        atoms.positions += rng.normal(scale=0.08, size=(4, 3))
        atoms.calc = EMT()
        results = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(),
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    path = tmp_path_factory.mktemp("crystals") / "crystals.xyz"
    ase.io.write(path, frames)
    return path


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Overrides that make model and run as small as they can be."""
    return list(TINY)


@pytest.fixture
def compose(tmp_path: Path, molecule_file: Path) -> Callable[..., Any]:
    """Compose a config of a tiny run on the molecules, as a user of the Python API does: ``compose("run=[val]")``.

    14 frames to train, 5 to validate, 5 to test; output in the test's folder. The schedule is a plateau with
    early stopping: its learning rate does not depend on the length of the run, so tests may cut runs off and go on.
    Nothing is drawn or reported, which would take a fifth of a tiny run, unless an override says so:
    ``report.format=png``.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module

    from nequip_like.workflow.config.values import register_resolvers

    def compose(*overrides: str, name: str = "train") -> Any:
        register_resolvers()
        plain = [
            f"{group}={choice}"
            for group, choice, others in (
                ("optimizer", "adam", ()),
                ("lr_scheduler", "plateau", ("budget=",)),
                ("callbacks", "[default,early_stopping]", ("budget=",)),
                ("report.format", "[]", ("report",)),
                ("report.html", "false", ("report",)),
            )
            if name == "train" and not any(o.startswith((f"{group}=", *others)) for o in overrides)
        ]
        with initialize_config_module("nequip_like.conf", version_base="1.3"):
            return hydra_compose(
                name,
                [
                    f"data.train={molecule_file}",
                    "data.val=5",
                    "data.test=5",
                    "cutoff_radius=4.0",
                    f"output_dir={tmp_path / 'run'}",
                    # What makes NequIP tiny, another family has no keys for.
                    *(o for o in TINY if not ("model=descriptor_ann" in overrides and o.startswith("model."))),
                    *plain,
                    *overrides,
                ],
            )

    return compose


@pytest.fixture
def make_data(molecule_file):
    """Builds a data module of molecules: by default 14 frames to train, 5 to validate, 5 to test, batches of 5."""

    from nequip_like.data.datamodule import DataModule

    def make(**changes) -> DataModule:
        arguments = {"train": str(molecule_file), "val": 5, "test": 5, "cutoff_radius": 3.0, "batch_size": 5}
        return DataModule(**{**arguments, **changes}).prepare()

    return make


@pytest.fixture
def quiet_trainer(tmp_path):
    """Builds a trainer that writes, shows and validates nothing: one epoch on a CPU by default."""

    import lightning

    def make(**changes) -> lightning.Trainer:
        arguments = {
            "accelerator": "cpu",
            "max_epochs": 1,
            "default_root_dir": tmp_path,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "inference_mode": False,
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "limit_val_batches": 0,
        }
        return lightning.Trainer(**{**arguments, **changes})

    return make
