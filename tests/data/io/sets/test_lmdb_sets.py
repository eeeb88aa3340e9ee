"""LMDB files of NequIP and of fairchem: read on request, and what they hold."""

import pickle

import numpy as np
import pytest
import torch

from nequip_like.data.io.formats import read_atoms
from nequip_like.data.io.readers import read
from nequip_like.data.sources import file_source
from nequip_like.errors import ConfigError, DataError
from tests.data.io.sets.written_sets import check_same, make_frames, write_entries, write_fairchem, write_nequip

PERIODIC = [atoms for atoms in make_frames(8) if atoms.pbc.all()]
for _atoms in PERIODIC:
    del _atoms.calc.results["stress"]  # OC20 has none


def test_nequip(tmp_path):
    frames = make_frames(12)
    reading = read(write_nequip(tmp_path / "a.lmdb", frames), trust_pickle=True)
    check_same(reading.frames, read(frames).frames)
    assert reading.label_names == {"total_energy": ["total_energy"], "forces": ["forces"], "stress": ["stress"]}
    assert reading.notes == []


@pytest.mark.parametrize("version", [1, 2])
def test_fairchem(tmp_path, version):
    path = write_fairchem(tmp_path / "data.0000.lmdb", PERIODIC, version)
    reading = read(path, trust_pickle=True)
    check_same(reading.frames, read(PERIODIC).frames)
    assert reading.label_names == {"total_energy": ["energy"], "forces": ["force"]}
    (first, *_), _ = read_atoms(path, trust_pickle=True)
    assert first.get_tags().tolist() == [0, 1]
    assert first.info["sid"] == 17
    assert [list(constraint.index) for constraint in first.constraints] == [[0]]


def test_molecules_of_fairchem_have_no_cell(tmp_path):
    """Without a cell nothing is periodic; with a cell and without pbc all is, as in OC20."""
    from tests.data.io.sets.written_sets import geometric

    with geometric() as classes:
        numbers, positions = torch.tensor([1, 1]), torch.eye(3)[:2]
        content = pickle.dumps(classes["Data"](pos=positions, atomic_numbers=numbers, energy=-1.0, y=-7.0))
    write_entries(tmp_path / "a.lmdb", {b"0": content})
    ((atoms,), _) = read_atoms(tmp_path / "a.lmdb", trust_pickle=True)
    assert not atoms.pbc.any()
    assert atoms.info == {"energy": -1.0, "y": -7.0}


def test_pickles_are_not_read_unasked(tmp_path):
    path = write_nequip(tmp_path / "a.lmdb", make_frames())
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.message == f"{path} holds pickles, a format that can run code where it is read"
    assert f"'data.train={{file: {path}, trust_pickle: true}}'" in error.value.advice


def test_config_says_that_a_file_is_trusted(tmp_path):
    path = write_nequip(tmp_path / "a.lmdb", make_frames())
    source = file_source({"file": str(path), "trust_pickle": True, "index": ":3"}, "train", None, None)
    assert len(source.read()) == 3
    assert "trust_pickle=True" in repr(source)
    with pytest.raises(ConfigError, match=r"train.trust_pickle is 'yes'"):
        file_source({"file": str(path), "trust_pickle": "yes"}, "train", None, None)
    with pytest.raises(DataError, match="holds pickles"):
        file_source({"file": str(path), "trust_pickle": False}, "train", None, None).read()


FRAME = {
    "pos": torch.zeros(2, 3),
    "atomic_numbers": torch.tensor([8, 1]),
    "cell": torch.eye(3)[None],
    "pbc": torch.zeros(1, 3, dtype=torch.bool),
    "total_energy": torch.tensor([[-1.0]]),
}


def without(*names):
    return {name: value for name, value in FRAME.items() if name not in names}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({b"0": FRAME, b"__metadata__": {"num_frames": 2}}, "says 2 entries, but has 1"),
        ({b"0": FRAME, b"length": 2}, "says 2 entries, but has 1"),
        ({b"0": FRAME, b"__metadata__": [1]}, "says None entries, but has 1"),
        ({b"0": FRAME, b"2": FRAME}, "has 2 entries, but they are not 0 to 1"),
        ({b"0": [FRAME]}, "entry 0 is a list, and no structure"),
        ({b"0": without("pos")}, "entry 0: its positions are missing"),
        ({b"0": {**without("atomic_numbers"), "atom_types": torch.zeros(2)}}, "has types of atoms, but no atomic_num"),
        ({b"0": {**FRAME, "atomic_numbers": torch.tensor([8.5, 1])}}, "its atomic numbers are not whole numbers"),
        ({b"0": {**FRAME, "atomic_numbers": torch.tensor([8, 1, 1])}}, "its positions are of shape (2, 3), and not"),
        ({b"0": {**FRAME, "cell": torch.zeros(2, 3, 3)}}, "its cell are of shape (2, 3, 3), and not (3, 3)"),
        ({b"0": {**FRAME, "pos": "text"}}, "its positions are of shape ()"),
        ({}, "holds no frames"),
    ],
    ids=range(12),
)
def test_errors(tmp_path, entries, message):
    write_entries(tmp_path / "a.lmdb", {key: pickle.dumps(value, -1) for key, value in entries.items()})
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.lmdb", trust_pickle=True)
    assert message in error.value.message
    assert "a.lmdb" in error.value.message


def test_forces_of_another_length_are_refused(tmp_path):
    frame = {**FRAME, "forces": torch.zeros(3, 3)}
    write_entries(tmp_path / "a.lmdb", {b"0": pickle.dumps(frame)})
    with pytest.raises(DataError, match=r"'forces' has shape \(3, 3\)"):
        read(tmp_path / "a.lmdb", trust_pickle=True)


def test_atom_alone_keeps_its_axis(tmp_path):
    frame = {
        "pos": torch.zeros(1, 3),
        "atomic_numbers": torch.tensor([[8]]),
        "forces": torch.ones(1, 3),
        "total_energy": torch.tensor([[-2.0]]),
    }
    write_entries(tmp_path / "a.lmdb", {b"0": pickle.dumps(frame, -1)})
    (graph,) = read(tmp_path / "a.lmdb", trust_pickle=True).frames
    assert graph["forces"].tolist() == [[1.0, 1.0, 1.0]]
    assert graph["total_energy"].item() == -2.0
    assert np.isclose(graph["cell"].abs().sum(), 0.0)
