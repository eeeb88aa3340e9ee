"""Columns whose type is not what their name promises."""

import pytest

from nequip_like.data.io.extxyz_columns import count_columns
from nequip_like.data.io.readers import read
from nequip_like.errors import DataError

SPECIES = "write species:S:1 for symbols, Z:I:1 for atomic numbers"


@pytest.mark.parametrize(
    ("properties", "columns"),
    [
        ("species:S:1:pos:R:3", 4),
        ("Z:I:1:pos:R:3:forces:R:3", 7),
        ("Z:S:1:pos:I:3", 4),
        ("species:S:1:Z:I:1:pos:R:3:magmoms:R:1:note:S:2", 8),
        ("species:S:1:pos:R:3:tags:R:1:move_mask:L:3", 8),
    ],
)
def test_good_columns(properties, columns):
    assert count_columns(properties, "here") == columns


@pytest.mark.parametrize(
    ("properties", "message", "advice"),
    [
        ("species:I:1:pos:R:3", "Properties says species:I:1, which 'species' cannot be", SPECIES),
        ("species:S:2:pos:R:3", "Properties says species:S:2, which 'species' cannot be", SPECIES),
        ("Z:R:1:pos:R:3", "Properties says Z:R:1, which 'Z' cannot be", SPECIES),
        ("species:S:1:pos:L:3", "Properties says pos:L:3, which 'pos' cannot be", "write pos:R:3"),
        ("species:S:1:pos:R:2", "Properties says pos:R:2, which 'pos' cannot be", "write pos:R:3"),
        (
            "species:S:1:pos:R:3:forces:L:3",
            "Properties says forces:L:3, which 'forces' cannot be",
            "write forces:R:3",
        ),
        ("species:S:1:pos:R:3:charge:S:1", "Properties says charge:S:1, which 'charge' cannot be", "write charge:R:1"),
        (
            "species:S:1:pos:R:3:move_mask:L:2",
            "Properties says move_mask:L:2, which 'move_mask' cannot be",
            "write move_mask:L:1",
        ),
        (
            "species:S:1:pos:D:3",
            "Properties gives the column 'pos' the type 'D'",
            "write one of S (text), R (real numbers), I (integers), L (T or F)",
        ),
        (
            "species:S:1:forces:R:3",
            "Properties=species:S:1:forces:R:3 does not name the column 'pos'",
            "write species:S:1:pos:R:3 and what else there is",
        ),
        (
            "pos:R:3",
            "Properties=pos:R:3 does not name the column 'species'",
            "write species:S:1:pos:R:3 and what else there is",
        ),
    ],
)
def test_columns_that_cannot_be(properties, message, advice):
    with pytest.raises(DataError) as error:
        count_columns(properties, "a.xyz frame 0")
    assert error.value.message == f"a.xyz frame 0: {message}"
    assert error.value.advice == advice


def test_numbers_that_are_declared_as_text_are_read(write_text):
    text = "2\nProperties=Z:S:1:pos:S:3:forces:S:3 energy=-1\nO 0 0 0 1 2 3\nH 1 0 0 4 5 6\n"
    (graph,) = read(write_text("a.xyz", text)).frames
    assert graph["atomic_numbers"].tolist() == [8, 1]
    assert graph["pos"].tolist() == [[0, 0, 0], [1, 0, 0]]
    assert graph["forces"].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("columns", "row", "said"),
    [
        ("species:S:1:Z:I:1:pos:R:3", "H 7 1 0 0", "'species' of atom 1 is H, but 'Z' is 7"),
        ("Z:I:1:symbols:S:1:pos:R:3", "1 He 1 0 0", "'symbols' of atom 1 is He, but 'Z' is 1"),
        ("species:S:1:pos:R:3:positions:R:3", "H 1 0 0 1 0 2", "'pos' of atom 1 is 1 0 0, but 'positions' is 1 0 2"),
    ],
)
def test_doubles_that_differ(write_text, columns, row, said):
    good = {"species:S:1:Z:I:1:pos:R:3": "O 8 0 0 0", "Z:I:1:symbols:S:1:pos:R:3": "8 O 0 0 0"}
    file = write_text("a.xyz", f"2\nProperties={columns} energy=-1\n{good.get(columns, 'O 0 0 0 0 0 0')}\n{row}\n")
    with pytest.raises(DataError) as error:
        read(file)
    assert error.value.message == f"{file} frame 0: {said}"


def test_doubles_that_agree(write_text):
    text = "1\nProperties=Z:I:1:species:S:1:q:R:1:pos:R:3:positions:R:3\n8 o 0.5 0.1 0 0 0.10004 0.0 -0.0\n"
    (graph,) = read(write_text("a.xyz", text)).frames
    assert graph["atomic_numbers"].tolist() == [8]
    assert graph["pos"].tolist() == [[0.10004, 0, 0]]
