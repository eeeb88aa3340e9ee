"""Damaged files of structures, read as a training would: file, graphs, neighbours, inspection."""

import io
import json
import os
import pickle
import sqlite3
import zlib

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.report import inspect
from nequip_like.data.io.readers import read
from nequip_like.data.species import species_of
from nequip_like.errors import DataError
from tests.hostile.mutations import BUDGET, damaged, refused, retold, share

BATCHES = 10
SOME = [pytest.param(batch, marks=[pytest.mark.slow] * (batch > 2)) for batch in range(BATCHES)]


def frames():
    rng = np.random.default_rng(0)
    images = []
    for structure in (molecule("CH3OH"), bulk("NaCl", "rocksalt", a=5.6), bulk("Cu", cubic=True)):
        for _ in range(2):
            atoms = structure.copy()
            atoms.rattle(0.05, rng=rng)
            labels = {"energy": -5.0 * len(atoms), "forces": rng.normal(size=(len(atoms), 3))}
            if atoms.pbc.all():
                labels["stress"] = 0.01 * rng.normal(size=6)
            atoms.calc = SinglePointCalculator(atoms, **labels)
            images.append(atoms)
    return images


@pytest.fixture(scope="module")
def text():
    stream = io.StringIO()
    ase.io.write(stream, frames(), format="extxyz")
    return stream.getvalue()


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The frames in a format, as bytes: ``content("a.traj")``."""

    def content(name):
        path = tmp_path_factory.mktemp("whole") / name
        ase.io.write(path, frames())
        return path.read_bytes()

    return content


def use(path):
    reading = read(path)
    dataset = GraphDataset(reading.frames, 3.0, species_of(reading.frames), origins=reading.origins)
    inspect(dataset)


@pytest.mark.parametrize("batch", SOME)
def test_extxyz_with_damaged_bytes(text, tmp_path, batch):
    path = tmp_path / "a.xyz"
    outcomes = []
    for seed in share("extxyz bytes", batch, BATCHES):
        path.write_bytes(damaged(text.encode(), seed))
        outcomes.append(refused(lambda: use(path)))
    assert any(outcomes)


@pytest.mark.parametrize("batch", SOME)
def test_extxyz_with_damaged_words(text, tmp_path, batch):
    path = tmp_path / "a.xyz"
    outcomes = []
    for seed in share("extxyz tokens", batch, BATCHES):
        path.write_text(retold(text, 1000 + seed), encoding="utf-8", errors="surrogatepass")
        outcomes.append(refused(lambda: use(path)))
    assert any(outcomes)
    assert not all(outcomes)


NUMBER = st.one_of(
    st.floats().map(repr), st.integers().map(str), st.sampled_from(["nan", "T", "", "1e400", "-", "1_0", "x"])
)
VALUE = st.one_of(
    NUMBER,
    st.lists(NUMBER, max_size=10).map(lambda numbers: '"' + " ".join(numbers) + '"'),
    st.recursive(NUMBER, lambda inner: st.lists(inner, max_size=3)).map(lambda value: f'"_JSON {json.dumps(value)}"'),
    st.text(max_size=8),
)
KEY = st.sampled_from(
    ["energy", "forces", "stress", "virial", "dft_stress", "Lattice", "pbc", "weight", "free_energy", "energies", "x"]
)
COLUMN = st.tuples(
    st.sampled_from(["species", "pos", "forces", "Z", "weight", "move_mask", "energies", "magmoms", "q"]),
    st.sampled_from("SRIL"),
    st.integers(0, 4),
)
FRAME = st.tuples(
    st.integers(0, 3),
    st.lists(st.tuples(KEY, VALUE), max_size=5),
    st.one_of(
        st.just("species:S:1:pos:R:3"),
        st.lists(COLUMN, max_size=4).map(lambda c: ":".join(f"{a}:{b}:{n}" for a, b, n in c)),
    ),
    st.lists(st.lists(st.one_of(NUMBER, st.sampled_from(["H", "Cu", "X"])), max_size=8), max_size=4),
)


def written(frame):
    atoms, pairs, columns, rows = frame
    comment = " ".join([f"Properties={columns}", *(f"{key}={value}" for key, value in pairs)])
    return f"{atoms}\n{comment}\n" + "".join("H " + " ".join(row) + "\n" for row in rows)


def tried(examples):
    """How often a test is tried."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


