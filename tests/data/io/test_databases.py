"""Databases whose arrays declare more than they hold."""

import json
import sqlite3

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.data.io.databases import check_arrays
from nequip_like.data.io.readers import read
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


WATER = [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]
FORCES = np.arange(9.0).reshape(3, 3)


def test_labels_in_data(tmp_path):
    with ase.db.connect(tmp_path / "w.db") as database:
        database.write(Atoms("OH2", WATER), data={"energy": np.array([-1.0]), "forces": FORCES})
    reading = read(tmp_path / "w.db")
    assert reading.label_names == {"total_energy": ["energy"], "forces": ["forces"]}
    assert reading.frames[0]["total_energy"].tolist() == [[-1.0]]
    assert reading.frames[0]["forces"].tolist() == FORCES.tolist()


def test_labels_in_key_value_pairs_and_under_other_names(tmp_path):
    with ase.db.connect(tmp_path / "w.db") as database:
        database.write(Atoms("OH2", WATER), dft_energy=-2.0, data={"dft_forces": FORCES, "F_corrected": 2 * FORCES})
    (graph,) = read(tmp_path / "w.db").frames
    assert graph["total_energy"].item() == -2.0
    assert graph["forces"].tolist() == FORCES.tolist()
    (graph,) = read(tmp_path / "w.db", key_mapping={"F_corrected": "forces"}).frames
    assert graph["forces"].tolist() == (2 * FORCES).tolist()


def test_a_matrix_of_three_atoms_is_what_its_name_says(tmp_path):
    stress = np.eye(3) * 0.25
    with ase.db.connect(tmp_path / "w.db") as database:
        data = {"stress": stress, "forces": FORCES, "atomic_energies": np.array([-1.0, -2.0, -3.0])}
        database.write(Atoms("OH2", WATER, cell=[5, 5, 5], pbc=True), data=data)
    (graph,) = read(tmp_path / "w.db").frames
    assert graph["stress"][0].tolist() == stress.tolist()
    assert graph["forces"].tolist() == FORCES.tolist()
    assert graph["atomic_energy"].tolist() == [[-1.0], [-2.0], [-3.0]]


def test_a_likely_name_of_three_atoms_is_noted_as_one_of_atoms(tmp_path):
    with ase.db.connect(tmp_path / "w.db") as database:
        database.write(Atoms("OH2", WATER), data={"pbe_forces": FORCES})
    (note,) = read(tmp_path / "w.db").notes
    assert note.endswith(
        "'pbe_forces' is not read; if it is the label 'forces', write 'data.key_mapping={pbe_forces: forces}'"
    )


def test_a_likely_name_with_a_dimension_more(tmp_path):
    (note,) = read(row(tmp_path / "w.db", {"energy": -1.0, "pbe_forces": FORCES[None]})).notes
    assert note.endswith("write 'data.key_mapping={pbe_forces: forces}'")
    mapping = {"pbe_forces": "forces"}
    assert read(tmp_path / "w.db", key_mapping=mapping).frames[0]["forces"].tolist() == FORCES.tolist()


def test_labels_in_a_mapping_within_data(tmp_path):
    file = row(tmp_path / "w.db", {"labels": {"energy": -1.0, "pbe": {"forces": FORCES}}, "units": {"energy": "eV"}})
    reading = read(file)
    assert reading.notes == [
        f"{file}: not read, though they could be labels: 'labels.energy' (as total_energy), 'labels.pbe.forces' (as "
        "forces); if they are, write 'data.key_mapping={labels.energy: total_energy, labels.pbe.forces: forces}'"
    ]
    assert set(reading.annotations[0].info) == {"unique_id", "labels"}
    mapping = {"labels.energy": "total_energy", "labels.pbe.forces": "forces"}
    (graph,) = read(file, key_mapping=mapping).frames
    assert graph["total_energy"].item() == -1.0
    assert graph["forces"].tolist() == FORCES.tolist()


def test_results_of_calculators(tmp_path):
    ase.io.write(tmp_path / "a.db", [Atoms("H", calculator=SinglePointCalculator(Atoms("H"), energy=-3.5))])
    assert read(tmp_path / "a.db").frames[0]["total_energy"].item() == -3.5


def test_two_joined_databases(tmp_path):
    ase.io.write(tmp_path / "a.db", [Atoms("H")])
    ase.io.write(tmp_path / "b.db", [Atoms("O")])
    (tmp_path / "ab.db").write_bytes((tmp_path / "a.db").read_bytes() + (tmp_path / "b.db").read_bytes())
    with pytest.raises(DataError, match="holds two databases, of which only the first can be read"):
        read(tmp_path / "ab.db")


