"""Energies in Hartree that were read as eV are told; other energies are not."""

from __future__ import annotations

import ase.units
import pytest

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.energy_unit import find_energies_in_hartree
from nequip_like.data.inspection.measure import measure

ETHANOL = "C2OH6"
ETHANOL_HARTREE = -154.72  # PBE; its free atoms: 2 * 37.845 + 75.0673 + 6 * 0.5 = 153.757


def find(make_graph, energies, formula=ETHANOL):
    count = len(make_atoms(formula))
    positions = [[3.0 * i, 0, 0] for i in range(count)]
    frames = [make_graph(formula, positions, total_energy=[[energy]]) for energy in energies]
    species = sorted(set(make_atoms(formula)))
    return list(find_energies_in_hartree(measure(GraphDataset(frames, 3.5, species).frames)))


def make_atoms(formula):
    from ase.symbols import Symbols

    return list(Symbols.fromsymbols(formula))


def test_hartree_is_told(make_graph):
    energies = [ETHANOL_HARTREE + 0.01 * i for i in range(4)]
    assert find(make_graph, energies) == [
        "energies are 1.006 times those of the free atoms in Hartree; are they in Hartree? "
        "Declare it: 'data.units={energy: Hartree, forces: Hartree/Bohr}'"
    ]


@pytest.mark.parametrize(
    ("energies", "formula"),
    [
        ([ETHANOL_HARTREE * ase.units.Hartree] * 3, ETHANOL),  # in eV
        ([-46.9, -46.8, -46.5], ETHANOL),  # of projector-augmented waves, eV
        ([ETHANOL_HARTREE, ETHANOL_HARTREE, -46.8], ETHANOL),  # of several kinds
        ([ETHANOL_HARTREE] * 2, ETHANOL),  # too few
        ([-1.17] * 3, "H2"),  # bound by a sixth
        ([-6.77] * 3, "H2"),
        ([-79.0] * 3, "Cu"),  # heavier elements are not looked at
    ],
)
def test_others_are_not(make_graph, energies, formula):
    assert find(make_graph, energies, formula) == []