def write_and_use(folder, frames):
    path = folder / "a.xyz"
    path.write_text("".join(map(written, frames)), encoding="utf-8", errors="surrogatepass")
    refused(lambda: use(path))


@tried(BUDGET["extxyz grammar"] // 3)
@given(frames=st.lists(FRAME, min_size=1, max_size=2))
def test_extxyz_made_up(tmp_path, frames):
    write_and_use(tmp_path, frames)


@pytest.mark.slow
@tried(BUDGET["extxyz grammar"])
@given(frames=st.lists(FRAME, min_size=1, max_size=2))
def test_extxyz_made_up_many_times(tmp_path, frames):
    write_and_use(tmp_path, frames)


OTHERS = {"a.vasp": "vasp", "a.cif": "cif", "a.xsf": "xsf", "a.gen": "gen", "XDATCAR": "vasp-xdatcar"}


def test_formats_of_other_programs(tmp_path):
    each = BUDGET["formats of other programs"] // len(OTHERS)
    for name, form in OTHERS.items():
        path = tmp_path / name
        ase.io.write(path, frames()[4], format=form)
        whole = path.read_bytes()
        for seed in range(each):
            path.write_bytes(damaged(whole, seed))
            refused(lambda path=path: use(path))


@pytest.mark.parametrize("batch", range(5))
def test_trajectories(content, tmp_path, batch):
    whole, path = content("a.traj"), tmp_path / "a.traj"
    for seed in share("trajectories", batch, 5):
        path.write_bytes(damaged(whole, seed))
        refused(lambda: use(path))


@pytest.mark.parametrize("batch", range(5))
def test_databases(content, tmp_path, batch):
    whole, path = content("a.db"), tmp_path / "a.db"
    for seed in share("databases", batch, 5):
        path.write_bytes(damaged(whole, seed))
        refused(lambda: use(path))


class Runs:
    """A pickle that runs a command when it is opened."""

    def __init__(self, path):
        self.command = f"touch {path}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("name", ["a.traj", "a.xyz", "a.pckl", "a.pkl", "a", "a.bundle", "a.trj", "a.npy", "a.gpw"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickles_are_not_opened(tmp_path, canary, name, protocol):
    (tmp_path / name).write_bytes(pickle.dumps({"positions": Runs(canary)}, protocol))
    with pytest.raises(DataError):
        read(tmp_path / name)


def test_object_arrays_are_not_opened(tmp_path, canary):
    np.save(tmp_path / "a.npy", np.array([Runs(canary)], dtype=object), allow_pickle=True)
    with pytest.raises(DataError):
        read(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.py", "a.json", "a.nc", "a.gif", "a.html", "a.aselmdb", "postgresql.dat"])
def test_formats_that_hold_more_than_data_are_not_read(tmp_path, canary, name):
    (tmp_path / name).write_text(f"import os\nos.system('touch {canary}')\n")
    with pytest.raises(DataError, match=r"is of no format that is read|cannot read"):
        read(tmp_path / name)


def test_names_of_servers_are_files_like_any_other(tmp_path, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("postgresql.xyz", "mysql@localhost.xyz", "mariadb.extxyz"):
        (tmp_path / name).write_text(text)
        assert len(read(name).frames) == 6


def test_a_billion_atoms_take_no_memory(tmp_path):
    import tracemalloc

    (tmp_path / "a.xyz").write_text("999999999\nenergy=1\nH 0 0 0\n")
    tracemalloc.start()
    with pytest.raises(DataError, match="is cut off: it says 999999999 atoms"):
        read(tmp_path / "a.xyz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_code_in_a_database_stays_text(tmp_path, canary):
    ase.io.write(tmp_path / "a.db", [Atoms("H", calculator=None)])
    code = f"__import__('os').system('touch {canary}')"
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute(
            "UPDATE systems SET key_value_pairs = ?, calculator = ?", (json.dumps({"energy": code}), code)
        )
    connection.close()
    assert refused(lambda: use(tmp_path / "a.db"))


def test_compressed_junk(tmp_path):
    for suffix in ("gz", "bz2", "xz"):
        path = tmp_path / f"a.xyz.{suffix}"
        for content in (b"", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00", zlib.compress(b"3\n"), os.urandom(40)):
            path.write_bytes(content)
            assert refused(lambda path=path: use(path))
