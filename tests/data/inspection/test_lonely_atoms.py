"""Atoms that see nobody: a warning, or for all of them a refusal."""

import pytest
from ase import Atoms
from ase.build import bulk

from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.lonely_atoms import check_neighbors, describe_lonely_atoms
from nequip_like.data.inspection.report import inspect
from nequip_like.errors import DataError


@pytest.fixture
def chain(make_graph):
    """Hydrogen atoms along a line, with these distances from one to the next."""

    def chain(*distances):
        places = [sum(distances[:i]) for i in range(len(distances) + 1)]
        return make_graph(f"H{len(places)}", [[x, 0, 0] for x in places])

    return chain


def test_atoms_and_distances_are_counted(chain):
    # Beyond 1 Angstrom: the third atom of the first frame (1.5 away), both of the second (2.5 away).
    dataset = GraphDataset([chain(0.7, 1.5), chain(2.5), chain(0.8)], 1.0, ["H"], name="train")
    assert describe_lonely_atoms(dataset) == (
        "3 of 7 atoms have no neighbour within 1 Angstrom, in 2 frames; the nearest is 1.50 to 2.50 Angstrom away; "
        "raise cutoff_radius; first: train frame 0"
    )
    assert describe_lonely_atoms(dataset) in inspect(dataset).warnings
    check_neighbors(dataset)
    assert describe_lonely_atoms(GraphDataset(dataset.frames, 2.6, ["H"])) is None


def test_isolated_and_far_atoms_are_no_reason_to_warn(chain, make_graph):
    alone = make_graph("H", [[0, 0, 0]])
    in_a_box = make_graph("H", [[0, 0, 0]], cell=[12, 12, 12], pbc=True)
    assert describe_lonely_atoms(GraphDataset([alone, in_a_box, chain(0.7), chain(0.7, 8.0)], 1.0, ["H"])) is None


def test_a_crystal_of_one_atom_sees_its_images(make_graph):
    copper = bulk("Cu", a=3.6)
    crystal = make_graph("Cu", [[0, 0, 0]], cell=copper.cell[:], pbc=True)
    warning = describe_lonely_atoms(GraphDataset([crystal], 2.5, ["Cu"]))
    assert warning.startswith("1 of 1 atoms have no neighbour within 2.5 Angstrom, in 1 frames; the nearest is 2.55")


@pytest.mark.parametrize(
    ("distances", "advice"),
    [
        ([(1.2,), (1.1, 1.3)], "raise cutoff_radius; the shortest distance is 1.10 Angstrom"),
        ([(), ()], "each of its frames is an isolated atom; add frames in which atoms are bound"),
        ([(), (7.0,)], "no two atoms are within 6 Angstrom of each other; is the length unit right?"),
    ],
)
def test_a_training_set_without_any_neighbour_is_refused(chain, distances, advice):
    with pytest.raises(DataError, match="no atom of the training set has a neighbour within 1 Angstrom") as error:
        check_neighbors(GraphDataset([chain(*frame) for frame in distances], 1.0, ["H"]))
    assert error.value.advice == advice


def test_files_are_refused_before_training(write, labelled):
    file = write("far.xyz", [labelled(Atoms("O2", [[0, 0, 0], [0, 0, 5.3]]), energy=-1.0)] * 2)
    with pytest.raises(DataError, match="within 5 Angstrom") as error:
        DataModule(file, cutoff_radius=5.0).prepare()
    assert error.value.advice == "raise cutoff_radius; the shortest distance is 5.30 Angstrom"
