import numpy as np
import pytest
from ase import Atoms

from nequip_like.data.datamodule import DataModule
from nequip_like.data.io.reading import Reading
from nequip_like.data.prepared.preparing import prepare_set
from nequip_like.data.prepared.tasks import PreparationRequest
from nequip_like.data.selection.filters import Filters
from nequip_like.data.tables.frame_table import tabulate
from nequip_like.errors import ConfigError, DataError


@pytest.fixture
def frames(labelled):
    """Water whose frame i has the energy -10 + i, and a force of length i on the oxygen; (3, 4, 0) in frame 5."""
    images = []
    for i in range(10):
        forces = np.zeros((3, 3))
        forces[0] = [3.0, 4.0, 0.0] if i == 5 else [i, 0.0, 0.0]
        atoms = Atoms("OH2", [[0, 0, 0], [0.96 + 0.001 * i, 0, 0], [-0.24, 0.93, 0]])
        images.append(labelled(atoms, energy=-10.0 + i, forces=forces))
    return images


def names(data):
    return [data.train_set.origin(i).rpartition(" ")[2] for i in range(len(data.train_set))]


def test_the_norm_of_a_force_counts(write, frames):
    """A force of (3, 4, 0) is 5 eV/Angstrom long, whatever its largest component."""
    data = DataModule(str(write("m.xyz", frames)), cutoff_radius=2.0, filters={"max_forces": 4.5}).prepare()
    assert names(data) == ["0", "1", "2", "3", "4"]
    (warning,) = [text for text in data.inspections[0].warnings if text.startswith("filters")]
    origins = ", ".join(f"{write('m.xyz', frames)} frame {i}" for i in range(5, 10))
    assert warning == f"filters.max_forces=4.5 leaves out 5 of 10 frames: {origins}"


def test_energies_are_above_the_references(write, frames):
    """By H 0 and O -10 eV, frame i lies i / 3 eV/atom above."""
    path, references = str(write("m.xyz", frames)), {"H": 0.0, "O": -10.0}
    data = DataModule(path, cutoff_radius=2.0, reference_energies=references, filters={"max_energy": 1.0}).prepare()
    assert names(data) == ["0", "1", "2", "3"]
    # Those of a rule are found on all frames of the file: the mean, frame 4.5, is zero then.
    data = DataModule(path, cutoff_radius=2.0, filters={"max_energy": 0.5}).prepare()
    assert names(data) == ["0", "1", "2", "3", "4", "5", "6"]
    with pytest.raises(ConfigError, match="max_energy is of energies above the reference energies"):
        DataModule(path, cutoff_radius=2.0, reference_energies=None, filters={"max_energy": 0.5}).prepare()


def test_labels_and_repeats_and_sizes(write, frames, labelled):
    bare = labelled(Atoms("OH2", [[0, 0, 0], [0.9, 0, 0], [-0.24, 0.93, 0]]), energy=-9.0)
    oxygen = labelled(Atoms("O", [[0, 0, 0]]), energy=-8.0)
    large = labelled(
        Atoms("O4", [[0, 0, 0], [1.2, 0, 0], [5, 0, 0], [6.2, 0, 0]]), energy=-40.0, forces=np.zeros((4, 3))
    )
    file = write("m.xyz", [*frames[:3], frames[1], bare, oxygen, large])
    filters = {"labels": ["forces"], "duplicates": True, "max_atoms": 3}
    for source in (str(file), str(prepare_set(PreparationRequest([str(file)], 2.0), file.with_suffix(".frames")).path)):
        data = DataModule(source, cutoff_radius=2.0, filters=filters).prepare()
        assert names(data) == ["0", "1", "2", "5"]  # the isolated atom has no forces, and needs none
        told = [text for text in data.inspections[0].warnings if text.startswith("filters")]
        assert told == [
            f"filters.max_atoms=3 leaves out 1 of 7 frames: {file} frame 6",
            f"filters.labels=forces leaves out 1 of 7 frames: {file} frame 4",
            f"filters.duplicates=true leaves out 1 of 7 frames: {file} frame 3",
        ]


def test_of_a_repeated_structure_the_one_that_passes_stays(write, frames):
    """The first has no labels; a filter that drops each for its own reason would drop both."""
    bare = frames[0].copy()
    file, filters = str(write("m.xyz", [bare, *frames[:3]])), {"labels": ["forces"], "duplicates": True}
    data = DataModule(file, cutoff_radius=2.0, filters=filters).prepare()
    assert names(data) == ["1", "2", "3"]


def test_held_out_frames_pass_the_filters(write, frames):
    filters = {"max_forces": 4.5}
    data = DataModule(str(write("m.xyz", frames)), val=2, test=1, cutoff_radius=2.0, filters=filters).prepare()
    assert (len(data.train_set), len(data.val_sets["val"]), len(data.test_sets["test"])) == (2, 2, 1)


def test_nothing_is_left(write, frames):
    with pytest.raises(DataError, match=r"no frame is left to train on: .*=2 leaves out 10 of 10 frames"):
        DataModule(str(write("m.xyz", frames)), cutoff_radius=2.0, filters={"max_atoms": 2}).prepare()


def test_without_filters_nothing_is_asked():
    assert Filters.read(None) == Filters()
    assert Filters().find_kept(tabulate([]), Reading()) == {}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"max_force": 5.0}, "filters: unknown key 'max_force'|max_force"),
        ({"max_forces": -1.0}, "filters.max_forces is -1.0"),
        ({"max_energy": float("nan")}, "filters.max_energy is nan"),
        ({"max_atoms": 0}, "filters.max_atoms is 0"),
        ({"labels": ["force"]}, "filters.labels: 'force' is no label"),
        ({"duplicates": "yes"}, "filters.duplicates is 'yes'"),
    ],
)
def test_mistakes(section, message):
    with pytest.raises(ConfigError, match=message):
        Filters.read(section)
