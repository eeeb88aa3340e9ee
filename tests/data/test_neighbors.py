import itertools
import math

import numpy as np
import pytest
import torch
from ase.build import bulk
from matscipy.neighbours import neighbour_list

from nequip_like.data.graph import edge_vectors
from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.neighbors import add_neighbors
from nequip_like.errors import ConfigError, DataError


def edges(graph):
    both = torch.cat([graph["edge_index"].T.double(), graph["edge_cell_shift"]], dim=1)
    return [tuple(row) for row in both.to(torch.int64).tolist()]


def reference(graph, cutoff):
    found = neighbour_list(
        "ijS",
        positions=graph["pos"].numpy(),
        cell=graph["cell"][0].numpy(),
        pbc=graph["pbc"][0].numpy(),
        cutoff=cutoff,
    )
    return sorted(map(tuple, np.column_stack(found).astype(int).tolist()))


@pytest.mark.parametrize("pbc", list(itertools.product([False, True], repeat=3)), ids=str)
@pytest.mark.parametrize(("atoms", "scale", "cutoff"), [(1, 3.0, 6.0), (5, 3.0, 5.0), (60, 8.0, 4.0)])
def test_against_matscipy(make_graph, pbc, atoms, scale, cutoff):
    """Skewed and left-handed cells, cells smaller than the cutoff, atoms far outside the cell."""
    rng = np.random.default_rng(atoms)
    for handedness in (1, -1):
        cell = np.eye(3) * scale + rng.uniform(-0.3, 0.3, size=(3, 3)) * scale
        cell[0] *= handedness
        graph = make_graph(f"H{atoms}", rng.normal(size=(atoms, 3)) * 1.5 * scale, cell=cell, pbc=pbc)
        assert edges(add_neighbors(graph, cutoff)) == reference(graph, cutoff)


def test_edges_are_sorted_and_come_in_pairs(make_graph):
    rng = np.random.default_rng(0)
    graph = add_neighbors(make_graph("H8", rng.uniform(0, 4, (8, 3)), cell=[4, 4, 4], pbc=True), 3.0)
    listed = edges(graph)
    assert listed == sorted(listed)
    assert {(j, i, -a, -b, -c) for i, j, a, b, c in listed} == set(listed)
    assert graph["edge_index"].dtype == torch.int64
    assert graph["edge_cell_shift"].dtype == torch.float64
    assert float(edge_vectors(graph).norm(dim=1).max()) <= 3.0


def test_fcc_shells():
    graph = graph_from_atoms(bulk("Cu", "fcc", a=3.6))
    assert add_neighbors(graph, 3.0)["edge_index"].shape == (2, 12)
    assert add_neighbors(graph, 3.7)["edge_index"].shape == (2, 18)


@pytest.mark.parametrize("cell", [None, [4.0, 0, 0]])
def test_isolated_atoms_and_molecules_without_a_cell(make_graph, cell):
    lone = add_neighbors(make_graph("H", [[1, 2, 3]], cell=cell), 5.0)
    assert lone["edge_index"].shape == (2, 0)
    assert lone["edge_cell_shift"].shape == (0, 3)
    pair = add_neighbors(make_graph("H3", [[0, 0, 0], [0, 0, 1], [0, 50, 0]], cell=cell), 5.0)
    assert pair["edge_index"].tolist() == [[0, 1], [1, 0]]


def test_periodic_axis_of_a_cell_with_vanishing_other_vectors(make_graph):
    graph = make_graph("H", [[0, 0, 0]], cell=[[0, 0, 0], [0, 2.0, 0], [0, 0, 0]], pbc=[False, True, False])
    assert edges(add_neighbors(graph, 4.5)) == [(0, 0, 0, shift, 0) for shift in (-2, -1, 1, 2)]


