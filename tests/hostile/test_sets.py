"""Damaged arrays, systems of DeePMD, files of RuNNer and archives, read as a training would read them."""

import gzip
import io
import random
import tarfile
import zipfile

import numpy as np
import pytest

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.report import inspect
from nequip_like.data.io.readers import read
from nequip_like.data.species import species_of
from nequip_like.errors import NequipLikeError
from tests.hostile.mutations import damaged, refused, retold, share

pytestmark = pytest.mark.slow
BATCHES = 5
FRAMES, ATOMS = 4, 3
batches = pytest.mark.parametrize("batch", range(BATCHES))


def use(path):
    reading = read(path)
    inspect(GraphDataset(reading.frames, 3.0, species_of(reading.frames), origins=reading.origins))


def refused_by_name(path):
    """Whether reading ended in an error of the package, which has to name the file."""

    def use_it():
        try:
            use(path)
        except NequipLikeError as error:
            if path.name not in error.message:
                raise AssertionError(f"an error without the name of the file: {error}") from error
            raise

    return refused(use_it)


def numbers():
    rng = np.random.default_rng(0)
    place = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + 0.02 * rng.normal(size=(FRAMES, ATOMS, 3))
    return place, rng.normal(size=FRAMES), rng.normal(size=(FRAMES, ATOMS, 3))


@pytest.fixture(scope="module", params=["stored", "compressed"])
def npz(request):
    place, energy, force = numbers()
    stream = io.BytesIO()
    save = np.savez if request.param == "stored" else np.savez_compressed
    save(stream, z=[8, 1, 1], R=place, E=energy, F=force, cell=5 * np.eye(3), e_unit="eV", r_unit="Ang")
    return stream.getvalue()


@batches
def test_npz(npz, tmp_path, batch):
    path = tmp_path / "a.npz"
    outcomes = []
    for seed in share("npz", batch, BATCHES):
        path.write_bytes(damaged(npz, seed))
        outcomes.append(refused_by_name(path))
    assert any(outcomes)


@batches
def test_npz_with_damaged_arrays(tmp_path, batch):
    """The zip file is whole, so that its checksums say nothing: what is damaged are headers and numbers."""
    place, energy, force = numbers()
    whole = {}
    for name, array in {"z": np.array([8, 1, 1]), "R": place, "E": energy, "F": force}.items():
        stream = io.BytesIO()
        np.save(stream, array)
        whole[name] = stream.getvalue()
    for seed in share("npz", batch, BATCHES):
        rng = random.Random(seed)
        victim = rng.choice(sorted(whole))
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            for name, content in whole.items():
                begin = content[:128] if rng.random() < 0.7 else content
                changed = damaged(begin, seed) + content[len(begin) :]
                archive.writestr(f"{name}.npy", changed if name == victim else content)
        refused_by_name(tmp_path / "a.npz")


@batches
def test_deepmd(tmp_path, batch):
    place, energy, force = numbers()
    folder = tmp_path / "water"
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("1\n0\n0\n")
    (folder / "type_map.raw").write_text("H\nO\n")
    box, virial = np.tile((5 * np.eye(3)).ravel(), (FRAMES, 1)), np.tile(np.eye(3).ravel(), (FRAMES, 1))
    arrays = {"coord": place, "energy": energy, "force": force, "box": box, "virial": virial}
    for name, array in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", array.reshape(FRAMES, -1))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    outcomes = []
    for seed in share("deepmd", batch, BATCHES):
        path = files[seed % len(files)]
        whole = path.read_bytes()
        begin = whole[:128] if seed % 2 else whole
        path.write_bytes(damaged(begin, seed) + whole[len(begin) :])
        outcomes.append(refused_by_name(folder))
        path.write_bytes(whole)
    assert any(outcomes)
    assert not refused_by_name(folder)


def runner_text():
    place, energy, force = numbers()
    text = ""
    for i in range(FRAMES):
        text += "begin\ncomment made up\nlattice 12.0 0.0 0.0\nlattice 0.0 12.0 0.0\nlattice 0.0 0.0 12.0\n"
        for symbol, where, pull in zip("OHH", place[i], force[i], strict=True):
            text += (
                f"atom {' '.join(map(repr, where.tolist()))} {symbol} 0.0 0.0 {' '.join(map(repr, pull.tolist()))}\n"
            )
        text += f"energy {energy[i]}\ncharge 0.0\nend\n"
    return text


@batches
def test_runner_with_damaged_bytes(tmp_path, batch):
    path = tmp_path / "input.data"
    outcomes = []
    for seed in share("runner bytes", batch, BATCHES):
        path.write_bytes(damaged(runner_text().encode(), seed))
        outcomes.append(refused_by_name(path))
    assert any(outcomes)


@batches
def test_runner_with_damaged_words(tmp_path, batch):
    path = tmp_path / "input.data"
    outcomes = []
    for seed in share("runner words", batch, BATCHES):
        path.write_text(retold(runner_text(), seed), encoding="utf-8", errors="surrogatepass")
        outcomes.append(refused_by_name(path))
    assert any(outcomes)


def packed(kind):
    files = {
        "run/a.data": runner_text().encode(),
        "run/b.xyz": b"2\nenergy=-1.0\nH 0 0 0\nH 0.74 0 0\n",
        "README": b"?",
    }
    files["run/c.xyz.gz"] = gzip.compress(files["run/b.xyz"], mtime=0)
    stream = io.BytesIO()
    if kind == "a.zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
    else:
        with tarfile.open(
            fileobj=stream, mode="w:gz" if kind == "a.tgz" else "w", format=tarfile.PAX_FORMAT
        ) as archive:
            for name, content in files.items():
                header = tarfile.TarInfo(name if name == "README" else f"ä/{name}")
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    return stream.getvalue()


@batches
@pytest.mark.parametrize("kind", ["a.tar", "a.tgz", "a.zip"])
def test_archives(tmp_path, monkeypatch, kind, batch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    whole, path = packed(kind), tmp_path / kind
    outcomes = []
    for seed in share("archives", batch, BATCHES):
        path.write_bytes(damaged(whole, seed))
        outcomes.append(refused_by_name(path))
    assert any(outcomes)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [kind, "tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []
