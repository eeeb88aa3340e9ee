"""Values of a size that nature does not have."""

import math

import pytest

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.measure import measure
from nequip_like.data.inspection.plausibility import (
    find_implausible_cells,
    find_implausible_distances,
    find_implausible_energies,
    find_implausible_forces,
)

BOND = [[0, 0, 0], [0, 0, 0.74]]


def warnings(frames, species=("H",), cutoff=3.0):
    dataset = GraphDataset(frames, cutoff, list(species))
    checks = (find_implausible_distances, find_implausible_energies, find_implausible_forces, find_implausible_cells)
    facts = measure(dataset.frames)
    return [finding.text for check in checks for finding in check(facts, dataset.origin)]


def test_facts_by_hand(make_graph):
    frames = [
        make_graph("H2", BOND, total_energy=[[-31.0]], forces=[[3, 0, 0], [0, 4, 0]]),
        make_graph("O", [[0, 0, 0]], cell=[[0, 2, 0], [2, 0, 0], [0, 0, 2]], pbc=True, stress=[[[0.1, -0.3, 0]] * 3]),
    ]
    facts = measure(GraphDataset(frames, 2.5, ["H", "O"]).frames)
    assert facts.atoms.tolist() == [2, 1]
    assert facts.frame_of.tolist() == [0, 0, 1]
    assert facts.neighbors.tolist() == [1, 1, 6]
    assert facts.shortest.tolist() == pytest.approx([0.74, 2.0])
    assert facts.bond_ratio.tolist() == pytest.approx([0.74 / 0.62, 0.74 / 0.62, 2.0 / 1.32])
    assert facts.energy[0] == -31.0
    assert math.isnan(facts.energy[1])
    assert facts.charges.tolist() == pytest.approx([2.0, 8 ** (7 / 3)])
    assert facts.largest_force.tolist() == [4.0, 0.0]
    assert facts.force_squares.tolist() == [25.0, 0.0]
    assert facts.force_counts.tolist() == [6.0, 0.0]
    assert facts.net_force[0] == pytest.approx(2.5)
    assert facts.stress[1] == pytest.approx(0.3)
    assert facts.volume.tolist() == pytest.approx([0.0, 8.0])
    assert facts.periodic.tolist() == [0, 3]
    assert facts.has_cell.tolist() == [False, True]
    assert facts.left_handed.tolist() == [False, True]


def test_many_frames_are_measured_in_parts(make_graph):
    frames = [make_graph("H2", [[0, 0, 0], [0, 0, 0.7 + 0.001 * i]], total_energy=[[-31.0 - i]]) for i in range(300)]
    facts = measure(GraphDataset(frames, 3.0, ["H"]).frames)
    assert facts.energy.tolist() == [-31.0 - i for i in range(300)]
    assert facts.shortest.tolist() == pytest.approx([0.7 + 0.001 * i for i in range(300)])
    assert facts.frame_of.tolist() == [i // 2 for i in range(600)]


def test_nothing_to_say(make_graph):
    frames = [make_graph("H2", BOND, total_energy=[[-31.0 - i]], forces=[[0, 0, 1], [0, 0, -1]]) for i in range(3)]
    assert warnings(frames) == []
    assert warnings([make_graph("He2", [[0, 0, 0], [0, 0, 2.97]])], ["He"], 4.0) == []  # bound by dispersion only
    assert warnings([make_graph("U", [[0, 0, 0]], total_energy=[[-761_000.0]])], ["U"]) == []  # all of its electrons
    assert warnings([make_graph("H", [[0, 0, 0]], total_energy=[[-13.6]])]) == []


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"total_energy": [[-3000.0]]}, "an energy of -1500 eV/atom is more than all electrons of the atoms bind with"),
        ({"forces": [[0, 0, 60], [0, 0, -60]]}, "a force of 60.0 eV/Angstrom: data frame 0"),
        ({"forces": [[0, 0, 49], [0, 0, -49]]}, "forces are 28.29 eV/Angstrom rms; is the unit right?"),
        (
            {"forces": [[0, 0, 1], [0, 0, 0]]},
            "forces do not add up to zero in 1 frames, at most by 0.5 eV/Angstrom per",
        ),
    ],
)
def test_labels(make_graph, labels, expected):
    assert any(expected in warning for warning in warnings([make_graph("H2", BOND, **labels)]))


def test_sets_of_equal_values(make_graph):
    same = [make_graph("H2", BOND, total_energy=[[-31.0]], forces=[[0, 0, 0]] * 2) for _ in range(3)]
    assert warnings(same) == ["all 3 energies are equal, -31 eV", "all forces are zero"]


def test_spread_within_a_composition(make_graph):
    frames = [make_graph("O2", [[0, 0, 0], [0, 0, 1.2]], total_energy=[[-4080.0]]) for _ in range(3)]
    frames += [make_graph("O", [[0, 0, 0]], total_energy=[[-2040.0]])]
    frames += [make_graph("O2", [[0, 0, 0], [0, 0, 1.2]], total_energy=[[-4000.0]])]
    assert warnings(frames, ["O"]) == ["an energy lies 40 eV/atom from those of the same composition: data frame 4"]


def test_a_stress_that_was_never_computed(make_graph):
    def frame(stress):
        cell = {"cell": [[2.5, 0, 0], [0, 2.5, 0], [0, 0, 2.5]], "pbc": True}
        return make_graph("Cu", [[0, 0, 0]], stress=[[[stress, 0, 0], [0, 0, 0], [0, 0, 0]]], **cell)

    assert warnings([frame(0.0)] * 3, ["Cu"], 3.0) == ["the stress of all 3 frames that have one is zero"]
    assert warnings([frame(0.0), frame(0.0), frame(1e-6)], ["Cu"], 3.0) == []
    assert warnings([frame(0.0)], ["Cu"], 3.0) == []


def test_units_of_length(make_graph):
    def oxygen(length):
        return [make_graph("O2", [[0, 0, 0], [0, 0, length]])]

    assert warnings(oxygen(1.21), ["O"]) == []
    assert warnings(oxygen(1.21 / 0.529177), ["O"]) == [
        "nearest neighbours are 1.73 times as far apart as bonds are long; is the length unit Bohr? "
        "Declare it: 'data.units={length: Bohr}', with the unit of the forces"
    ]
    assert warnings(oxygen(1.21 * 0.529177), ["O"]) == [
        "nearest neighbours are 0.49 times as far apart as bonds are long; is the length unit right?"
    ]


def test_atoms_that_are_alone(make_graph):
    assert warnings([make_graph("H", [[0, 0, 0]], forces=[[0, 0, 0.5]])]) == [
        "a force of 0.5 eV/Angstrom on an atom that is alone: data frame 0"
    ]


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        ({"cell": [9, 9, 9]}, "1 frames have a cell but are not periodic (pbc F F F), so the cell is not used"),
        ({"cell": [[0, 9, 0], [9, 0, 0], [0, 0, 9]], "pbc": True}, "1 frames have left-handed cell vectors"),
        (
            {"cell": [9, 9, 9], "pbc": [True, True, False], "stress": [[[0.1] * 3] * 3]},
            "1 frames have a stress but are periodic in one or two directions only; it refers to the whole cell",
        ),
        (
            {"cell": [9, 9, 9], "pbc": True, "stress": [[[4.0] * 3] * 3]},
            "1 frames have a stress above 3 eV/Angstrom^3; is it in GPa or kbar, or a virial?",
        ),
    ],
)
def test_cells(make_graph, structure, expected):
    assert warnings([make_graph("H2", BOND, **structure)]) == [f"{expected}; first: data frame 0"]
