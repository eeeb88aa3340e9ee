"""A neighbour list that is kept: never lacks a pair, and is built seldom."""

import ase.build
import numpy as np
import pytest
import torch

from nequip_like.data.neighbors import add_neighbors
from nequip_like.data.structures import graph_from_atoms
from nequip_like.integrations.skin import SkinNeighborList

CUTOFF = 3.5


def structures():
    crystal = ase.build.bulk("MgO", "rocksalt", a=4.2)
    slab = ase.build.fcc111("Cu", (2, 2, 3), vacuum=5.0, periodic=False)
    return {"crystal": crystal.repeat((2, 1, 1)), "slab": slab, "molecule": ase.build.molecule("CH3CH2OH")}


def same_edges(a, b):
    return torch.equal(a["edge_index"], b["edge_index"]) and torch.equal(a["edge_cell_shift"], b["edge_cell_shift"])


@pytest.mark.parametrize("name", ["crystal", "slab", "molecule"])
@pytest.mark.parametrize("strain", [0.0, 0.004])
def test_walk(name, strain):
    """A random walk of atoms and cell: at each step exactly the edges of a list that is built anew."""
    atoms = structures()[name]
    kept = SkinNeighborList(CUTOFF, skin=0.6)
    random = np.random.default_rng(0)
    for _ in range(40):
        atoms.rattle(0.02, rng=random)
        if strain:
            atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain * random.normal(size=(3, 3))), scale_atoms=True)
        graph = graph_from_atoms(atoms)
        assert same_edges(kept.add_edges(graph), add_neighbors(graph, CUTOFF))
    assert 1 < kept.builds <= 40
    if strain == 0.0 or name == "crystal":
        assert kept.builds < 25
    if name == "molecule":
        assert kept.builds < 15


def test_half_the_skin():
    atoms = structures()["molecule"]
    kept = SkinNeighborList(CUTOFF, skin=0.5)
    kept.add_edges(graph_from_atoms(atoms))
    for displacement, builds in [(0.24, 1), (0.26, 2)]:
        moved = atoms.copy()
        moved.positions[0, 0] += displacement
        kept.add_edges(graph_from_atoms(moved))
        assert kept.builds == builds


def test_shrinking_cell():
    """A compressed crystal: atoms that were out of reach come near although none has moved against its neighbours."""
    atoms = structures()["crystal"]
    kept = SkinNeighborList(CUTOFF, skin=0.5)
    kept.add_edges(graph_from_atoms(atoms))
    for scale in (0.95, 0.9, 0.8, 0.6):
        squeezed = atoms.copy()
        squeezed.set_cell(atoms.cell * scale, scale_atoms=True)
        graph = graph_from_atoms(squeezed)
        assert same_edges(kept.add_edges(graph), add_neighbors(graph, CUTOFF))
    assert kept.builds > 1


@pytest.mark.parametrize("change", ["numbers", "pbc", "length", "wrap"])
def test_another_structure(change):
    atoms = structures()["crystal"]
    kept = SkinNeighborList(CUTOFF, skin=0.5)
    kept.add_edges(graph_from_atoms(atoms))
    if change == "numbers":
        atoms.numbers[0] = 20
    elif change == "pbc":
        atoms.pbc = [True, True, False]
    elif change == "length":
        atoms = atoms[:-1]
    else:
        atoms.positions[1] += atoms.cell[0]
    graph = graph_from_atoms(atoms)
    assert same_edges(kept.add_edges(graph), add_neighbors(graph, CUTOFF))
    assert kept.builds == 2


def test_without_skin():
    atoms = structures()["crystal"]
    kept = SkinNeighborList(CUTOFF, skin=0.0)
    for builds in (1, 2):
        atoms.rattle(0.01, seed=builds)
        kept.add_edges(graph_from_atoms(atoms))
        assert kept.builds == builds
