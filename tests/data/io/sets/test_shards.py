"""Folders of shards: one data set, in the order of their names."""

import shutil

import pytest

from nequip_like.data.datamodule import DataModule
from nequip_like.data.io.readers import read
from nequip_like.errors import DataError
from tests.data.io.sets.written_sets import check_same, make_frames, write_aselmdb, write_mace, write_nequip


@pytest.mark.parametrize(
    ("write", "suffix", "trusted"),
    [(write_aselmdb, ".aselmdb", False), (write_nequip, ".lmdb", True), (write_mace, ".h5", False)],
    ids=["aselmdb", "lmdb", "hdf5"],
)
def test_folder_is_one_data_set(tmp_path, write, suffix, trusted):
    frames = make_frames(7)
    folder = tmp_path / "train"
    folder.mkdir()
    write(tmp_path / f"all{suffix}", frames)
    write(folder / f"data.0001{suffix}", frames[3:])
    write(folder / f"data.0000{suffix}", frames[:3])
    (folder / "metadata.json").write_text("{}")
    (folder / f"data.0000{suffix}-lock").write_bytes(b"")
    reading = read(folder, trust_pickle=trusted)
    check_same(reading.frames, read(tmp_path / f"all{suffix}", trust_pickle=trusted).frames)
    assert reading.origins[5] == f"{folder} frame 5"
    assert len(read(folder, index="2:5", trust_pickle=trusted)) == 3
    assert len(read(f"{folder}/data*{suffix}", trust_pickle=trusted)) == 7
    (folder / f"data.0001{suffix}").write_bytes(b"")
    with pytest.raises(DataError, match=rf"train/data\.0001\{suffix} is empty"):
        read(folder, trust_pickle=trusted)
    shutil.copy(folder / f"data.0000{suffix}", folder / f"data.0001{suffix}")
    with (folder / f"data.0001{suffix}").open("r+b") as file:
        file.truncate(3000)
    with pytest.raises(DataError, match=r"train") as error:
        read(folder, trust_pickle=trusted)
    assert "cannot read" in error.value.message


def test_folder_in_a_data_module(tmp_path):
    write_aselmdb(tmp_path / "a.aselmdb", make_frames(6))
    data = DataModule(tmp_path, val=1, cutoff_radius=3.0).prepare()
    assert len(data.train_set) == 5


def test_two_formats_in_a_folder(tmp_path):
    write_aselmdb(tmp_path / "a.aselmdb", make_frames(2))
    write_mace(tmp_path / "b.h5", make_frames(2))
    with pytest.raises(DataError, match="holds files of aselmdb and of hdf5") as error:
        read(tmp_path)
    assert error.value.advice == f"name those that are meant, for example {tmp_path}/*.aselmdb"


def test_other_folders_are_none(tmp_path):
    (tmp_path / "a.xyz").write_text("1\n\nH 0 0 0\n")
    with pytest.raises(DataError, match="is a folder, not a file"):
        read(tmp_path)
    write_aselmdb(tmp_path / "a.aselmdb", make_frames(2))  # read alone, it would hide the other
    with pytest.raises(DataError, match="is a folder, not a file"):
        read(tmp_path)


def test_packed_files_are_refused(tmp_path):
    (tmp_path / "a.aselmdb.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=r"a\.aselmdb\.gz is packed"):
        read(tmp_path / "a.aselmdb.gz")
