"""Parts that share no structure, together all frames, and the same again with the same seed."""

import io

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from nequip_like.data.io.readers import read
from nequip_like.data.splits import split_whole
from nequip_like.errors import ConfigError, DataError, OutputError
from nequip_like.workflow.labelled_sets.split import split_files


@pytest.fixture
def source(tmp_path):
    """40 molecules, of which the last five repeat the first, and two isolated atoms."""
    frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.001 * i]]) for i in [*range(35), *range(5)]]
    for atoms in (frames := [*frames, Atoms("H"), Atoms("H")]):
        atoms.calc = SinglePointCalculator(atoms, energy=-15.0 * len(atoms))
    ase.io.write(tmp_path / "all.xyz", frames, format="extxyz")
    return tmp_path / "all.xyz"


def split(source, folder, sizes, **options):
    console = Console(file=io.StringIO(), width=200)
    files = split_files([source], folder, sizes, console=console, **options)
    return {part: read(file) for part, file in files.items()}, console.file.getvalue()


def test_parts(source, tmp_path):
    sizes = {"train": 0.8, "val": 0.1, "test": 0.1}
    parts, printed = split(source, tmp_path / "parts", sizes)
    assert {part: len(reading) for part, reading in parts.items()} == {"train": 34, "val": 4, "test": 4}
    keys = [set(map(tuple, reading.keys.tolist())) for reading in parts.values()]
    assert len(set.union(*keys)) == sum(map(len, keys)) == 36
    assert sum(len(frame["pos"]) == 1 for frame in parts["train"].frames) == 2
    assert "train.xyz, 34 frames, total_energy" in printed
    again, _ = split(source, tmp_path / "again", sizes)
    other, _ = split(source, tmp_path / "other", sizes, seed=1)
    assert again["test"].keys.tolist() == parts["test"].keys.tolist() != other["test"].keys.tolist()


def test_sizes(source, tmp_path):
    parts, printed = split(source, tmp_path / "a", {"train": 20, "test": 5})
    assert {part: len(reading) for part, reading in parts.items()} == {"train": 20, "test": 5}
    assert "in no part: 17 frames" in printed
    parts, printed = split(source, tmp_path / "b", {"val": 0.5})
    assert {part: len(reading) for part, reading in parts.items()} == {"train": 21, "val": 21}
    assert "in no part" not in printed


def test_repeats_go_to_one_part():
    keys = np.array([[0, 0], [0, 0], [0, 0], [0, 1], [1, 0]])
    parts = split_whole(keys, {"train": 2, "test": 3}, seed=0)
    assert parts == {"train": [3, 4], "test": [0, 1, 2]}
    assert split_whole(keys[:4], {"train": 2, "test": 2}, seed=0) == {"train": [3], "test": []}


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ({"train": 0.8, "val": 0.3}, ConfigError, "the fractions make up 1.1"),
        ({"val": 1.5}, ConfigError, "val: 1.5 is no fraction"),
        ({"val": 42}, DataError, "there are 42 frames, too few for val 42"),
        ({"train": 40, "test": 10}, DataError, "too few for train 40, test 10"),
    ],
    ids=["more than all", "no fraction", "nothing left", "too many"],
)
def test_sizes_that_cannot_be(source, tmp_path, sizes, error, message):
    with pytest.raises(error, match=message):
        split(source, tmp_path / "parts", sizes)
    assert not (tmp_path / "parts").exists()


def test_nothing_is_overwritten(source, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "test.xyz").write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        split(source, tmp_path / "parts", {"test": 0.1})
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["test.xyz"]
