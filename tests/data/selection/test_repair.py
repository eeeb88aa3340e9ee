"""A file of repairs: what it does to data, and that it never takes one frame for another."""

import json

import numpy as np
import pytest
import yaml
from ase import Atoms

from nequip_like.data.datamodule import DataModule
from nequip_like.data.io.readers import read
from nequip_like.data.prepared.preparing import PreparationRequest, prepare_set
from nequip_like.data.selection.repair_file import (
    FORMAT,
    FrameRepair,
    hash_content,
    read_repairs,
    write_repairs,
)
from nequip_like.errors import ConfigError, DataError


@pytest.fixture
def images(labelled):
    """Twelve water molecules, each with its own bond, energy and forces."""
    rng = np.random.default_rng(0)
    return [
        labelled(
            Atoms("OH2", [[0, 0, 0], [0.96 + 0.01 * i, 0, 0], [-0.24, 0.93, 0]]),
            energy=-10.0 + 0.1 * i,
            forces=rng.normal(size=(3, 3)),
        )
        for i in range(12)
    ]


def repair(file, index, action, **details):
    reading = read(str(file))
    return FrameRepair(str(file), index, hash_content(reading.frames[index]), action, "a test", **details)


def load(file, repairs, folder, name="repair.json", **options):
    write_repairs(folder / name, repairs, {"audit": {"steps": 3}})
    return DataModule(str(file), cutoff_radius=3.0, repair=str(folder / name), **options).prepare()


def numbers(data):
    return [int(data.train_set.origin(i).rpartition(" ")[2]) for i in range(len(data.train_set))]


@pytest.mark.parametrize("name", ["repair.json", "repair.yaml"])
def test_each_action(tmp_path, write, images, name):
    file = write("w.xyz", images)
    repairs = [
        repair(file, 3, "drop"),
        repair(file, 5, "exchange_forces", atoms=(0, 2)),
        repair(file, 6, "unlabel", labels=("total_energy",), atoms=(1,)),
        repair(file, 7, "exchange_species", atoms=(0, 1)),
    ]
    data = load(file, repairs, tmp_path, name)
    assert numbers(data) == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    frames = dict(zip(numbers(data), data.train_set.frames, strict=True))
    assert frames[5]["forces"].numpy() == pytest.approx(images[5].get_forces()[[2, 1, 0]])
    assert np.isnan(frames[6]["total_energy"].item())
    assert np.isnan(frames[6]["forces"].numpy()).all(axis=1).tolist() == [False, True, False]
    assert frames[7]["atomic_numbers"].tolist() == [1, 8, 1]
    assert frames[8]["forces"].numpy() == pytest.approx(images[8].get_forces())


def test_it_is_said_in_the_table_and_in_the_log(tmp_path, write, images):
    file = write("w.xyz", images)
    data = load(file, [repair(file, i, "drop") for i in (1, 4)], tmp_path, val=2)
    train, val = data.inspections
    assert train.rows()[-1] == ("repaired", "2 left out")
    (warning,) = [text for text in train.warnings if text.startswith("repair")]
    path = tmp_path / "repair.json"
    assert warning == f"repair (leave the frame out): 2 of 12 frames, by {path}: {file} frame 1, {file} frame 4"
    assert [text for text in val.warnings if text.startswith("repair")] == []


def test_frames_are_found_by_content_wherever_they_are(tmp_path, write, images):
    """In another file, in another order, with others between them; and among equal frames the one that was meant."""
    file = write("w.xyz", images)
    entries = [repair(file, 2, "drop"), repair(file, 9, "exchange_forces", atoms=(0, 1))]
    moved = write("moved.xyz", images[::-1])
    file.unlink()
    data = load(moved, entries, tmp_path)
    assert numbers(data) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11]  # frame 9 of the new file is frame 2 of the old one
    assert data.train_set.frames[2]["forces"].numpy() == pytest.approx(images[9].get_forces()[[1, 0, 2]])
    twice = write("twice.xyz", [images[0], images[1], images[0], images[3]])
    assert numbers(load(twice, [repair(twice, 2, "drop")], tmp_path)) == [0, 1, 3]


def test_repairs_of_validation_and_test_files(tmp_path, write, images):
    train, test = write("train.xyz", images[:8]), write("test.xyz", images[8:])
    data = load(train, [repair(test, 1, "drop"), repair(train, 0, "drop")], tmp_path, test=str(test))
    assert (len(data.train_set), len(data.test_sets["test"])) == (7, 3)
    assert data.test_sets["test"].repaired == "1 left out"


