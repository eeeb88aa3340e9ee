"""Structures that cannot be."""

import numpy as np
import pytest
import torch
from ase import Atoms

from nequip_like.data.io.structures import check_extent, graph_from_atoms, moved_to
from nequip_like.errors import DataError


def both(atoms):
    check_extent(graph_from_atoms(atoms, where="a.xyz frame 3"), "a.xyz frame 3")


@pytest.mark.parametrize(
    ("cell", "pbc", "message"),
    [
        ([5, 5, 0.01], True, "its cell is only 0.01 Angstrom high along one direction"),
        ([[5, 0, 0], [5, 0.3, 0], [0, 0, 5]], True, "its cell is only 0.299 Angstrom high"),
        ([[5, 0, 0], [5, 0.3, 0], [0, 0, 0]], [True, True, False], "its cell is only 0.299 Angstrom high"),
        ([5, 5, 2e5], True, "a position or cell vector is 2e+05 Angstrom long"),
        ([5, 5, 0], True, "does not span the periodic directions"),
        ([5, 5, np.inf], False, "the cell is not made of finite numbers"),
    ],
)
def test_cells(cell, pbc, message):
    with pytest.raises(DataError, match=r"a\.xyz frame 3") as error:
        both(Atoms("H", [[0, 0, 0]], cell=cell, pbc=pbc))
    assert message in error.value.message


def test_a_flat_cell_that_is_not_periodic_means_nothing():
    both(Atoms("H", [[0, 0, 0]], cell=[5, 5, 0.01]))
    both(Atoms("H", [[0, 0, 0]], cell=[5, 5, 0.01], pbc=[True, True, False]))


def test_atomic_numbers():
    for number, message in ((0, "has no chemical element"), (200, "has the atomic number 200")):
        with pytest.raises(DataError, match=message):
            graph_from_atoms(Atoms(numbers=[number], positions=[[0, 0, 0]]))


def test_moved_to_shares_what_did_not_change():
    atoms = Atoms("HO", positions=[[0, 0, 0], [0, 0, 1]], cell=[4, 5, 6], pbc=[True, False, True])
    graph = graph_from_atoms(atoms) | {"atom_types": torch.tensor([0, 1])}
    atoms.positions[1, 2] = 1.5
    moved = moved_to(graph, atoms)
    assert {key for key in graph if moved[key] is graph[key]} == graph.keys() - {"pos"}
    assert moved["pos"].tolist() == [[0, 0, 0], [0, 0, 1.5]]
    assert moved["pos"].dtype == torch.float64
    atoms.positions[1, 2] = 7.0
    assert moved["pos"].tolist() == [[0, 0, 0], [0, 0, 1.5]]
    assert graph["pos"].tolist() == [[0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("change", ["numbers", "cell", "pbc", "length", "nan", "infinity", "far"])
def test_moved_to_is_for_sound_positions_only(change):
    atoms = Atoms("HO", positions=[[0, 0, 0], [0, 0, 1]], cell=[4, 5, 6], pbc=[True, False, True])
    graph = graph_from_atoms(atoms)
    if change == "numbers":
        atoms.numbers[0] = 6
    elif change == "cell":
        atoms.cell[0, 1] = 1e-9
    elif change == "pbc":
        atoms.pbc[1] = True
    elif change == "length":
        atoms = atoms[:1]
    else:
        atoms.positions[0, 0] = {"nan": np.nan, "infinity": -np.inf, "far": -1.1e5}[change]
    assert moved_to(graph, atoms) is None
