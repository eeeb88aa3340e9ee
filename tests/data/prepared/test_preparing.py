"""Sets that are prepared: the same numbers in the same order as from the files, whole or refused."""

import json
import random

import numpy as np
import pytest
import torch
from ase.build import bulk

from nequip_like.data.datamodule import DataModule
from nequip_like.data.prepared import preparing
from nequip_like.data.prepared.files import FrameFile
from nequip_like.data.prepared.preparing import prepare_set
from nequip_like.data.prepared.sets import get_prepared
from nequip_like.data.prepared.tasks import PreparationRequest
from nequip_like.errors import ConfigError, DataError, OutputError


@pytest.fixture
def prepare(tmp_path):
    """Prepare files into ``set.frames`` of the test's folder."""

    def prepare(*files, cutoff=2.0, name="set.frames", **options):
        request = {key: options.pop(key) for key in ("key_mapping", "units", "shard") if key in options}
        return prepare_set(PreparationRequest(list(map(str, files)), cutoff, **request), tmp_path / name, **options)

    return prepare


def assert_same_frames(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key].numpy(), other[key].numpy())


def test_same_as_from_the_file(write, molecules, labelled, prepare):
    """Frames, divisions, statistics, references and what is printed are equal to the last bit."""
    crystals = [labelled(bulk("Mo", a=2.9 + 0.05 * i, cubic=True), energy=-21.0, stress=np.eye(3)) for i in range(7)]
    file = write("mixed.xyz", [*molecules(20), *crystals])
    summary = prepare(file)
    assert (summary.frames, summary.resumed) == (27, 0)
    settings = {"val": 4, "test": 3, "cutoff_radius": 2.0, "train_size": 15}
    from_file, prepared = (DataModule(source, **settings).prepare() for source in (str(file), str(summary.path)))
    assert get_prepared(prepared.train_set.frames) is not None
    for kind in ("train_set", "val_sets", "test_sets"):
        parts = [getattr(data, kind) for data in (from_file, prepared)]
        one, other = [part if kind == "train_set" else part[kind.removesuffix("_sets")] for part in parts]
        assert_same_frames(list(one), list(other))
        assert [one.origin(i) for i in range(len(one))] == [other.origin(i) for i in range(len(other))]
        np.testing.assert_array_equal(one.keys, other.keys)
        assert one.labels == other.labels
        assert one.read_from == other.read_from
    assert from_file.type_names == prepared.type_names
    assert from_file.statistics == prepared.statistics
    assert from_file.reference == prepared.reference
    assert [i.rows() for i in from_file.inspections] == [i.rows() for i in prepared.inspections]
    assert "forces do not add up to zero in 19 frames" in " ".join(prepared.inspections[0].warnings)
    for one, other in zip(from_file.train_dataloader(), prepared.train_dataloader(), strict=True):
        assert_same_frames([one], [other])


def test_sets_that_fit_are_held(write, molecules, prepare):
    path = str(prepare(write("m.xyz", molecules(9))).path)
    held = DataModule(path, val=2, cutoff_radius=2.0).prepare()
    read_anew = DataModule(path, val=2, cutoff_radius=2.0, held_memory=0).prepare()
    (first, again), (other, anew) = [[data.train_set[3]["pos"] for _ in range(2)] for data in (held, read_anew)]
    assert first is again
    assert other is not anew
    assert torch.equal(other, anew)
    # The second set has what the first leaves.
    memory = get_prepared(held.train_set.frames).memory
    both = DataModule(path, val=[path], cutoff_radius=2.0, held_memory=1.5 * memory / 1e9, allow_overlap=True).prepare()
    assert get_prepared(both.train_set.frames).holds
    assert not get_prepared(both.val_sets["set"].frames).holds


def test_pieces_of_a_large_file(write, molecules, prepare, monkeypatch):
    """A large file is read in pieces; the set is the same to the last byte."""
    file = write("m.xyz", molecules(23))
    whole = prepare(file).path.read_bytes()
    told = []
    monkeypatch.setattr(preparing, "_PIECE", file.stat().st_size // 5)
    pieces = prepare(file, name="pieces.frames", tell=lambda *state: told.append(state))
    assert pieces.path.read_bytes() == whole
    assert told[-1] == (len(told), len(told), 23)
    assert len(told) == 5


def test_a_name_that_only_one_piece_has(write_text, prepare, monkeypatch):
    frame = '1\nProperties=species:S:1:pos:R:3{} energy={} pbc="F F F"\nO 0.0 0.0 0.0{}\n'
    text = frame.format("", -1.0, "") * 3 + frame.format(":dft_f:R:3", -1.0, " 0.0 0.0 0.5")
    file = write_text("m.xyz", text)
    monkeypatch.setattr(preparing, "_PIECE", 100)
    summary = prepare(file, key_mapping={"dft_f": "forces"})
    assert FrameFile(summary.path).manifest["labels"] == {"total_energy": 4, "forces": 1}
    with pytest.raises(DataError, match="no frame has 'dft_g', which key_mapping declares as 'forces'"):
        prepare(file, name="other.frames", key_mapping={"dft_g": "forces"})


def test_mistakes_in_a_piece_are_told_as_of_the_file(write, molecules, prepare, monkeypatch):
    file = write("m.xyz", molecules(10))
    lines = file.read_text().splitlines()
    lines[5 * 8 + 3] = "H 0.9 x 0.0 0.0 0.0 0.0"
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError) as whole:
        prepare(file)
    monkeypatch.setattr(preparing, "_PIECE", 400)
    with pytest.raises(DataError) as piece:
        prepare(file, name="pieces.frames")
    assert str(piece.value) == str(whole.value)
    assert "frame 8" in str(whole.value)


