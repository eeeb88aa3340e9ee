"""``data.cache_dir``: what a run reads once it does not read again, and nothing is different."""

import os
import time

import numpy as np
import pytest

from nequip_like.data import dataset
from nequip_like.data.datamodule import DataModule
from nequip_like.data.prepared import preparing
from nequip_like.errors import OutputError


@pytest.fixture
def builds(monkeypatch):
    """Frames of which neighbours were looked for."""
    counted = []
    original = dataset.add_neighbors
    monkeypatch.setattr(dataset, "add_neighbors", lambda *args, **more: counted.append(1) or original(*args, **more))
    return counted


def list_batches(data):
    batches = [dict(batch) for batch in data.train_dataloader()]
    return [{name: tensor.numpy().tolist() for name, tensor in batch.items()} for batch in batches]


def test_a_second_run_makes_no_neighbour_lists(write, molecules, tmp_path, builds):
    train, test = write("m.xyz", molecules(12)), write("t.xyz", molecules(3, seed=9))
    settings = {"val": 3, "test": str(test), "cutoff_radius": 2.0, "units": {"energy": "kcal/mol"}, "train_size": 5}
    off, first, second = (
        DataModule(str(train), **settings, **extra).prepare()
        for extra in ({}, {"cache_dir": str(tmp_path / "cache")}, {"cache_dir": str(tmp_path / "cache")})
    )
    assert len(builds) == 5 + 3 + 3 + 12 + 3  # without the cache of the frames that are used, with it of all, once
    assert list_batches(off) == list_batches(first) == list_batches(second)
    assert off.statistics == first.statistics == second.statistics
    assert [one.rows() for one in off.inspections] == [one.rows() for one in second.inspections]
    assert off.test_sets["t"].origin(1) == second.test_sets["t"].origin(1)
    assert off.chosen_frames == second.chosen_frames
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_what_makes_another_set(write, molecules, tmp_path, builds):
    file = write("m.xyz", molecules(6))
    cache = {"cache_dir": str(tmp_path / "cache"), "val": 2}
    DataModule(str(file), cutoff_radius=2.0, **cache).prepare()
    os.utime(file)  # the content is what counts
    DataModule(str(file), cutoff_radius=2.0, **cache).prepare()
    assert len(builds) == 6
    DataModule(str(file), cutoff_radius=2.1, **cache).prepare()
    DataModule(str(file), cutoff_radius=2.0, units={"energy": "meV"}, **cache).prepare()
    file.write_text(file.read_text().replace("energy=-3.0", "energy=-3.1"))
    changed = DataModule(str(file), cutoff_radius=2.0, **cache).prepare()
    assert len(builds) == 4 * 6
    energies = np.concatenate([changed.train_set.table.energy, changed.val_sets["val"].table.energy])
    assert sorted(energies)[2] == -3.1


def test_the_size_is_bounded(write, molecules, tmp_path):
    """The set that was not used for longest goes, and what a killed run has left."""
    cache = tmp_path / "cache"
    files = [str(write(f"{i}.xyz", molecules(6, seed=i))) for i in range(3)]
    DataModule(files[0], cutoff_radius=2.0, cache_dir=str(cache)).prepare()
    (first,) = cache.iterdir()
    size = 2.5 * first.stat().st_size / 1e9
    os.utime(first, (time.time() - 100, time.time() - 100))
    (cache / "other-host-17.part").mkdir()
    os.utime(cache / "other-host-17.part", (0, 0))
    DataModule(files[1], cutoff_radius=2.0, cache_dir=str(cache), cache_size=size).prepare()
    assert len(list(cache.iterdir())) == 2
    DataModule(files[0], cutoff_radius=2.0, cache_dir=str(cache), cache_size=size).prepare()  # used again
    (second,) = [path for path in cache.iterdir() if path != first]
    os.utime(second, (time.time() - 50, time.time() - 50))
    DataModule(files[2], cutoff_radius=2.0, cache_dir=str(cache), cache_size=size).prepare()
    assert first.exists()
    assert not second.exists()
    assert len(list(cache.iterdir())) == 2


def test_two_runs_at_once(write, molecules, tmp_path, monkeypatch):
    """Another run writes the same set while this one does: one whole set is there, and both have their frames."""
    file, cache = str(write("m.xyz", molecules(6))), str(tmp_path / "cache")
    original, inner = preparing._prepare_task, []

    def meanwhile(task, request):
        if not inner:
            inner.append(None)
            monkeypatch.setattr(os, "getpid", lambda: 99999)
            inner[0] = DataModule(file, cutoff_radius=2.0, cache_dir=cache).prepare()
            monkeypatch.undo()
        return original(task, request)

    monkeypatch.setattr(preparing, "_prepare_task", meanwhile)
    outer = DataModule(file, cutoff_radius=2.0, cache_dir=cache).prepare()
    assert list_batches(outer) == list_batches(inner[0])
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_damaged_set_is_made_anew(write, molecules, tmp_path, builds):
    file, cache = str(write("m.xyz", molecules(6))), tmp_path / "cache"
    whole = list_batches(DataModule(file, cutoff_radius=2.0, cache_dir=str(cache)).prepare())
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    data = DataModule(file, cutoff_radius=2.0, cache_dir=str(cache)).prepare()
    assert list_batches(data) == whole
    assert len(builds) == 2 * 6
    assert any(path.name in note and note.endswith("it was made anew") for note in data.inspections[0].warnings)


def test_a_folder_that_is_a_file(write, molecules, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(OutputError, match="cache"):
        DataModule(str(write("m.xyz", molecules(3))), cutoff_radius=2.0, cache_dir=str(tmp_path / "cache")).prepare()
