"""Databases whose arrays declare more than they hold."""

import json
import sqlite3

import ase.io
import pytest
from ase import Atoms

from nequip_like.data.databases import check_arrays
from nequip_like.data.readers import read
from nequip_like.errors import DataError


@pytest.mark.parametrize("column", ["constraints", "key_value_pairs"])
@pytest.mark.parametrize(
    ("shape", "refused"), [([10**10], True), ([10**6, 10**6], True), ([2000], True), ([1], False), ([], False)]
)
def test_arrays_that_would_fill_the_memory(tmp_path, column, shape, refused):
    file = tmp_path / "a.db"
    ase.io.write(file, [Atoms("H"), Atoms("O")])
    connection = sqlite3.connect(file)
    value = json.dumps({"x": {"__ndarray__": [shape, "float64", [0]]}})
    connection.execute(f"UPDATE systems SET {column} = ? WHERE id = 2", (value,))
    connection.commit()
    connection.close()
    if refused:
        with pytest.raises(DataError, match=r"a\.db row 1: an array is declared as \["):
            read(file)
    else:
        check_arrays(file)


def test_a_good_database(tmp_path):
    ase.io.write(tmp_path / "a b#1.db", [Atoms("H"), Atoms("O")])
    assert len(read(tmp_path / "a b#1.db").frames) == 2
