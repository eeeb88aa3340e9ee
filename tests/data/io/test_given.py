"""Structures in memory are read as files are: same labels, same names, same units, same refusals."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import Trajectory

from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import load_dataset
from nequip_like.data.io.readers import read, read_frames
from nequip_like.errors import ConfigError, DataError

WATER = [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]


def water(shift=0.0, **results):
    atoms = Atoms("OH2", WATER)
    atoms.positions[0, 2] += shift
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def test_a_list_is_read_as_its_file(tmp_path, write_labelled):
    path = write_labelled(tmp_path / "a.xyz")
    images = ase.io.read(path, ":")
    for from_memory in (images, tuple(images), iter(images)):
        reading, expected = read(from_memory), read(path)
        assert reading.files == []
        assert reading.origins == [f"Atoms {i}" for i in range(7)]
        assert reading.label_names == expected.label_names
        for frame, other in zip(reading.frames, expected.frames, strict=True):
            assert frame.keys() == other.keys()
            for key in frame:
                torch.testing.assert_close(frame[key], other[key], rtol=0, atol=0, equal_nan=True)


def test_one_structure_is_one_frame():
    (frame,) = read_frames(water(energy=-1.5, forces=np.eye(3)))
    assert frame["total_energy"].tolist() == [[-1.5]]
    assert frame["forces"].tolist() == np.eye(3).tolist()


def test_a_trajectory_that_is_open(tmp_path):
    with Trajectory(tmp_path / "a.traj", "w") as file:
        for energy in (-1.0, -2.0, -3.0):
            file.write(water(energy=energy))
    with Trajectory(tmp_path / "a.traj") as file:
        assert [frame["total_energy"].item() for frame in read_frames(file, index="1:")] == [-2.0, -3.0]


def test_names_and_units_of_info_and_arrays():
    atoms = water()
    atoms.info["dft_energy"] = 1.0
    atoms.arrays["my_forces"] = np.full((3, 3), 1.0)
    (frame,) = read_frames([atoms], key_mapping={"my_forces": "forces"}, units={"energy": "meV"})
    assert frame["total_energy"].item() == 1e-3
    assert frame["forces"].unique().tolist() == [1e-3]
    with pytest.raises(DataError, match="Atoms: no frame has 'nothing', which key_mapping declares"):
        read_frames([atoms], key_mapping={"nothing": "forces"})


def test_graphs_keep_their_labels(tmp_path, write_labelled):
    path = write_labelled(tmp_path / "a.xyz")
    dataset = load_dataset(path, ["H", "C", "O"], 3.0)
    again = load_dataset(dataset, ["O", "C", "H"], 4.0)  # other types, other neighbours
    assert again.name == "structures"
    assert again.labels == dataset.labels
    for frame, other, read_again in zip(dataset.frames, again.frames, read_frames(path), strict=True):
        assert (2 - frame["atom_types"]).tolist() == other["atom_types"].tolist()
        assert other["edge_index"].shape[1] > frame["edge_index"].shape[1]
        for key in ("pos", "cell", "pbc", "total_energy", "forces", "stress"):
            torch.testing.assert_close(other[key], read_again[key], rtol=0, atol=0, equal_nan=True)


def test_graphs_have_units_already():
    frames = read_frames([water(energy=-1.0)])
    with pytest.raises(ConfigError, match="units are meV, Angstrom, but graphs are in eV and Angstrom"):
        read_frames(frames, units={"energy": "meV"})


def test_results_of_another_structure_are_refused():
    """Frames that share a calculator all show the results of the last one."""
    calculator = EMT()
    frames = [Atoms("CO", [[0, 0, 0], [0, 0, length]]) for length in (1.1, 1.2)]
    for atoms in frames:
        atoms.calc = calculator
        atoms.get_potential_energy()
    with pytest.raises(DataError) as error:
        read_frames(frames)
    assert error.value.message == "Atoms 0: the results of its EMT belong to another structure, of other positions"
    assert "SinglePointCalculator" in error.value.advice
    moved = water(energy=-1.0)
    moved.positions[0, 0] += 0.1
    with pytest.raises(DataError, match="Atoms 0: the results of its SinglePointCalculator belong to another"):
        read_frames(moved)
    (frame,) = read_frames(frames[1])
    assert frame["total_energy"].item() == frames[1].get_potential_energy()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, "7 is no file and no structure"),
        (None, "None is no file and no structure"),
        ([water(), "a.xyz"], "entry 0 is Atoms and entry 1 is a file name"),
        (["a.xyz", water()], "entry 0 is a file name and entry 1 is Atoms"),
        ([water(), *read_frames(water())], "entry 0 is Atoms and entry 1 is a graph"),
        ([water(), [water()]], "entry 1, list [Atoms("),
        (water()[0], "Atom('O'"),
        ({"file": "a.xyz"}, "entry 0, dict {'file': 'a.xyz'}, is no file and no structure"),
    ],
)
def test_what_is_no_source(source, message):
    with pytest.raises(ConfigError) as error:
        read_frames(source)
    assert message in error.value.message
    assert error.value.advice.startswith("give file names, or ASE's Atoms, or graphs")


def test_graphs_that_are_no_structures():
    (frame,) = read_frames(water())
    del frame["cell"]
    with pytest.raises(DataError, match="graph 0 has no 'cell'"):
        read_frames(frame)
    from nequip_like.data.graph import collate

    with pytest.raises(DataError, match="graph 0 is a batch of 2 structures"):
        read_frames(collate(read_frames([water(), water(0.1)])))


def test_data_of_a_run():
    """Sets from memory, named and not, beside parts of train."""
    frames = [water(0.01 * i, energy=-1.0 - 0.01 * i, forces=np.zeros((3, 3))) for i in range(12)]
    data = DataModule(
        train=frames[:6],
        val=2,
        test={"hot": frames[6:8], "cold": frames[8], "far": {"file": frames[9:], "index": "-2:"}},
        cutoff_radius=3.0,
        path="elsewhere",
        reference_energies=None,
    )
    assert len(data.train_set) == 4
    assert {name: len(dataset) for name, dataset in data.val_sets.items()} == {"val": 2}
    assert {name: len(dataset) for name, dataset in data.test_sets.items()} == {"hot": 2, "cold": 1, "far": 2}
    assert [frame["total_energy"].item() for frame in data.test_sets["far"].frames] == [-1.1, -1.11]
    two = DataModule(frames[:6], test=[frames[6:8], frames[8:]], cutoff_radius=3.0, reference_energies=None)
    assert {name: len(dataset) for name, dataset in two.test_sets.items()} == {"test": 2, "test_2": 4}
    isolated = [Atoms(symbol, [[0, 0, 0]]) for symbol in "OH"]
    for atoms, energy in zip(isolated, (-0.5, -0.2), strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    data = DataModule(frames, cutoff_radius=3.0, reference_energies=isolated)
    assert data.reference.energies == {"H": -0.2, "O": -0.5}


def test_the_same_structure_twice_is_seen():
    frames = [water(0.01 * i, energy=-1.0) for i in range(3)]
    with pytest.raises(DataError, match=r"the same structure is in train \(Atoms 2\) and in val \(Atoms 0\)"):
        DataModule(frames, val=frames[2:], cutoff_radius=3.0, reference_energies=None).prepare()


def test_a_mixture_in_the_data_of_a_run_is_named():
    with pytest.raises(ConfigError) as error:
        DataModule(water(energy=0.0), test=["a.xyz", water(energy=0.0)], cutoff_radius=3.0).prepare()
    assert error.value.message == "test: entry 0 is a file name and entry 1 is Atoms"