def test_database_without_rows(tmp_path):
    with ase.db.connect(tmp_path / "a.db") as database:
        del database[database.write(Atoms("H"))]
    with pytest.raises(DataError, match=r"a\.db holds no frames"):
        read(tmp_path / "a.db")


def row(path, data, results=None, **pairs):
    """A database of one row: water."""
    atoms = Atoms("OH2", WATER, cell=[5, 5, 5], pbc=True)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    with ase.db.connect(path) as database:
        database.write(atoms, data=data, **pairs)
    return path


STRESS = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]) * 1e-3


@pytest.mark.parametrize(
    ("results", "pairs", "data", "said"),
    [
        (
            {"energy": -2.0},
            {},
            {"energy": -1.0},
            "'energy' stands there twice: it is -2.0 in 'calculator', and -1.0 in 'data'",
        ),
        (
            {},
            {"dft_energy": -2.0},
            {"dft_energy": np.array([-1.0])},
            "'dft_energy' stands there twice: it is -2.0 in 'key_value_pairs', and [-1.0] in 'data'",
        ),
        ({"forces": FORCES}, {}, {"forces": FORCES + 1.0}, "'forces' stands there twice: it is [[0.0, 1.0, 2.0]"),
        ({"stress": STRESS.ravel()[[0, 4, 8, 5, 2, 1]]}, {}, {"stress": 2 * STRESS}, "'stress' stands there twice"),
    ],
)
def test_one_label_in_two_places(tmp_path, results, pairs, data, said):
    file = row(tmp_path / "w.db", data, results, **pairs)
    with pytest.raises(DataError) as error:
        read(file)
    assert error.value.message.startswith(f"{file} frame 0: {said}")


def test_one_label_of_a_structure_in_memory_and_of_its_calculator(tmp_path):
    atoms = Atoms("OH2", WATER, info={"energy": -2.0})
    atoms.calc = SinglePointCalculator(atoms, energy=-2.0, forces=FORCES)
    ase.io.write(tmp_path / "a.traj", atoms)
    assert read([atoms]).frames[0]["total_energy"].item() == -2.0
    atoms.info["energy"] = -1.0
    with pytest.raises(DataError, match=r"'energy' stands there twice: it is -2\.0 in 'calculator', and -1\.0"):
        read([atoms])
    atoms.info.clear()
    atoms.arrays["forces"] = -FORCES
    with pytest.raises(DataError, match=r"Atoms 0: 'forces' stands there twice: it is .* in 'calculator', and"):
        read([atoms])


def test_one_value_in_two_places(tmp_path):
    results = {"energy": -2.0, "forces": FORCES, "stress": STRESS.ravel()[[0, 4, 8, 5, 2, 1]]}
    data = {"energy": np.array([-2.0]), "forces": FORCES.tolist(), "stress": STRESS, "note": "b", "dft_energy": -3.0}
    file = row(tmp_path / "w.db", data, results, note="a", dft_energy=-4.0)
    (graph,) = read(file, key_mapping={"energy": "total_energy"}).frames  # what is not read may differ
    assert graph["total_energy"].item() == -2.0
    assert graph["forces"].tolist() == FORCES.tolist()
    np.testing.assert_array_equal(graph["stress"][0], STRESS)


@pytest.mark.parametrize("name", ["forces", "dft_forces"])
@pytest.mark.parametrize("value", [FORCES.tolist(), FORCES[None], FORCES[None].tolist()])
def test_forces_in_lists_and_with_a_dimension_more(tmp_path, name, value):
    reading = read(row(tmp_path / "w.db", {"energy": -1.0, name: value}))
    assert reading.notes == []
    assert reading.frames[0]["forces"].tolist() == FORCES.tolist()


@pytest.mark.parametrize(
    ("value", "shape"), [(FORCES.ravel(), "(9,)"), (FORCES.ravel().tolist(), "(9,)"), (FORCES[:2], "(2, 3)")]
)
def test_forces_of_another_shape_are_refused(tmp_path, value, shape):
    file = row(tmp_path / "w.db", {"energy": -1.0, "forces": value})
    with pytest.raises(DataError) as error:
        read(file)
    assert (
        error.value.message
        == f"{file} frame 0: 'forces' has shape {shape}, but 'forces' of this frame needs shape (3, 3)"
    )
