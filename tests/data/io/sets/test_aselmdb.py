"""ASE's databases in LMDB: all that a row holds, all rows, and what is said of those that are missing."""

import numpy as np
import pytest
from ase.constraints import FixAtoms

from nequip_like.data.io.formats import read_atoms
from nequip_like.data.io.readers import read
from nequip_like.errors import DataError
from tests.data.io.sets.written_sets import (
    check_same,
    describe_row,
    make_frames,
    pack,
    write_aselmdb,
    write_entries,
)


def test_rows_are_what_ase_makes_of_them(tmp_path):
    frames = make_frames()
    frames[1].info["spin"] = 2
    frames[3].set_constraint(FixAtoms([1]))
    reading = read(write_aselmdb(tmp_path / "a.aselmdb", frames))
    check_same(reading.frames, read(frames).frames)
    assert reading.label_names == {"total_energy": ["energy"], "forces": ["forces"], "stress": ["stress"]}
    assert reading.origins[2] == f"{tmp_path}/a.aselmdb frame 2"
    structures, notes = read_atoms(tmp_path / "a.aselmdb")
    assert notes == []
    assert structures[1].info["data"] == {"spin": 2}
    assert [list(constraint.index) for constraint in structures[3].constraints] == [[1]]


def test_rows_are_in_the_order_of_their_numbers(tmp_path):
    """In the file, row 10 stands before row 2."""
    frames = make_frames(12)
    energies = [atoms.get_potential_energy() for atoms in read_atoms(write_aselmdb(tmp_path / "a.aselmdb", frames))[0]]
    assert energies == [atoms.get_potential_energy() for atoms in frames]


def test_deleted_rows_are_not_missing(tmp_path):
    frames = make_frames()
    path = write_aselmdb(tmp_path / "a.aselmdb", frames, deleted=[2, 4])
    assert [atoms.get_potential_energy() for atoms in read_atoms(path)[0]] == [
        frames[i].get_potential_energy() for i in (0, 2)
    ]


def test_metadata_state_units(tmp_path):
    metadata = {"key_descriptions": {"energy": ["E", "energy", "Hartree"]}}
    path = write_aselmdb(tmp_path / "a.aselmdb", make_frames(), metadata=metadata)
    with pytest.raises(DataError, match="its metadata say that") as error:
        read(path)
    assert "Hartree" in error.value.message
    assert len(read(path, units={"energy": "Hartree", "forces": "eV/Angstrom", "stress": "eV/Angstrom^3"})) == 4


ROW = pack(describe_row(make_frames(1)[0]))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({b"1": ROW}, "says 0 rows, but has 1"),
        ({b"1": ROW, b"nextid": pack(3)}, "says 2 rows, but has 1"),
        ({b"1": ROW, b"nextid": pack(2), b"deleted_ids": pack([1])}, "says 0 rows, but has 1"),
        ({b"0": ROW, b"nextid": pack(2)}, "has a row 0, but says 1 to 1"),
        ({b"2": ROW, b"nextid": pack(2)}, "has a row 2, but says 1 to 1"),
        ({b"1": ROW, b"nextid": pack("two")}, "its 'nextid' or 'deleted_ids' is no number"),
        ({b"1": ROW[:-9], b"nextid": pack(2)}, "entry 1 is cut off, or too long"),
        ({b"1": b"\x80\x05N.", b"nextid": pack(2)}, "frame 0: error: Error -3 while decompressing"),
        ({b"1": pack({"positions": [[0, 0, 0]]}), b"nextid": pack(2)}, "row 1 is no structure"),
        ({b"1": pack([1, 2]), b"nextid": pack(2)}, "row 1 is no structure"),
        (
            {b"1": pack({"numbers": {"__ndarray__": [[10**12], "float64", [0.0]]}}), b"nextid": pack(2)},
            "an array is declared as [1000000000000], but its text is shorter",
        ),
        ({b"nextid": pack(1)}, "a.aselmdb holds no frames"),
    ],
    ids=range(12),
)
def test_errors(tmp_path, entries, message):
    write_entries(tmp_path / "a.aselmdb", entries)
    with pytest.raises(DataError) as error:
        read_atoms(tmp_path / "a.aselmdb")
    assert message in error.value.message
    assert "a.aselmdb" in error.value.message


def test_a_row_that_would_fill_the_memory(tmp_path):
    """A megabyte of zeros packs to a thousand bytes; what unpacks beyond any row is left packed."""
    import zlib

    packer = zlib.compressobj()
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    write_entries(tmp_path / "a.aselmdb", {b"1": bomb, b"nextid": pack(2)})
    with pytest.raises(DataError, match="entry 1 is cut off, or too long"):
        read_atoms(tmp_path / "a.aselmdb")


def test_single_atom_and_float32(tmp_path):
    row = {
        "numbers": np.array([8]),
        "positions": np.array([[0.1, 0.2, 0.3]], dtype=np.float32),
        "forces": [[0.0, 0.0, 1.0]],
        "energy": -1.25,
    }
    write_entries(tmp_path / "a.aselmdb", {b"1": pack(row), b"nextid": pack(2)})
    (graph,) = read(tmp_path / "a.aselmdb").frames
    assert graph["pos"].tolist() == np.array([[0.1, 0.2, 0.3]], dtype=np.float32).astype(float).tolist()
    assert (graph["total_energy"].item(), graph["forces"].tolist()) == (-1.25, [[0.0, 0.0, 1.0]])
