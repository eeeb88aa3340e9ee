"""Large files of each format that can be read from the middle: piece by piece they give what they give as a whole."""

import tarfile
import zipfile
from pathlib import Path

import ase.io
import numpy as np
import pytest

from nequip_like.data.datamodule import DataModule
from nequip_like.data.io.readers import read
from nequip_like.data.io.sets.frame_sets import KEPT_OPEN
from nequip_like.data.prepared import preparing
from nequip_like.data.prepared.files import FrameFile
from nequip_like.data.prepared.preparing import prepare_set
from nequip_like.data.prepared.tasks import PreparationRequest
from nequip_like.errors import ConfigError, DataError
from tests.data.io.sets.written_sets import check_same, make_frames, write_aselmdb, write_fairchem, write_mace
from tests.data.io.sets.written_sets import write_nequip as write_lmdb

FRAMES = 11
MOST_AT_ONCE = 4  # frames of a piece, at most


def write_db(path, frames):
    ase.io.write(path, frames)
    return path


def write_npz(path, frames, compressed=False):
    molecules = frames[::2]  # frames of one size
    arrays = {
        "R": np.array([atoms.positions for atoms in molecules]),
        "z": molecules[0].numbers,
        "E": np.array([atoms.get_potential_energy() for atoms in molecules]),
        "F": np.array([atoms.get_forces() for atoms in molecules]),
    }
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def write_deepmd(path, frames):
    molecules = frames[::2]
    for number, part in enumerate((molecules[:4], molecules[4:])):
        folder = path / f"set.{number:03d}"
        folder.mkdir(parents=True)
        np.save(folder / "coord.npy", np.array([atoms.positions.ravel() for atoms in part]))
        np.save(folder / "energy.npy", np.array([atoms.get_potential_energy() for atoms in part]))
        np.save(folder / "force.npy", np.array([atoms.get_forces().ravel() for atoms in part]))
    symbols = molecules[0].get_chemical_symbols()
    kinds = sorted(set(symbols))
    (path / "type.raw").write_text("\n".join(str(kinds.index(symbol)) for symbol in symbols))
    (path / "type_map.raw").write_text("\n".join(kinds))
    (path / "nopbc").touch()
    return path


def write_shards(path, frames):
    path.mkdir()
    write_aselmdb(path / "a.aselmdb", frames[:5], deleted=(2,))
    write_aselmdb(path / "b.aselmdb", frames[5:])
    return path


def write_archive(path, frames):
    inner = [path.with_name("one.xyz"), path.with_name("two.aselmdb")]
    ase.io.write(inner[0], frames[:6])
    write_aselmdb(inner[1], frames[6:])
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in inner:
                archive.write(file, file.name)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for file in inner:
                archive.add(file, file.name)
    for file in inner:
        file.unlink()
    return path


WRITERS = {
    "a.db": write_db,
    "a.aselmdb": write_aselmdb,
    "shards": write_shards,
    "nequip.lmdb": write_lmdb,
    "fairchem.lmdb": lambda path, frames: write_fairchem(path, make_frames(2 * FRAMES)[1::2]),  # all periodic
    "a.h5": write_mace,
    "a.npz": write_npz,
    "packed.npz": lambda path, frames: write_npz(path, frames, compressed=True),
    "system": write_deepmd,
    "a.tar.gz": write_archive,
    "a.zip": write_archive,
}


@pytest.mark.parametrize("name", WRITERS)
def test_same_as_the_whole_file(name, tmp_path, monkeypatch):
    path = WRITERS[name](tmp_path / name, make_frames(FRAMES))
    trust = path.suffix == ".lmdb"
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    whole = read(path, trust_pickle=trust)
    pieces = []
    original = preparing._prepare_task

    def count_frames(task, request):
        result = original(task, request)
        pieces.append(len(result.rows.table))
        return result

    monkeypatch.setattr(preparing, "_prepare_task", count_frames)
    monkeypatch.setattr(preparing, "_PIECE", max(size // 5, 1) if ".tar" not in name and ".zip" not in name else 2000)
    request = PreparationRequest([str(path)], 3.0, trust_pickle=trust)
    prepared = read(prepare_set(request, tmp_path / "set.frames").path)
    assert sum(pieces) == len(whole.frames) == len(prepared.frames)
    assert len(pieces) >= 2
    assert max(pieces) < len(whole.frames)
    without_edges = [{key: frame[key] for key in frame if not key.startswith("edge_")} for frame in prepared.frames]
    check_same(whole.frames, without_edges)
    assert list(prepared.origins) == list(whole.origins)
    assert prepared.label_names == whole.label_names
    assert set(prepared.notes) >= set(whole.notes)
    assert KEPT_OPEN._frames is None


def test_words_and_numbers_of_frames(write, molecules, tmp_path, monkeypatch):
    """What a test tells errors by: the groups are those of the file, in the order of the frames."""
    frames = molecules(9)
    for i, atoms in enumerate(frames[:-1]):
        atoms.info.update(config_type="hot" if i % 3 else "cold", step=i, factor=0.1 * i, box=np.eye(3))
    file = write("m.xyz", frames)
    monkeypatch.setattr(preparing, "_PIECE", file.stat().st_size // 4)
    path = prepare_set(PreparationRequest([str(file)], 2.0), tmp_path / "m.frames").path
    settings = {"test": 5, "cutoff_radius": 2.0}
    one, other = (DataModule(str(source), **settings).prepare().test_sets["test"] for source in (file, path))
    kept = [{key: value for key, value in frame.info.items() if key != "box"} for frame in one.annotations]
    assert [dict(frame.info) for frame in other.annotations] == kept
    assert {frame.info.get("config_type") for frame in other.annotations} >= {"hot", "cold"}
    # A file with two frames more behind the last that has any.
    manifest = FrameFile(path).manifest
    assert [first for first, _, _ in manifest["annotations"]][:2] == [0, 3]


def test_parts_of_one_file(write, molecules, tmp_path, monkeypatch):
    """Where there are fewer files than parts, each part has pieces of them; together they are in the file's order."""
    file = write("m.xyz", molecules(20))
    monkeypatch.setattr(preparing, "_PIECE", file.stat().st_size // 5)
    for number in (3, 1, 2):
        prepare_set(PreparationRequest([str(file)], 2.0, shard=(number, 3)), tmp_path / "set")
    parts = read(tmp_path / "set")
    assert list(parts.origins) == [f"{file} frame {i}" for i in range(20)]
    check_same(read(file).frames, [{k: f[k] for k in f if not k.startswith("edge_")} for f in parts.frames])
    with pytest.raises(ConfigError, match="there are 1 files, and 5 pieces of them"):
        prepare_set(PreparationRequest([str(file)], 2.0, shard=(1, 6)), tmp_path / "other")


def test_a_changed_archive_is_noticed(molecules, tmp_path):
    path = write_archive(tmp_path / "a.zip", make_frames(FRAMES))
    prepared = prepare_set(PreparationRequest([str(path)], 3.0), tmp_path / "set.frames").path
    read(prepared)
    write_archive(Path(path), make_frames(FRAMES, seed=1))
    with pytest.raises(DataError, match=r"a\.zip has changed since"):
        read(prepared)
