"""Systems of DeePMD: folders of arrays, and what is missing in them."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nequip_like.data.datamodule import DataModule
from nequip_like.data.io.formats import format_of
from nequip_like.data.io.readers import read
from nequip_like.errors import DataError

RNG = np.random.default_rng(1)
COORD = (np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + 0.02 * RNG.normal(size=(5, 3, 3))).reshape(5, 9)
ENERGY, FORCE = RNG.normal(size=5), RNG.normal(size=(5, 9))
BOX = np.diag([5.0, 6.0, 7.0]).reshape(1, 9).repeat(5, axis=0) + 0.1 * np.array([0, 0, 0, 1, 0, 0, 0, 0, 0])
VIRIAL = np.array([[1.0, 2, 3, 2, 4, 5, 3, 5, 6]]) * np.arange(1, 6)[:, None]


@pytest.fixture
def system(tmp_path):
    """A function that writes a system; ``None`` leaves a file out."""

    def system(name="water", cuts=(3,), **changes):
        folder = tmp_path / name
        texts = {"type.raw": "1\n0\n0\n", "type_map.raw": "H\nO\n"}
        texts |= {key: value for key, value in changes.items() if "." in key or key == "nopbc"}
        folder.mkdir(parents=True, exist_ok=True)
        for key, text in texts.items():
            if text is not None:
                (folder / key).write_text(text)
        arrays = {"coord": COORD, "box": BOX, "energy": ENERGY, "force": FORCE, "virial": VIRIAL}
        arrays |= {key: value for key, value in changes.items() if key not in texts}
        for number, rows in enumerate(np.split(np.arange(5), cuts)):
            (folder / f"set.{number:03}").mkdir(exist_ok=True)
            for key, array in arrays.items():
                if array is not None:
                    np.save(folder / f"set.{number:03}" / f"{key}.npy", array[rows] if len(array) == 5 else array)
        return folder

    return system


def stacked(reading, label):
    return np.stack([np.squeeze(frame[label].numpy()) for frame in reading.frames])


def test_a_system(system):
    folder = system()
    reading = read(folder)
    assert format_of(folder).name == "deepmd"
    assert reading.label_names == {"total_energy": ["energy"], "forces": ["force"], "virial": ["virial"]}
    assert reading.files == [folder]
    assert reading.origins[3] == f"{folder} frame 3"
    assert [frame["atomic_numbers"].tolist() for frame in reading.frames] == [[8, 1, 1]] * 5
    assert stacked(reading, "pos").tolist() == COORD.reshape(5, 3, 3).tolist()
    assert stacked(reading, "cell").tolist() == BOX.reshape(5, 3, 3).tolist()
    assert stacked(reading, "total_energy").tolist() == ENERGY.tolist()
    assert stacked(reading, "forces").tolist() == FORCE.reshape(5, 3, 3).tolist()
    np.testing.assert_allclose(stacked(reading, "stress"), -VIRIAL.reshape(5, 3, 3) / 210.0, rtol=1e-14)
    assert reading.notes == []


def test_the_virial_is_minus_the_derivative_of_the_energy_by_the_strain(system):
    """Two atoms that repel each other push the cell apart: the virial is positive, the stress is a compression."""
    distance, force = 1.0, 2.0  # of an energy that falls with the distance along x
    coord = np.array([[0, 0, 0, distance, 0, 0]] * 5)
    pull = np.array([[-force, 0, 0, force, 0, 0]] * 5)
    virial = np.einsum("fai,faj->fij", coord.reshape(5, 2, 3), pull.reshape(5, 2, 3)).reshape(5, 9)  # sum of r F
    reading = read(system(**{"type.raw": "0\n0\n"}, coord=coord, force=pull, virial=virial))
    assert reading.frames[0]["stress"][0, 0, 0].item() == pytest.approx(-force * distance / 210.0)


def test_molecules_and_labels_that_are_not_there(system):
    reading = read(system(nopbc="", box=None, virial=None, force=None, energy=ENERGY[:, None]))
    assert set(reading.label_names) == {"total_energy"}
    assert not any(bool(frame["pbc"].any()) for frame in reading.frames)
    assert not read(system("boxed", nopbc="", virial=None)).frames[0]["cell"].any()


def test_units_are_those_of_deepmd(system):
    with pytest.raises(DataError, match="in DeePMD system, a folder, 'energy' is in eV, but it is read in kcal/mol"):
        read(system(), units={"energy": "kcal/mol"})


def test_types_that_differ_from_frame_to_frame(system):
    types = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]])
    reading = read(system(**{"type.raw": "0 0 0"}, real_atom_types=types))
    assert [frame["atomic_numbers"].tolist() for frame in reading.frames] == np.where(types, 8, 1).tolist()
    with pytest.raises(DataError, match=r"set\.001 frame 1: a type of an atom is no whole number from 0 on: -1"):
        read(system(real_atom_types=np.where(np.arange(5)[:, None] < 4, types, -1)))


def test_other_arrays_are_annotations(system):
    reading = read(system(fparam=np.arange(5.0), dipole=FORCE[:, :3]))
    assert [one.info["fparam"] for one in reading.annotations] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert reading.annotations[4].info["dipole"].tolist() == FORCE[4, :3].tolist()


def test_lists_and_patterns_and_a_folder_of_systems(system, tmp_path, monkeypatch):
    system("data/a"), system("data/b")
    (tmp_path / "data/readme/set.1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert len(read(["data/a", "data/b"])) == len(read("data/*")) == 10
    with pytest.raises(DataError) as error:
        read("data")
    assert error.value.message == f"{tmp_path}/data is no data set itself, but holds 2: a, b"
    assert error.value.advice == "give one, a list of them, or all by a pattern: data/*"
    with pytest.raises(DataError, match="holds 2: data/a, data/b"):
        read(tmp_path)


def test_the_data_of_a_training(system):
    data = DataModule(system("a"), val=2, test=system("b", coord=1.01 * COORD), cutoff_radius=3.0).prepare()
    assert len(data.train_set) == 3
    assert data.train_set.labels == {"total_energy": 3, "forces": 3, "stress": 3}
    assert list(data.test_sets) == ["b"]


@pytest.mark.parametrize(
    ("changes", "message", "advice"),
    [
        ({"type_map.raw": None}, "has no type_map.raw, so that nothing says which elements its types (0, 1) are", "wr"),
        ({"type_map.raw": "H Xy"}, "type_map.raw: 'Xy' is no chemical symbol", "write a symbol for each type"),
        ({"type_map.raw": "H"}, "set.000 frame 0: an atom has the type 1, but type_map.raw has 1 symbols", "write"),
        ({"type.raw": None}, "type.raw is missing or empty", "write the type of each atom"),
        ({"type.raw": ""}, "type.raw is missing or empty", "write the type of each atom"),
        ({"type.raw": "O\nH\nH\n"}, "type.raw holds something else than whole numbers", "write"),
        ({"type.raw": "0 0"}, "coord.npy has 9 numbers for each frame, but 2 atoms in type.raw need 6", "copy"),
        ({"type.raw": "-1 0 0"}, "a type of an atom is no whole number from 0 on: -1", "give systems without"),
        ({"type.raw": f"{'9' * 400} 0 0"}, "type.raw holds something else than whole numbers", "write"),
        ({"coord": None}, "set.000 has no coord.npy", "copy the system again"),
        ({"box": None}, "set.000 has no box.npy, and its system no file nopbc", "for molecules, make an"),
        ({"energy": ENERGY[:2]}, "set.000/energy.npy has the shape (2,), but coord.npy has 3 frames", "copy"),
        ({"virial": VIRIAL[:, :6]}, "virial.npy has 6 numbers for each frame", "copy"),
        ({"energy": np.array([None] * 5)}, "energy.npy holds Python objects, which are not opened", "save"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)  # fmt: skip
def test_what_is_missing_or_does_not_fit(system, changes, message, advice):
    with pytest.raises(DataError) as error:
        read(system(**changes))
    assert message in error.value.message
    assert error.value.advice.startswith(advice)


def test_a_folder_without_sets(tmp_path):
    (tmp_path / "type.raw").write_text("0\n")
    (tmp_path / "coord.raw").write_text("0 0 0\n")
    with pytest.raises(DataError, match=r"has no folder set\.000, but only coord\.raw, type\.raw"):
        read(tmp_path)


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_an_array_that_is_cut_off_is_one_error_with_its_name(system, data):
    folder = system()
    name = data.draw(st.sampled_from(["coord", "box", "energy", "force", "virial"]))
    path = folder / "set.001" / f"{name}.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(DataError, match=rf"set\.001/{name}\.npy"):
        read(folder)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DataError, match=rf"set\.001/{name}\.npy"):
        read(folder)
