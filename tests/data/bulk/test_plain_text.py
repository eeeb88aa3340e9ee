"""Plain extended XYZ text read at once is what ASE's reader makes of it, and what is not plain is left to that."""

import io

import ase.io
import numpy as np
import pytest

from nequip_like.data.bulk.plain_text import read_plain_text

WATER = """3
Properties=species:S:1:pos:R:3:forces:R:3 energy=-14.2 config_type=gas pbc="F F F"
O 0.0 0.0 0.1 0.0 0.0 0.1
H 0.0 0.76 -0.5 0.0 0.0 0.2
H 0.0 -0.76 -0.5 1e-3 0.0 0.3
"""
CELL = """2
Lattice="3.0 0.1 0.2 0.0 4.0 0.3 0.0 0.0 5.0" Properties=species:S:1:pos:R:3 step=7 name="two words" pbc="T T F"
C 0.5 0.5 0.5
O 1.5 0.5 0.5
"""
UNSTATED = CELL.replace(' pbc="T T F"', "")


@pytest.mark.parametrize("text", [WATER, CELL, UNSTATED, WATER + CELL + WATER, WATER.rstrip("\n")])
def test_equals_ase(text):
    structures = read_plain_text(text, "file.xyz", 5, remarks=True)
    frames = ase.io.read(io.StringIO(text), ":", format="extxyz")
    assert structures.counts.tolist() == [len(atoms) for atoms in frames]
    assert structures.numbers.tolist() == [number for atoms in frames for number in atoms.numbers]
    np.testing.assert_array_equal(structures.positions, np.concatenate([atoms.positions for atoms in frames]))
    np.testing.assert_array_equal(structures.cells, [atoms.cell.array for atoms in frames])
    np.testing.assert_array_equal(structures.pbc, [atoms.pbc for atoms in frames])
    assert structures.origin(0) == "file.xyz frame 5"


def test_remarks_without_labels():
    structures = read_plain_text(WATER + CELL, "file.xyz", 0, remarks=True)
    assert [dict(one.text) for one in structures.remarks] == [
        {"config_type": "gas"},
        {"step": "7", "name": '"two words"'},
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("pbc=", "PBC="),  # another spelling
        ('pbc="F F F"', 'pbc="F F maybe"'),
        ('pbc="F F F"', 'pbc="T T T"'),  # periodic, and no cell
        ("energy=-14.2", "energy=-14.2 energy=-14.3"),  # twice
        ("energy=-14.2", "length_unit=Bohr"),
        ("energy=-14.2", "name=5'-GMP"),
        ("energy=-14.2", "cell=[1,2,3]"),
        ("pos:R:3", "positions:R:3"),
        ("forces:R:3", "forces:R:3:Z:I:1"),
        ("O 0.0", "8 0.0"),
        ("O 0.0", "X 0.0"),
        ("O 0.0", "O nan"),
        ("O 0.0", "O 1e7"),  # beyond any simulation
        ("O 0.0", "O oops"),
        ("0.1\n", "\n"),  # a column less
        ("0.1\n", "0.1 7\n"),
        ("3\n", "4\n"),  # cut off
        ("3\n", "2\n"),
        ("3\n", "\n3\n"),
    ],
)
def test_left_to_the_usual_reader(before, after):
    assert before in WATER
    assert read_plain_text(WATER.replace(before, after, 1), "file.xyz", 0, remarks=False) is None


def test_row_that_borrows_from_the_next():
    """The number of words is right; the words are not."""
    text = WATER.replace("0.0 0.0 0.1\nH 0.0", "0.0 0.0\n0.1 H 0.0")
    structures = read_plain_text(text, "file.xyz", 0, remarks=False)
    assert structures is None or structures.numbers.tolist() == [8, 1, 1]


def test_further_columns_are_remarks():
    text = WATER.replace("forces:R:3", "tags:R:3")
    assert read_plain_text(text, "file.xyz", 0, remarks=True) is None
    assert read_plain_text(text, "file.xyz", 0, remarks=False) is not None


def test_flat_cell_is_left_to_the_usual_reader():
    assert read_plain_text(CELL.replace("4.0", "0.2"), "file.xyz", 0, remarks=False) is None
