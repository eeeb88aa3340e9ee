"""Copper with a simple pair potential: does the check find the faults that are put into its stress?"""

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.stress_check import strained_pairs, stress_contradiction
from nequip_like.data.structures import graph_from_atoms

GPA = 160.21766208


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    graphs = []
    for _ in range(8):
        atoms = bulk("Cu", cubic=True)
        strain = rng.normal(size=(3, 3)) * 0.005
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.calc = EMT()
        labels = {
            "total_energy": torch.tensor([[atoms.get_potential_energy()]]).double(),
            "stress": torch.from_numpy(atoms.get_stress(voigt=False)).unsqueeze(0),
        }
        graphs.append(graph_from_atoms(atoms) | labels)
    return graphs


def faulty(frames, fault):
    return GraphDataset([{**frame, "stress": fault(frame["stress"])} for frame in frames], 3.0, ["Cu"])


def test_energies_change_by_the_work_of_the_stress(frames):
    energy, work, _ = strained_pairs(frames)
    assert len(energy) > 10
    torch.testing.assert_close(energy, work, atol=5e-4, rtol=0.0)


def test_a_right_stress_is_not_accused(frames):
    assert stress_contradiction(faulty(frames, lambda stress: stress)) is None


@pytest.mark.parametrize(("offset", "expected"), [(2.4, "2.4 GPa above"), (-3.0, "3.0 GPa below")])
def test_offset(frames, offset, expected):
    shifted = faulty(frames, lambda stress: stress + offset / GPA * torch.eye(3))
    assert expected in stress_contradiction(shifted)


def test_wrong_sign(frames):
    assert "sign looks wrong" in stress_contradiction(faulty(frames, lambda stress: -stress))


def test_wrong_unit(frames):
    assert "unit or sign looks wrong" in stress_contradiction(faulty(frames, lambda stress: stress * GPA))


def test_nothing_to_compare(frames, make_graph):
    assert stress_contradiction(faulty(frames[:2], lambda stress: -stress)) is None
    assert stress_contradiction(GraphDataset([make_graph("H", [[0, 0, 0]])], 3.0, ["H"])) is None