def test_colliding_atoms_name_the_frame(make_graph):
    graph = make_graph("H3", [[0, 0, 0], [1, 0, 0], [1, 0, 0]])
    graph["frame_index"] = torch.tensor([7])
    with pytest.raises(DataError, match="frame 7: atoms 1 and 2 are at the same place"):
        add_neighbors(graph, 3.0)
    image = make_graph("H2", [[0, 0, 0], [4, 0, 0]], cell=[4, 4, 4], pbc=True)
    with pytest.raises(DataError, match=r"a\.xyz frame 3: atoms 0 and 1"):
        add_neighbors(image, 3.0, origin="a.xyz frame 3")


@pytest.mark.parametrize("cutoff", [0.0, -1.0, math.nan, math.inf])
def test_cutoff_must_be_a_length(make_graph, cutoff):
    with pytest.raises(ConfigError, match="cutoff_radius"):
        add_neighbors(make_graph("H", [[0, 0, 0]]), cutoff)


def test_the_graph_given_is_left_alone(make_graph):
    graph = make_graph("H2", [[0, 0, 0], [0, 0, 1]])
    add_neighbors(graph, 3.0)
    assert "edge_index" not in graph


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, True), (True, True, False), (False, False, True)])
@pytest.mark.parametrize(
    "size", [(1, 1000, 1000), (5, 1000, 1000), (10, 1e4, 1e4), (2, 2, 9e4), (20, 20, 5e4)], ids=str
)
def test_very_long_and_flat_structures(make_graph, size, pbc):
    """The search ended the whole process, or took minutes, before it was given wider cells."""
    rng = np.random.default_rng(0)
    positions = rng.random((40, 3)) * size
    positions[:3] = [[0, 0, 0], [0.9 * size[0], 0.4, 0.3], [0.5, 0.5, size[2] - 0.5]]
    found = edges(add_neighbors(make_graph("H40", positions, cell=size, pbc=pbc), 3.0))
    copies = itertools.product(*[range(-4, 5) if periodic else (0,) for periodic in pbc])
    expected = []
    for shift in copies:
        distances = np.linalg.norm(positions[None] + np.multiply(shift, size) - positions[:, None], axis=2)
        expected += [(int(i), int(j), *shift) for i, j in np.argwhere(distances < 3) if i != j or any(shift)]
    assert sorted(found) == sorted(expected)


def test_atoms_may_be_asked_to_keep_apart(make_graph):
    graph = make_graph("H2", [[0, 0, 0], [0, 0, 0.05]])
    add_neighbors(graph, 1.0)
    with pytest.raises(DataError, match=r"frame 0: atoms 0 and 1 are only 0.05 Angstrom apart"):
        add_neighbors(graph, 1.0, closest=0.1)
    with pytest.raises(DataError, match=r"atom 0 and its own image are only 0.6 Angstrom apart"):
        add_neighbors(make_graph("H", [[0, 0, 0]], cell=[0.6, 9, 9], pbc=True), 1.0, closest=0.7)


def test_atoms_thousands_of_cells_apart(make_graph):
    """Translations too large for the packed order: atoms wander that far in long runs without wrapping."""
    rng = np.random.default_rng(0)
    cell = np.diag([2.0, 2.1, 2.2])
    inside = rng.uniform(size=(300, 3)) @ cell
    away = rng.integers(-40_000, 40_000, size=(300, 3))
    graph = add_neighbors(make_graph("H300", inside + away @ cell, cell=cell, pbc=True), 0.5)
    bits = 2 * 9 + sum(int(np.ptp(column)).bit_length() for column in graph["edge_cell_shift"].numpy().T)
    assert bits > 63
    listed = edges(graph)
    assert listed == sorted(listed)
    near = edges(add_neighbors(make_graph("H300", inside, cell=cell, pbc=True), 0.5))
    unwrapped = [(i, j, *(np.array(shift) + away[i] - away[j]).tolist()) for i, j, *shift in near]
    assert listed == sorted(unwrapped)
