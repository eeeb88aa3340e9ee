import json

import pytest
from ase import Atoms

from nequip_like.data.datamodule import DataModule
from nequip_like.data.selection.indices import read_indices, write_parts
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
    for entry in ([1, 1], [-1], [True], [0.5], [], {"a": 1}, 3, ["3:1"], ["0:999999999999"]):
        with pytest.raises(ConfigError, match=r"train\.indices"):
            read_indices(entry, "train.indices")
    with pytest.raises(DataError, match=r"cannot read .*none\.json"):
        read_indices(str(tmp_path / "none.json"), "train.indices")
    (tmp_path / "text.json").write_text("[1, 2")
    with pytest.raises(DataError, match=r"text\.json is no JSON file"):
        read_indices(tmp_path / "text.json", "train.indices")
    (tmp_path / "other.json").write_text('{"indices": [1]}')
    with pytest.raises(ConfigError, match=r"train\.indices: .*other\.json has no numbers for train, but for indices"):
        read_indices(tmp_path / "other.json", "train.indices")


def test_a_sample_of_a_file(write, molecules):
    file = str(write("m.xyz", molecules(20)))

    def energies(**entry):
        data = DataModule({"file": file, **entry}, cutoff_radius=2.0).prepare()
        return [float(frame["total_energy"]) for frame in data.train_set]

    assert energies(max_samples=3) == [0.0, -1.0, -2.0]
    drawn = energies(max_samples=6, shuffle=True, seed=1)
    assert (len(drawn), drawn) == (6, sorted(drawn, reverse=True))
    assert drawn == energies(max_samples=6, shuffle=True, seed=1) != energies(max_samples=6, shuffle=True, seed=2)
    assert len(energies(max_samples=50)) == 20


def test_the_split_of_a_run_again(write, molecules, labelled, tmp_path):
    """What a run writes gives the same sets, references and all, from the same file."""
    atoms = [labelled(Atoms(symbol), energy=energy) for symbol, energy in (("H", -13.0), ("O", -400.0))]
    file = str(write("m.xyz", [*molecules(12), *atoms]))
    entry = {"file": file, "index": "1:"}
    first = DataModule(entry, val={"a": 3, "b": 2}, test=1, cutoff_radius=2.0, train_size=4).prepare()
    path = str(tmp_path / "indices.json")
    write_parts(tmp_path / "indices.json", first.chosen_frames)
    again = {**entry, "indices_path": path}
    second = DataModule(again, val={"a": again, "b": again}, test=again, cutoff_radius=2.0).prepare()
    assert list(json.loads((tmp_path / "indices.json").read_text())) == ["train", "val/a", "val/b", "test/test"]
    assert second.reference == first.reference
    assert first.reference.rule == "isolated_atoms"
    for one, other in (
        (first.train_set, second.train_set),
        (first.val_sets["b"], second.val_sets["b"]),
        (first.test_sets["test"], second.test_sets["m"]),
    ):
        assert [one.origin(i) for i in range(len(one))] == [other.origin(i) for i in range(len(other))]
    assert DataModule(file, cutoff_radius=2.0).prepare().chosen_frames == {}
    with pytest.raises(ConfigError, match=r"has no numbers for val/c, but for train, val/a"):
        DataModule(entry, val={"c": again}, cutoff_radius=2.0).prepare()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"shuffle": True}, "train has a shuffle, but no max_samples"),
        ({"max_samples": 0}, r"train\.max_samples is 0"),
        ({"max_samples": 3, "indices": [1]}, "train has both indices and max_samples"),
        ({"indices_path": "a.json", "indices": [1]}, "train has both indices and indices_path"),
        ({"indices_path": [1]}, r"train\.indices_path is \[1\], which is no file"),
    ],
    ids=["no size", "none", "two ways", "two lists", "no path"],
)
def test_mistakes_in_a_sample(entry, message):
    with pytest.raises(ConfigError, match=message):
        DataModule({"file": "m.xyz", **entry}, cutoff_radius=2.0).prepare()
