"""HDF5 files of MACE, of both layouts; others are refused."""

import sys
from unittest import mock

import h5py
import numpy as np
import pytest

from nequip_like.data.io.formats import read_atoms
from nequip_like.data.io.readers import read
from nequip_like.errors import DataError
from tests.data.io.sets.written_sets import check_same, make_frames, write_mace


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("name", ["train_0.h5", "a.hdf5"])
def test_frames(tmp_path, older, name):
    frames = make_frames(12)
    frames[1].info["config_type"] = "bulk"
    reading = read(write_mace(tmp_path / name, frames, older))
    check_same(reading.frames, read(frames).frames, leave_out=("frame_index", "frame_weight"))
    assert {label: names for label, names in reading.label_names.items() if "weight" not in label} == {
        "total_energy": ["energy"],
        "forces": ["forces"],
        "stress": ["stress"],
    }
    assert reading.notes == []
    assert [atoms.info["config_type"] for atoms in read_atoms(tmp_path / name)[0][:2]] == ["Default", "bulk"]


@pytest.mark.parametrize("older", [False, True])
def test_weights(tmp_path, older):
    """As of an extended XYZ file of MACE: of the frame, and of each label; what is absent has no weight."""
    path = write_mace(tmp_path / "a.h5", make_frames(), older, weight=2.0, forces=3.0, energy=0.0)
    reading = read(path)
    assert [frame["frame_weight"].item() for frame in reading.frames] == [2.0] * 4
    assert [frame["forces_weight"].item() for frame in reading.frames] == [3.0] * 4
    assert all("total_energy" not in frame for frame in reading.frames)
    assert f"{path}: total_energy of 4 frames left out, their weight 'config_energy_weight' is zero" in reading.notes


def test_later_layout_of_the_file(tmp_path):
    with (
        h5py.File(write_mace(tmp_path / "a.h5", make_frames())) as old,
        h5py.File(tmp_path / "b.h5", "w", libver="latest") as new,
    ):
        old.copy("config_batch_0", new)
    check_same(read(tmp_path / "b.h5").frames, read(tmp_path / "a.h5").frames)


def test_several_batches(tmp_path):
    frames = make_frames(3)
    with h5py.File(write_mace(tmp_path / "a.h5", frames), "a") as file:
        file.move("config_batch_0/config_2", "config_batch_1/config_0")
    check_same(read(tmp_path / "a.h5").frames, read(write_mace(tmp_path / "b.h5", frames)).frames)


def test_without_h5py(tmp_path):
    path = write_mace(tmp_path / "a.h5", make_frames())
    with mock.patch.dict(sys.modules, {"h5py": None}), pytest.raises(DataError) as error:
        read(path)
    assert error.value.message == f"{path} is an HDF5 file, and the package h5py is not installed"
    assert error.value.advice == "pip install 'nequip-like[hdf5]'"


def test_files_of_aenet_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("entries/structures", data=np.zeros(3, dtype=np.uint8))
    with pytest.raises(DataError, match="is an HDF5 file of aenet, whose structures are pickles") as error:
        read(tmp_path / "a.h5")
    assert error.value.advice == "give the XSF files that it was made of"


def link_outside(file):
    group = file["config_batch_0/config_0"]
    del group["positions"]
    group["positions"] = h5py.ExternalLink("/etc/passwd", "positions")


def store_outside(file):
    group = file["config_batch_0/config_0"]
    del group["positions"]
    group.create_dataset("positions", (6, 3), dtype="f8", external=[("/etc/passwd", 0, 144)])


def leave_out(name):
    def change(file):
        del file[name]

    return change


def replace(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


def declare_much(file):
    del file["config_batch_0/config_0/positions"]
    file.create_dataset("config_batch_0/config_0/positions", (10**9, 3), dtype="f8", chunks=(10**4, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (leave_out("config_batch_0"), "a.h5 is not an HDF5 file of MACE: it has no group 'config_batch_0'"),
        (leave_out("config_batch_0/config_1"), "its groups 'config_...' are not numbered from 0 to 2"),
        (leave_out("config_batch_0/config_0/positions"), "config_0: its positions are missing"),
        (leave_out("config_batch_0/config_0/property_weights"), "config_0 has no 'property_weights'"),
        (replace("config_batch_0/config_0", 3.0), "'config_0' is no group"),
        (replace("config_batch_0/config_0/properties/forces", np.zeros((2, 3))), "'forces' has shape (2, 3)"),
        (replace("config_batch_0/config_0/cell", np.zeros(3)), "config_0: its cell are of shape (3,), and not (3, 3)"),
        (replace("config_batch_0/config_0/properties/energy", h5py.Empty("f8")), "'energy' has the shape None"),
        (replace("config_batch_0/config_0/properties/energy", np.void(b"abc")), "'energy' is neither numbers nor text"),
        (link_outside, "'positions' is a link to somewhere else"),
        (store_outside, "'positions' stands in another file"),
        (declare_much, "'positions' has the shape (1000000000, 3)"),
    ],
    ids=range(12),
)
def test_errors(tmp_path, change, message):
    with h5py.File(write_mace(tmp_path / "a.h5", make_frames()), "a") as file:
        change(file)
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.h5")
    assert message in error.value.message
    assert "a.h5" in error.value.message
