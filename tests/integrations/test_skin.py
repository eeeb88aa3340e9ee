"""A neighbour list that is kept: never lacks a pair, and is built seldom."""

import ase.build
import numpy as np
import pytest
import torch

from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.neighbors import add_neighbors
from nequip_like.integrations import skin
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


@pytest.mark.parametrize("name", ["crystal", "slab", "molecule"])
def test_whole_list(name):
    """For models that look at distances themselves: the same tensors from step to step, with every edge of the skin."""
    atoms = structures()[name]
    kept = SkinNeighborList(CUTOFF, skin=0.6)
    first = graph_from_atoms(atoms)
    whole = kept.add_edges(first, with_skin=True)
    assert same_edges(whole, add_neighbors(first, CUTOFF + 0.6))
    atoms.rattle(0.02, seed=0)
    graph = graph_from_atoms(atoms)
    again = kept.add_edges(graph, with_skin=True)
    assert again["edge_index"] is whole["edge_index"]
    assert again["edge_cell_shift"] is whole["edge_cell_shift"]
    assert again["pos"] is graph["pos"]
    assert same_edges(kept.add_edges(graph), add_neighbors(graph, CUTOFF))
    assert kept.builds == 1
    atoms.positions[0, 0] += 0.5
    graph = graph_from_atoms(atoms)
    assert same_edges(kept.add_edges(graph, with_skin=True), add_neighbors(graph, CUTOFF + 0.6))
    assert kept.builds == 2


def test_edges_in_blocks(monkeypatch):
    monkeypatch.setattr(skin, "_BLOCK", 7)
    graph = graph_from_atoms(structures()["crystal"])
    assert same_edges(SkinNeighborList(CUTOFF, skin=0.6).add_edges(graph), add_neighbors(graph, CUTOFF))


@pytest.mark.parametrize("field", ["pos", "cell", "pbc", "atomic_numbers"])
def test_the_graph_given_may_be_written_to(field):
    graph = graph_from_atoms(structures()["crystal"])
    kept = SkinNeighborList(CUTOFF, skin=0.5)
    kept.add_edges(graph)
    if field == "pos":
        graph["pos"][0, 0] += 1.0
    elif field == "cell":
        graph["cell"] *= 0.8
    elif field == "pbc":
        graph["pbc"][0, 0] = False
    else:
        graph["atomic_numbers"][0] = 20
    assert same_edges(kept.add_edges(graph), add_neighbors(graph, CUTOFF))
    assert kept.builds == 2