def test_a_stopped_preparation_goes_on(write, molecules, prepare, monkeypatch, tmp_path):
    files = [write(f"{i}.xyz", molecules(4, seed=i)) for i in range(5)]
    whole = prepare(*files, name="whole.frames").path.read_bytes()
    original = preparing._prepare_task
    done = []

    def stop_at_third(task, request):
        done.append(str(task.member.file))
        if len(done) == 3:
            raise KeyboardInterrupt
        return original(task, request)

    monkeypatch.setattr(preparing, "_prepare_task", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        prepare(*files)
    with (tmp_path / "set.frames.part" / "records").open("ab") as file:  # killed while it wrote
        file.write(b"half a record")
    summary = prepare(*files)
    assert done == [*map(str, files[:3]), *map(str, files[2:])]
    assert (summary.frames, summary.resumed) == (20, 8)
    assert summary.path.read_bytes() == whole
    assert not (tmp_path / "set.frames.part").exists()


def test_two_preparations_of_one_output(write, molecules, prepare, monkeypatch):
    """The second one is refused, and the first one is whole."""
    files = [write(f"{i}.xyz", molecules(4, seed=i)) for i in range(2)]
    original, messages = preparing._prepare_task, []

    def meanwhile(task, request):
        if not messages:
            with pytest.raises(OutputError) as refused:
                prepare(*files)
            messages.append(str(refused.value))
        return original(task, request)

    monkeypatch.setattr(preparing, "_prepare_task", meanwhile)
    assert prepare(*files).frames == 8
    assert "another process prepares frames in" in messages[0]


def test_another_request_begins_anew(write, molecules, prepare, monkeypatch):
    files = [write(f"{i}.xyz", molecules(4, seed=i)) for i in range(2)]
    original = preparing._prepare_task
    monkeypatch.setattr(preparing, "_prepare_task", lambda task, r: original(task, r) if task.source == 0 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(*files)
    monkeypatch.undo()
    summary = prepare(*files, cutoff=3.0)
    assert (summary.frames, summary.resumed) == (8, 0)
    assert FrameFile(summary.path).manifest["cutoff"] == 3.0


def test_parts_of_a_set(write, molecules, prepare, tmp_path):
    files = [write(f"{i}.xyz", molecules(3, seed=i)) for i in range(5)]
    for number in (2, 1):
        prepare(*files, name="parts", shard=(number, 2))
    data = DataModule(str(tmp_path / "parts"), val=2, cutoff_radius=2.0).prepare()
    assert sum(map(len, (data.train_set, data.val_sets["val"]))) == 15
    parts = ((data.train_set, 13), (data.val_sets["val"], 2))
    origins = sorted(part.origin(i) for part, frames in parts for i in range(frames))
    assert origins == sorted(f"{file} frame {i}" for file in files for i in range(3))
    (tmp_path / "parts" / "part-00001-of-00002.frames").unlink()
    with pytest.raises(DataError, match="is not whole: parts 1 of 2 are missing"):
        DataModule(str(tmp_path / "parts"), cutoff_radius=2.0).prepare()
    with pytest.raises(ConfigError, match="--shard 6/6, but there are 5 files, and 5 pieces of them"):
        prepare(*files, name="parts", shard=(6, 6))


@pytest.mark.slow  # each process imports torch
def test_several_processes_write_the_same(write, molecules, prepare):
    files = [write(f"{i}.xyz", molecules(4, seed=i)) for i in range(5)]
    assert prepare(*files, workers=2).path.read_bytes() == prepare(*files, name="one.frames").path.read_bytes()
    files[3].write_text("3\nno structure\n")
    with pytest.raises(DataError, match=r"3\.xyz"):
        prepare(*files, name="other.frames", workers=2)


def test_a_changed_source_is_noticed(write, molecules, prepare):
    file = write("m.xyz", molecules(5))
    path = prepare(file).path
    text = file.read_text()
    file.write_text(text)  # another time, the same content
    DataModule(str(path), cutoff_radius=2.0).prepare()
    file.write_text(text.replace("energy=-3.0", "energy=-3.1"))
    with pytest.raises(DataError, match=r"m\.xyz has changed since .*set\.frames was prepared from it"):
        DataModule(str(path), cutoff_radius=2.0).prepare()
    file.unlink()
    DataModule(str(path), cutoff_radius=2.0).prepare()


def test_mistakes(write, molecules, prepare, tmp_path):
    file = write("m.xyz", molecules(5))
    path = prepare(file).path
    with pytest.raises(DataError, match=r"with a cutoff radius of 2 Angstrom; the model has 3") as error:
        DataModule(str(path), cutoff_radius=3.0).prepare()
    assert "--cutoff 3" in error.value.advice
    with pytest.raises(ConfigError, match=r"units is declared, but .*set\.frames is a prepared set"):
        DataModule(str(path), cutoff_radius=2.0, units={"energy": "meV"}).prepare()
    with pytest.raises(ConfigError, match=r"set\.frames is a prepared set, and .*m\.xyz is none"):
        DataModule([str(path), str(file)], cutoff_radius=2.0).prepare()
    with pytest.raises(DataError, match="has O, which is not among the species H"):
        DataModule(str(path), cutoff_radius=2.0, species=["H"]).prepare()
    with pytest.raises(OutputError, match="is there already"):
        prepare(file)
    assert prepare(file, overwrite=True).frames == 5
    with pytest.raises(ConfigError, match="is a prepared set already"):
        prepare(path, name="again.frames")
    with pytest.raises(DataError, match="the same structure is in train"):
        DataModule(str(path), val=str(file), cutoff_radius=2.0).prepare()
    different = prepare(file, name="cutoff.frames", cutoff=1.5).path
    with pytest.raises(DataError, match="were prepared with different cutoff radii"):
        DataModule([str(path), str(different)], cutoff_radius=2.0).prepare()


@pytest.mark.parametrize("prepared", ["train", "replay", "both"])
def test_replay(prepared, write, molecules, labelled, prepare):
    """Whichever of both is prepared: the batches are those of the files, with weights, moved energies and NaN."""
    old = [labelled(bulk("Mo", a=2.9 + 0.05 * i, cubic=True), energy=-21.0, stress=np.eye(3)) for i in range(5)]
    train, other = str(write("m.xyz", molecules(8))), str(write("old.xyz", old))
    data = []
    for use in ("", prepared):
        source = prepare(train, name=f"{use}m.frames").path if use in ("train", "both") else train
        replayed = prepare(other, name=f"{use}o.frames").path if use in ("replay", "both") else other
        replay = {"file": str(replayed), "fraction": 0.4, "weight": 0.5}
        settings = {"species": ["H", "O", "Mo"], "batch_size": 3, "held_memory": 0, "val": 2}
        module = DataModule(str(source), cutoff_radius=2.0, replay=replay, **settings).prepare()
        module.move_replay({"Mo": 0.25})
        data.append(module)
    assert data[1].num_replayed == 4
    for one, same in zip(*(module.train_dataloader() for module in data), strict=True):
        assert_same_frames([one], [same])
    assert data[0].trained_on.origin(7) == data[1].trained_on.origin(7)


def test_damaged_files_are_refused(write, molecules, prepare, tmp_path):
    """Cut off anywhere, or changed in any of many places: one clear error, or the same frames."""
    path = prepare(write("m.xyz", molecules(6))).path
    content, good = path.read_bytes(), list(DataModule(str(path), cutoff_radius=2.0).prepare().train_set)
    generator = random.Random(0)
    mutated = tmp_path / "mutated.frames"
    refused = 0
    for _ in range(400):
        changed = bytearray(content)
        if generator.random() < 0.3:
            del changed[generator.randrange(8, len(content)) :]
        else:
            for _ in range(generator.choice([1, 1, 5])):
                changed[generator.randrange(8, len(content))] = generator.randrange(256)
        mutated.write_bytes(changed)
        message = ""
        try:
            frames = list(DataModule(str(mutated), cutoff_radius=2.0, reference_energies=None).prepare().train_set)
        except DataError as error:
            message = error.message
        if message:
            refused += 1
            assert "mutated.frames" in message
        else:
            assert_same_frames(frames, good)
    assert refused > 300
    mutated.write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        DataModule(str(mutated), cutoff_radius=2.0).prepare()


def test_manifest(write, molecules, prepare):
    file = write("m.xyz", molecules(5))
    manifest = FrameFile(prepare(file, units={"energy": "meV", "forces": "meV/Angstrom"}).path).manifest
    assert json.loads(json.dumps(manifest)) == manifest
    assert manifest["labels"] == {"total_energy": 5, "forces": 5}
    assert manifest["species"] == {"H": 10, "O": 5}
    assert manifest["units"] == {"energy": "meV", "forces": "meV/Angstrom"}
    assert manifest["sources"][0]["path"] == str(file)
