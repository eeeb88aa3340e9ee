"""A batch made of arrays is the batch that is made of graphs, one by one."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from nequip_like.data import fields
from nequip_like.data.bulk.structures import StructureArrays
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.graph import collate
from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.species import type_table
from nequip_like.errors import DataError

SPECIES = ["H", "C", "O", "Cu"]


def batch_of(frames, chosen=None):
    arrays = StructureArrays.of_atoms(frames, "file.xyz", 0)
    return arrays.make_batch(chosen or range(len(frames)), 4.0, type_table(SPECIES), SPECIES)


def expected(frames):
    dataset = GraphDataset([graph_from_atoms(atoms) for atoms in frames], 4.0, SPECIES)
    return collate([dataset[i] for i in range(len(dataset))])


def molecules():
    random = np.random.default_rng(1)
    frames = [molecule(name) for name in ("CH3CH2OH", "H2O", "CO", "C6H6")] + [Atoms("H")]
    for atoms in frames:
        atoms.rattle(0.05, rng=random)
    return frames


@pytest.mark.parametrize(
    "frames",
    [
        molecules(),
        [bulk("Cu", cubic=True), molecule("H2O")],
        [Atoms("H"), Atoms("O")],
        [Atoms("H70", positions=[[1.5 * i, 0, 0] for i in range(70)])],
        [Atoms("H", cell=[3, 9, 9], pbc=[True, False, False])],
    ],
    ids=["molecules", "mixed", "isolated", "long", "wire"],
)
def test_equals_collated(frames):
    one, two = batch_of(frames), expected(frames)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name
        assert one[name].dtype == two[name].dtype, name


def test_part_of_a_run():
    frames = molecules()
    one, two = batch_of(frames, range(1, 4)), expected(frames[1:4])
    assert torch.equal(one[fields.EDGE_INDEX], two[fields.EDGE_INDEX])
    assert one[fields.FRAME_INDEX].tolist() == [1, 2, 3]


def test_unknown_species():
    with pytest.raises(DataError, match=r"file.xyz frame 1 has He, which is not among the species H, C, O, Cu"):
        batch_of([Atoms("H"), Atoms("He")])


def test_collision():
    with pytest.raises(DataError, match=r"file.xyz frame 1: atoms 0 and 1 are only 0.05 Angstrom apart"):
        batch_of([Atoms("H"), Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.05]])])


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (Atoms(), "frame 1 has no atoms"),
        (Atoms("H", positions=[[np.nan, 0, 0]]), "frame 1: the position of atom 0 is not a finite number"),
        (Atoms("H", cell=[0.3, 5, 5], pbc=True), "frame 1: its cell is only 0.3 Angstrom high"),
    ],
)
def test_refused(atoms, words):
    with pytest.raises(DataError, match=words):
        StructureArrays.of_atoms([Atoms("H"), atoms], "file.xyz", 0)


def test_measure():
    frames = molecules()
    arrays = StructureArrays.of_atoms(frames, "file.xyz", 0)
    batch = expected(frames)
    edges = np.bincount(batch[fields.BATCH][batch[fields.EDGE_INDEX][0]].numpy(), minlength=5)
    assert arrays.measure("edges", 4.0, type_table(SPECIES), SPECIES).tolist() == [*edges[:4], 1]
    assert arrays.measure("atoms", 4.0, type_table(SPECIES), SPECIES).tolist() == [9, 3, 2, 12, 1]
