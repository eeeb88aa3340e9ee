"""What a pair potential that is fitted to forces says about stress."""

import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential

from nequip_like.data.inspection.pair_potential_fit import fit_stress
from tests.data.labelled_sets import as_dataset, label_contradiction, strained


def morse():
    return MorsePotential(epsilon=0.3, r0=2.5, rho0=3.0, rcut1=2.8, rcut2=3.8)


def shaken(potential, frames=16, strain=0.0, shake=0.1, repeat=1):
    return strained(bulk("Cu", cubic=True).repeat((repeat, 1, 1)), potential, frames, strain, shake)


@pytest.fixture(scope="module")
def frames():
    return shaken(morse())


def test_a_pair_potential_is_found_again(frames):
    result = fit_stress(as_dataset(frames))
    assert result.explained > 0.999
    assert result.certainty > 100
    label, fit = result.label.flatten(), result.fit.flatten()
    assert float((label * fit).sum() / fit.square().sum()) == pytest.approx(1.0, abs=0.02)
    assert float((label * fit).sum() / (label.norm() * fit.norm())) > 0.998


LATTICES = [
    (potential, repeat, shake, strain)
    for potential in (EMT, morse)
    for repeat in (1, 2)
    for shake in (0.0, 0.01, 0.03, 0.1, 0.2)
    for strain in (0.0, 0.02)
]
# The extremes and the middle of a small cell, and one larger cell; the others take a quarter of a minute.
QUICK = [(potential, 1, shake, strain) for potential, _, shake, strain in LATTICES if shake in (0.0, 0.03, 0.2)]
QUICK += [(EMT, 2, 0.1, 0.02)]


@pytest.mark.parametrize(
    ("potential", "repeat", "shake", "strain"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case not in QUICK)) for case in LATTICES],
)
def test_right_labels_of_lattices_are_not_accused(potential, strain, shake, repeat):
    """Forces on a lattice are blind for pressure and elasticity; the fit says nothing of them, or something wrong."""
    assert label_contradiction(as_dataset(shaken(potential(), 20, strain, shake, repeat))) is None


def test_stress_without_energies_is_compared_with_forces(frames):
    missing = {"total_energy": lambda energy, _: torch.full_like(energy, torch.nan)}
    assert label_contradiction(as_dataset(frames, **missing)) is None
    assert "is the sign wrong?" in label_contradiction(as_dataset(frames, stress=lambda s, _: -s, **missing))


def test_too_little_to_say(frames, make_graph):
    assert fit_stress(as_dataset(frames[:7])) is None
    assert fit_stress(as_dataset(frames, forces=lambda f, _: torch.zeros_like(f))) is None
    assert fit_stress(as_dataset(frames, forces=lambda f, _: torch.full_like(f, torch.nan))) is None
    assert fit_stress(as_dataset(frames, stress=lambda s, _: torch.full_like(s, torch.nan))) is None
    assert fit_stress(as_dataset([make_graph("H", [[0, 0, 0]])] * 9)) is None


def test_frames_without_stress_are_left_out(frames):
    missing = [{**f, "stress": torch.full_like(f["stress"], torch.nan)} for f in frames[:6]]
    assert len(fit_stress(as_dataset([*missing, *frames[6:]])).label) == 10