@pytest.mark.parametrize("change", ["energy", "forces", "position"])
def test_a_changed_frame_is_refused(tmp_path, write, images, change):
    file = write("w.xyz", images)
    entries = [repair(file, 4, "drop"), repair(file, 5, "drop")]
    if change == "position":
        images[5].positions[1, 0] += 1e-3
        images[5].calc.atoms = images[5].copy()
    else:
        images[5].calc.results[change] = images[5].calc.results[change] + 1e-3
    write("w.xyz", images)
    with pytest.raises(DataError) as error:
        load(file, entries, tmp_path)
    path = tmp_path / "repair.json"
    assert error.value.message == (
        f"{file} frame 5 is no longer the frame that {path} speaks of: structure or labels have changed since"
    )


def test_a_file_for_other_data_is_refused_and_a_part_of_it_is_told(tmp_path, write, images):
    file, other = write("w.xyz", images[:6]), write("other.xyz", images[6:])
    entries = [repair(file, 1, "drop"), repair(file, 2, "drop")]
    with pytest.raises(DataError, match=r"none of the 2 frames of .*repair\.json is among the data"):
        load(other, entries, tmp_path)
    data = load(other, [*entries, repair(other, 0, "drop")], tmp_path)
    warnings = [text for text in data.inspections[0].warnings if "not among the data" in text]
    assert len(warnings) == 1
    assert warnings[0].startswith("repair: 2 of 3 frames of")


def test_other_units_are_another_content(tmp_path, write, images):
    file = write("w.xyz", images)
    with pytest.raises(DataError, match="is no longer the frame"):
        load(file, [repair(file, 0, "drop")], tmp_path, units={"energy": "kcal/mol"})


def test_prepared_frames_are_left_out_but_not_changed(tmp_path, write, images):
    file = write("w.xyz", images)
    prepared = prepare_set(PreparationRequest([str(file)], 3.0), tmp_path / "w.frames").path
    assert numbers(load(prepared, [repair(file, 4, "drop")], tmp_path)) == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    with pytest.raises(DataError, match="frames of a prepared set cannot be changed"):
        load(prepared, [repair(file, 4, "exchange_forces", atoms=(0, 1))], tmp_path)


def test_what_is_written_is_read(tmp_path, write, images):
    file = write("w.xyz", images)
    entries = [repair(file, 6, "unlabel", labels=("forces",), evidence={"force_score": 12.5})]
    for name in ("r.json", "r.yml"):
        write_repairs(tmp_path / name, entries, {})
        assert read_repairs(tmp_path / name) == entries
    assert yaml.safe_load((tmp_path / "r.yml").read_text())["frames"][0]["labels"] == ["forces"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"action": "remove"}, r"frames\[0\].action is 'remove'"),
        ({"action": "exchange_forces", "atoms": [1]}, r"exchange_forces has the atoms \[1\]"),
        ({"action": "unlabel"}, "says neither which labels nor of which atoms"),
        ({"action": "unlabel", "labels": ["energy"]}, "'energy' is no label"),
        ({"action": "drop", "frame": 3}, "has the unknown key 'frame'"),
        ({"action": "drop", "index": -1}, r"frames\[0\].index is -1"),
    ],
)
def test_mistakes_in_the_file(tmp_path, entry, message):
    content = {"format": FORMAT, "frames": [{"file": "a.xyz", "index": 0, "hash": "x-y", **entry}]}
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises((DataError, ConfigError), match=message):
        read_repairs(tmp_path / "r.json")


def test_files_that_are_something_else(tmp_path):
    (tmp_path / "r.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=f"its format is not '{FORMAT}'"):
        read_repairs(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(DataError, match="is no JSON"):
        read_repairs(tmp_path / "r.json")
    with pytest.raises(DataError, match=r"cannot read .*missing\.json"):
        read_repairs(tmp_path / "missing.json")


def test_each_set_that_reads_a_frame_has_it_repaired(tmp_path, write, images):
    """A file is validation data twice, and replayed: no set keeps the labels that were found wrong."""
    file, others = write("w.xyz", images[:8]), write("others.xyz", images[8:])
    repairs = [repair(file, 1, "drop"), repair(file, 2, "unlabel", labels=("total_energy",))]
    sets = {"all": str(file), "first": {"file": str(file), "index": ":4"}}
    data = load(others, repairs, tmp_path, val=sets, replay={"file": str(file), "fraction": 0.5}, allow_overlap=True)
    for dataset, count in ((data.val_sets["all"], 7), (data.val_sets["first"], 3), (data.replay_set, 7)):
        assert len(dataset) == count
        assert dataset.repaired == "1 left out, 1 changed"
        unlabelled = [np.isnan(frame["total_energy"].item()) for frame in dataset.frames]
        assert unlabelled.index(True) == 1
        assert sum(unlabelled) == 1


def test_forces_that_are_not_there(tmp_path, write, labelled):
    file = write("w.xyz", [labelled(Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * i]]), energy=-31.0) for i in range(3)])
    with pytest.raises(DataError, match="but it has no forces"):
        load(file, [repair(file, 1, "exchange_forces", atoms=(0, 1))], tmp_path)
