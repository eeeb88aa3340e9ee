"""Dynamics end where a committee's members disagree: hot ones do, cold ones do not, and the structure is kept."""

import ase.build
import ase.io
import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet

from nequip_like.committee import Committee
from nequip_like.errors import ConfigError, ModelFileError, UntrustedError
from nequip_like.inference import save
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.integrations.trust import CommitteeCalculator, TrustRegion


@pytest.fixture
def committee(make_potential):
    return Committee([make_potential(seed=seed) for seed in (1, 2)])


def molecule():
    atoms = ase.build.molecule("CH3CH2OH")
    atoms.rattle(0.02, seed=0)
    return atoms


def read_uncertainty(calculator, atoms):
    calculator.calculate(atoms)
    return calculator.results["forces_uncertainty"].mean(1).max()


def test_results(committee):
    atoms = molecule()
    (prediction,) = committee.predict([atoms])
    atoms.calc = CommitteeCalculator(committee)
    assert atoms.get_potential_energy() == pytest.approx(prediction.energy_mean)
    np.testing.assert_allclose(atoms.get_forces(), prediction.forces_mean, atol=1e-12)
    assert atoms.calc.results["energy_uncertainty"] == pytest.approx(prediction.energy_std)
    np.testing.assert_allclose(atoms.calc.results["forces_uncertainty"], prediction.forces_std, atol=1e-12)
    assert atoms.calc.get_property("energy_uncertainty", atoms) == pytest.approx(prediction.energy_std)


def test_of_files(tmp_path, committee, make_potential):
    committee.save(tmp_path / "committee.safetensors")
    atoms = molecule()
    expected = CommitteeCalculator(committee).get_potential_energy(atoms)
    for calculator in (
        CommitteeCalculator(tmp_path / "committee.safetensors"),
        NequIPCalculator(tmp_path / "committee.safetensors"),
        CommitteeCalculator([make_potential(seed=seed) for seed in (1, 2)]),
    ):
        assert calculator.get_potential_energy(atoms) == pytest.approx(expected)
        assert calculator.results["energy_uncertainty"] > 0
    save(make_potential(), tmp_path / "single.safetensors")
    with pytest.raises(ModelFileError, match="holds a single potential"):
        CommitteeCalculator(tmp_path / "single.safetensors")


def run_dynamics(atoms, temperature, steps=20):
    momenta = np.random.default_rng(0).normal(size=(len(atoms), 3))
    atoms.set_momenta(momenta * np.sqrt(atoms.get_masses() * units.kB * temperature)[:, None])
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    return dynamics, lambda: dynamics.run(steps)


def test_hot_dynamics_stop_and_cold_ones_run(tmp_path, committee):
    """With a little more uncertainty than at the start, 1 K stays inside, and atoms that fly together do not."""
    start = molecule()
    threshold = 1.1 * read_uncertainty(CommitteeCalculator(committee), start)
    file = tmp_path / "new" / "untrusted.extxyz"
    cold, hot = start.copy(), start.copy()
    for atoms in (cold, hot):
        atoms.calc = CommitteeCalculator(committee, max_force_uncertainty=threshold, untrusted_file=file)
    run_dynamics(cold, 1)[1]()
    assert not file.exists()
    dynamics, run = run_dynamics(hot, 1)
    inwards = hot.get_center_of_mass() - hot.positions
    hot.set_velocities(0.5 * inwards / (10 * units.fs))  # half as large after 20 steps
    with pytest.raises(UntrustedError, match=r"the force on atom \d \(\w\) has an uncertainty of .*untrusted.extxyz"):
        run()
    assert dynamics.nsteps < 20
    (frame,) = ase.io.read(file, ":")
    np.testing.assert_allclose(frame.positions, hot.positions, atol=1e-7)
    assert frame.arrays["forces_uncertainty"].mean(1).max() > threshold
    assert frame.info["energy_uncertainty"] > 0
    np.testing.assert_allclose(frame.get_forces(), hot.calc.results["forces"], atol=1e-6)
    with pytest.raises(UntrustedError):  # asked again, it does not answer of its memory
        hot.get_forces()
    assert len(ase.io.read(file, ":")) == 2


def test_an_observer(tmp_path, committee):
    """Any calculator with uncertainties can be watched; the energy's is one of them."""
    atoms = molecule()
    atoms.calc = NequIPCalculator(committee.potential)
    limit = 1.5 * atoms.calc.get_property("energy_uncertainty", atoms) / len(atoms)
    region = TrustRegion(max_energy_uncertainty=limit, file=tmp_path / "a.extxyz")
    dynamics, run = run_dynamics(atoms, 200_000)
    dynamics.attach(region.watch(atoms))
    with pytest.raises(UntrustedError, match=r"the energy has an uncertainty of .* eV/atom, more than"):
        run()
    assert len(ase.io.read(tmp_path / "a.extxyz", ":")) == 1


def test_without_uncertainties(make_potential):
    atoms = molecule()
    atoms.calc = NequIPCalculator(make_potential())
    with pytest.raises(ConfigError, match="predicts no forces_uncertainty"):
        TrustRegion(0.1, file=None).watch(atoms)()


def test_thresholds(committee):
    with pytest.raises(ConfigError, match="no uncertainty is limited"):
        TrustRegion()
    with pytest.raises(ConfigError, match="max_force_uncertainty"):
        CommitteeCalculator(committee, max_force_uncertainty=-1.0)


def test_nan_is_not_trusted(committee):
    atoms = molecule()
    with pytest.raises(UntrustedError):
        TrustRegion(0.1, file=None).check(atoms, {"forces_uncertainty": np.full((len(atoms), 3), np.nan)})
