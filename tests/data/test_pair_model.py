"""Copper with a simple potential: the labels agree, and each fault that is put into them is named."""

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.pair_model import compare, label_contradiction
from nequip_like.data.structures import graph_from_atoms

GPA = 160.21766208


def shaken(potential, frames=16, strain=0.0, shake=0.1, repeat=1):
    rng = np.random.default_rng(0)
    graphs = []
    for _ in range(frames):
        atoms = bulk("Cu", cubic=True).repeat((repeat, 1, 1))
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + rng.normal(scale=strain, size=(3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(scale=shake, size=atoms.positions.shape)
        atoms.calc = potential
        labels = {
            "total_energy": torch.tensor([[atoms.get_potential_energy()]]).double(),
            "forces": torch.from_numpy(atoms.get_forces()),
            "stress": torch.from_numpy(atoms.get_stress(voigt=False)).unsqueeze(0),
        }
        graphs.append(graph_from_atoms(atoms) | labels)
    return graphs


def morse():
    return MorsePotential(epsilon=0.3, r0=2.5, rho0=3.0, rcut1=2.8, rcut2=3.8)


@pytest.fixture(scope="module")
def frames():
    return shaken(EMT())


def changed(frames, **changes):
    return GraphDataset(
        [{**f, **{name: change(f[name]) for name, change in changes.items()}} for f in frames], 5.0, ["Cu"]
    )


def test_a_pair_potential_is_found_again():
    result = compare(GraphDataset(shaken(morse()), 5.0, ["Cu"]))
    assert result.explained > 0.999
    for compared in (result.energy, result.stress):
        label, fit = compared.label.flatten(), compared.fit.flatten()
        assert compared.certainty > 100
        assert float((label * fit).sum() / fit.square().sum()) == pytest.approx(1.0, abs=0.02)
        assert float((label * fit).sum() / (label.norm() * fit.norm())) > 0.998


@pytest.mark.parametrize("strain", [0.0, 0.02])
@pytest.mark.parametrize("shake", [0.0, 0.01, 0.03, 0.1, 0.2])
@pytest.mark.parametrize("repeat", [1, 2])
@pytest.mark.parametrize("potential", [EMT, morse])
def test_right_labels_of_lattices_are_not_accused(potential, strain, shake, repeat):
    """Forces on a lattice are blind for pressure and elasticity; the fit says nothing of them, or something wrong."""
    graphs = shaken(potential(), 20, strain, shake, repeat)
    assert label_contradiction(GraphDataset(graphs, 5.0, ["Cu"])) is None


def test_stress_of_strained_lattices_is_checked_too():
    graphs = [{**frame, "stress": -frame["stress"]} for frame in shaken(EMT(), 20, 0.02)]
    assert "is the sign wrong?" in label_contradiction(GraphDataset(graphs, 5.0, ["Cu"]))


def test_right_labels_are_not_accused(frames):
    assert label_contradiction(changed(frames)) is None


def vasp(stress):
    order = [0, 1, 2, 5, 3, 4]
    voigt = stress[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]][:, order]
    return voigt[:, torch.tensor([[0, 5, 4], [5, 1, 3], [4, 3, 2]])]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"forces": lambda f: -f}, "are they gradients, the negative of forces?"),
        ({"total_energy": lambda e: 23.06 * e}, "energies vary 23 times as much"),
        ({"total_energy": lambda e: e / 27.2114}, "is the unit of one of them wrong"),
        ({"forces": lambda f: f / 51.422}, "energies vary 51 times as much"),
        ({"stress": lambda s: -s}, "is the sign wrong?"),
        ({"stress": lambda s: GPA * s}, "stress is 1.6e+02 times as large"),
        ({"stress": lambda s: -47.0 * s}, "is the sign wrong?"),
        ({"stress": vasp}, "in VASP's order of components"),
    ],
)
def test_faults_are_named(frames, changes, expected):
    assert expected in label_contradiction(changed(frames, **changes))


def test_too_little_to_say(frames, make_graph):
    assert label_contradiction(changed(frames[:7], forces=lambda f: -f)) is None
    assert label_contradiction(changed(frames, forces=torch.zeros_like)) is None
    assert label_contradiction(changed(frames, forces=lambda f: torch.full_like(f, torch.nan))) is None
    assert label_contradiction(GraphDataset([make_graph("H", [[0, 0, 0]])] * 9, 3.0, ["H"])) is None


def test_noise_is_no_contradiction(frames):
    torch.manual_seed(0)
    assert label_contradiction(changed(frames, forces=torch.randn_like)) is None


def test_missing_energies_and_stress_are_left_out(frames):
    missing = [{**f, "total_energy": torch.full((1, 1), torch.nan).double()} for f in frames[:6]]
    partly = GraphDataset([*missing, *frames[6:]], 5.0, ["Cu"])
    assert label_contradiction(partly) is None
    assert len(compare(partly).energy.label) == 10
