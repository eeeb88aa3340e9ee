import json

import pytest

from nequip_like.data.datamodule import DataModule
from nequip_like.data.selection.indices import read_indices
from nequip_like.errors import ConfigError, DataError


def test_frames_in_the_order_of_the_list(write, molecules, tmp_path):
    file = write("m.xyz", molecules(8))
    (tmp_path / "chosen.json").write_text("[7, 2, 4]")
    entries = [{"file": str(file), "indices": [7, 2, 4]}, {"file": str(file), "indices": str(tmp_path / "chosen.json")}]
    for entry in entries:
        data = DataModule(entry, cutoff_radius=2.0).prepare()
        assert [data.train_set.origin(i) for i in range(3)] == [f"{file} frame {i}" for i in (7, 2, 4)]
        assert [float(frame["total_energy"]) for frame in data.train_set] == [-7.0, -2.0, -4.0]


def test_below_a_folder(write, molecules, tmp_path):
    write("m.xyz", molecules(8))
    (tmp_path / "chosen.json").write_text(json.dumps([1, 0]))
    entry = {"file": "m.xyz", "indices": "chosen.json"}
    data = DataModule(entry, cutoff_radius=2.0, path=str(tmp_path)).prepare()
    assert len(data.train_set) == 2


def test_of_the_frames_that_an_index_leaves(write, molecules):
    entry = {"file": str(write("m.xyz", molecules(8))), "index": "::2", "indices": [3]}
    data = DataModule(entry, cutoff_radius=2.0).prepare()
    assert data.train_set.origin(0).endswith("frame 6")


def test_mistakes(write, molecules, tmp_path):
    file = str(write("m.xyz", molecules(8)))
    with pytest.raises(DataError, match="indices name frame 8, but there are 8 frames"):
        DataModule({"file": file, "indices": [0, 8]}, cutoff_radius=2.0).prepare()
    for entry in ([1, 1], [-1], [True], [0.5], [], {"a": 1}, 3):
        with pytest.raises(ConfigError, match=r"train\.indices"):
            read_indices(entry, "train.indices")
    with pytest.raises(DataError, match=r"cannot read .*none\.json"):
        read_indices(str(tmp_path / "none.json"), "train.indices")
    (tmp_path / "text.json").write_text("[1, 2")
    with pytest.raises(DataError, match=r"text\.json is no JSON file"):
        read_indices(tmp_path / "text.json", "train.indices")
    (tmp_path / "other.json").write_text('{"indices": [1]}')
    with pytest.raises(ConfigError, match=r"train\.indices: .*other\.json is no list of numbers"):
        read_indices(tmp_path / "other.json", "train.indices")
