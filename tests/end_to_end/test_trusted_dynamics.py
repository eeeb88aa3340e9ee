"""Dynamics that stop themselves: driven to 2,000 K they leave what was trained on, at 300 K they do not."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.md.langevin import Langevin

import nequip_like as nl
from nequip_like.errors import UntrustedError
from nequip_like.integrations.trust import TrustRegion

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[2] / "tutorials" / "data" / "ethanol"
ARGUMENTS = (
    *("run=[train]", "data.val=50", "cutoff_radius=4.0", "trainer.max_epochs=12", "uncertainty=llpr"),
    *("model.num_layers=2", "model.l_max=1", "model.num_features=16", "model.radial_mlp_depth=1"),
    *("model.radial_mlp_width=16", "trainer.accelerator=cpu", "report.format=[]", "report.html=false"),
)
STEPS = 400
MARGIN = 1.5  # times the largest uncertainty of held-out frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three members, trained on frames of 300 K, each with an uncertainty of its own as well."""
    folder = tmp_path_factory.mktemp("committee")
    frames = [atoms for atoms in ase.io.read(DATA / "train.xyz", ":") if atoms.info.get("temperature") == 300]
    ase.io.write(folder / "train.xyz", frames[:200], format="extxyz")
    own = [f"data.train={folder / 'train.xyz'}", *ARGUMENTS]
    members = [folder / f"member_{seed:03d}" for seed in range(3)]
    for seed, member in enumerate(members):
        nl.train(nl.compose("train", [*own, f"seed={seed}", f"output_dir={member}"]))
    nl.Committee.from_files(members).save(folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def held_out() -> list[Atoms]:
    return ase.io.read(DATA / "test_300K.xyz", ":100")


def begin(start: Atoms, temperature: float) -> tuple[Atoms, Langevin]:
    """Dynamics of a structure that begin at 300 K and are driven to a temperature."""
    atoms = Atoms(start.symbols, start.positions)
    random = np.random.default_rng(0)
    atoms.set_momenta(random.normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses() * units.kB * 300.0)[:, None])
    friction = 0.02 / units.fs
    return atoms, Langevin(atoms, 0.5 * units.fs, temperature_K=temperature, friction=friction, fixcm=False, rng=random)


def test_a_committee(folder, held_out, tmp_path):
    worst = max(each.max_force_uncertainty for each in nl.Committee.load(folder).predict(held_out))
    threshold = MARGIN * worst
    files = {temperature: tmp_path / f"{temperature}.extxyz" for temperature in (300, 2000)}
    for temperature, file in files.items():
        atoms, dynamics = begin(held_out[0], temperature)
        atoms.calc = nl.CommitteeCalculator(folder, max_force_uncertainty=threshold, untrusted_file=file)
        if temperature == 300:
            dynamics.run(STEPS)
            assert not file.exists()
            continue
        with pytest.raises(UntrustedError, match="the force on atom"):
            dynamics.run(STEPS)
        assert 5 < dynamics.nsteps < STEPS  # it began inside
        (frame,) = ase.io.read(file, ":")
        np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-7)
        assert frame.arrays["forces_uncertainty"].mean(1).max() > threshold


def test_a_single_potential(folder, held_out, tmp_path):
    """By the energy's uncertainty, of the last layer."""
    calculator = nl.NequIPCalculator(folder / "member_000")
    predicted = nl.Predictor(nl.load(folder / "member_000")).predict(held_out)
    worst = max(float(each["energy_uncertainty"]) for each in predicted)
    file = tmp_path / "untrusted.extxyz"
    for temperature in (300, 2000):
        atoms, dynamics = begin(held_out[0], temperature)
        atoms.calc = calculator
        region = TrustRegion(max_energy_uncertainty=MARGIN * worst / len(atoms), file=file)
        dynamics.attach(region.watch(atoms))
        if temperature == 300:
            dynamics.run(STEPS)
            assert not file.exists()
            continue
        with pytest.raises(UntrustedError, match="the energy has an uncertainty"):
            dynamics.run(STEPS)
        (frame,) = ase.io.read(file, ":")
        assert frame.info["energy_uncertainty"] > MARGIN * worst
