"""Units that a file states itself."""

import ase.db
import ase.io
import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.data.io.readers import read, read_structures
from nequip_like.data.labels.unit_checks import parse_unit_factor
from nequip_like.errors import DataError


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        ("eV", 1.0),
        ("meV", 1e-3),
        ("Hartree", 27.211386024),
        ("Ha", 27.211386024),
        ("kcal/mol", 0.0433641043),
        ("kcal/mol/Ang", 0.0433641043),
        ("kJ / mol", 0.0103642696),
        ("eV/Å", 1.0),
        ("Hartree/Bohr", 51.4220669),
        ("Ha/a0^3", 183.631535),
        ("eV/Ang**3", 1.0),
        ("eV*A^-3", 1.0),
        ("GPa", 0.00624150913),
        ("kbar", 0.000624150913),
        ("Bohr", 0.529177211),
        ("nm", 10.0),
    ],
)
def test_units_in_many_spellings(text, factor):
    assert parse_unit_factor(text) == pytest.approx(factor, rel=1e-7)


@pytest.mark.parametrize("text", ["Debye", "", "eV/fortnight", "1", "?"])
def test_what_is_no_unit_of_a_label(text):
    assert parse_unit_factor(text) is None


@pytest.fixture
def database(tmp_path):
    """A function that writes water with labels in its data, and metadata."""

    def database(metadata):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
        with ase.db.connect(path) as connection:
            data = {"energy": np.array([-1.0]), "forces": np.full((3, 3), 0.5)}
            connection.write(Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]), data=data)
            connection.metadata = metadata
        return path

    return database


SCHNETPACK = {"_property_unit_dict": {"energy": "kcal/mol", "forces": "kcal/mol/Ang"}, "_distance_unit": "Ang"}
DESCRIPTIONS = {"key_descriptions": {"energy": ["Energy", "Total energy", "kcal/mol"]}}


@pytest.mark.parametrize("metadata", [SCHNETPACK, DESCRIPTIONS])
def test_metadata_are_compared_with_what_is_declared(database, metadata):
    file = database(metadata)
    with pytest.raises(DataError) as error:
        read(file)
    assert error.value.message == (
        f"{file}: its metadata say that 'energy' is in kcal/mol, but it is read in eV, Angstrom, which is 23.0605 "
        "times as much"
    )
    (graph,) = read(file, units={"energy": "kcal/mol"}).frames
    assert graph["total_energy"].item() == pytest.approx(-0.0433641043, rel=1e-8)


def test_a_length_that_metadata_state(database):
    file = database({"_distance_unit": "Bohr"})
    with pytest.raises(DataError, match="its metadata say that 'positions' is in Bohr"):
        read(file)
    assert read(file, units={"length": "Bohr"}).frames[0]["pos"][1, 0].item() == pytest.approx(0.96 * ase.units.Bohr)


def test_metadata_that_agree_or_say_nothing(database):
    for metadata in ({}, {"_property_unit_dict": {"energy": "eV", "dipole": "Debye"}}, {"title": "water"}):
        assert read(database(metadata)).notes == []


def test_a_unit_that_is_not_known_is_refused_unless_it_is_declared(database):
    file = database({"_property_unit_dict": {"energy": "erg"}})
    problem = f"{file}: its metadata say that 'energy' is in 'erg', which is no unit that is known here"
    with pytest.raises(DataError) as error:
        read(file)
    assert (error.value.message, error.value.advice) == (
        problem,
        "declare the right one, such as 'data.units={energy: eV}'; or repair what the file says",
    )
    assert read(file, units={"energy": "eV"}).notes == [f"{problem}; it is read in eV, Angstrom, as declared"]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"_distance_unit": "kbar"}, "'positions' is in kbar, which is no length"),
        ({"_property_unit_dict": {"energy": "Bohr"}}, "'energy' is in Bohr, which is no energy"),
        ({"_property_unit_dict": {"forces": "kcal/mol"}}, "'forces' is in kcal/mol, which is no energy by a length"),
    ],
)
def test_a_unit_of_another_quantity(database, metadata, said):
    file = database(metadata)
    with pytest.raises(DataError) as error:
        read(file)
    assert error.value.message == f"{file}: its metadata say that {said}"


def test_a_unit_of_another_quantity_that_changes_nothing_is_noted(database):
    (note,) = read(database({"_property_unit_dict": {"forces": "eV"}})).notes
    assert note.endswith("'forces' is in eV, which is no energy by a length; it is read in eV, Angstrom")
    reading = read(database({"_property_unit_dict": {"energy": "kcal"}}), units={"energy": "kcal/mol"})
    assert reading.notes == []


ROWS = "O 0 0 0 0 0 1\nH 0.96 0 0 0 0 -1\nH -0.24 0.93 0 0 0 0\n"
XYZ = 'Properties=species:S:1:pos:R:3:forces:R:3 pbc="F F F" energy=-76.25'


def test_units_that_frames_of_extended_xyz_state(write_text):
    file = write_text("w.xyz", f"3\n{XYZ} energy_unit=Hartree force_units=Hartree/Bohr\n{ROWS}")
    with pytest.raises(DataError) as error:
        read(file)
    assert error.value.message == (
        f"{file}: its 'energy_unit' says that 'energy' is in Hartree, but it is read in eV, Angstrom, which is "
        "0.0367493 times as much"
    )
    assert error.value.advice == (
        "declare it: 'data.units={energy: Hartree, forces: Hartree/Bohr}'; or repair what the file says"
    )
    (graph,) = read(file, units={"energy": "Hartree", "forces": "Hartree/Bohr"}).frames
    assert graph["total_energy"].item() == pytest.approx(-76.25 * 27.211386, rel=1e-6)
    assert graph["forces"][0, 2].item() == pytest.approx(51.4220669, rel=1e-7)


@pytest.mark.parametrize("said", ["energy_unit=eV", 'Units="eV/Ang"', 'units="eV, Angstrom"', "units=metal"])
def test_frames_that_state_the_units_of_the_package(write_text, said):
    reading = read(write_text("w.xyz", f"3\n{XYZ} {said}\n{ROWS}"))
    assert reading.notes == []
    assert reading.annotations[0].info == {}


@pytest.mark.parametrize(("said", "declared"), [
    ("units=lj", {"energy": "kcal/mol"}), ("energy_unit=si", {"energy": "eV"}), ("forces_unit=cgs", {"forces": "eV/A"}),
    ("force_unit=N", {"energy": "eV", "length": "Angstrom"}), ("length_unit=furlong", {"length": "Angstrom"}),
    ("forces_unit=eV", {"forces": "eV/nm"}),
])  # fmt: skip
def test_units_that_are_not_understood_are_refused_until_they_are_declared(write_text, said, declared):
    file = write_text("w.xyz", f"3\n{XYZ} {said}\n{ROWS}")
    if said != "forces_unit=eV":  # which changes nothing
        with pytest.raises(DataError, match="which is no unit that is known here"):
            read(file)
    (note,) = read(file, units=declared).notes
    assert "it is read in" in note


def test_structures_in_a_unit_that_is_not_understood(write_text):
    """Of structures to predict no unit can be declared."""
    with pytest.raises(DataError) as error:
        read_structures(write_text("w.xyz", f"3\n{XYZ} length_unit=furlong\n{ROWS}"))
    assert error.value.advice == "convert it to Angstrom, and repair what the file says"


@pytest.mark.parametrize("unit", ["au", "a.u.", "atomic", '"atomic units"', "Hartrees", "E_h", "hartree"])
def test_hartrees_in_many_spellings(write_text, unit):
    file = write_text("w.xyz", f"3\n{XYZ} energy_unit={unit}\n{ROWS}")
    with pytest.raises(DataError) as error:
        read(file)
    assert error.value.advice == "declare it: 'data.units={energy: Hartree}'; or repair what the file says"


@pytest.mark.parametrize(
    ("said", "declaration"),
    [
        ("forces_unit=au", "{forces: Hartree/Bohr}"),
        ("length_unit=a.u.", "{length: Bohr}"),
        ("length_unit=bohrs", "{length: Bohr}"),
        ("energy_unit=rydbergs", "{energy: Ry}"),
        ("energy_unit=J", "{energy: J/mol}"),
        ("energy_unit=kcal", "{energy: kcal/mol}"),
        ('units="energy: au, forces: au"', "{energy: Hartree, forces: Hartree/Bohr}"),
    ],
)
def test_the_advice_is_what_can_be_declared(write_text, said, declaration):
    file = write_text("w.xyz", f"3\n{XYZ} {said}\n{ROWS}")
    with pytest.raises(DataError) as error:
        read(file)
    assert error.value.advice == f"declare it: 'data.units={declaration}'; or repair what the file says"


def test_units_in_names_are_compared_as_stated_ones(write_text):
    """The advice on names that are not read says the units, too, and following it reads them right."""
    header = 'Properties=species:S:1:pos:R:3:forces_au:R:3 pbc="F F F" energy_Hartree=-1.0'
    file = write_text("w.xyz", f"3\n{header}\n{ROWS}")
    assert read(file).notes == [
        f"{file}: not read, though they could be labels: 'energy_Hartree' (as total_energy), 'forces_au' (as forces); "
        "if they are, write 'data.key_mapping={energy_Hartree: total_energy, forces_au: forces}' "
        "'data.units={total_energy: Hartree, forces: Hartree/Bohr}'"
    ]
    mapping = {"energy_Hartree": "total_energy", "forces_au": "forces"}
    with pytest.raises(DataError) as error:
        read(file, key_mapping=mapping)
    assert error.value.message == (
        f"{file}: its name says that 'energy_Hartree' is in Hartree, but it is read in eV, Angstrom, which is "
        "0.0367493 times as much"
    )
    assert error.value.advice == (
        "declare it: 'data.units={energy: Hartree, forces: Hartree/Bohr}'; or repair what the file says"
    )
    reading = read(file, key_mapping=mapping, units={"total_energy": "Hartree", "forces": "Hartree/Bohr"})
    assert reading.notes == []
    assert reading.frames[0]["total_energy"].item() == pytest.approx(-27.211386024, rel=1e-9)
    assert reading.frames[0]["forces"][0, 2].item() == pytest.approx(51.4220669, rel=1e-7)


def test_units_in_trajectories_in_rows_and_in_memory(tmp_path):
    atoms = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], info={"energy_unit": "kcal/mol"})
    atoms.calc = SinglePointCalculator(atoms, energy=-2.0)
    ase.io.write(tmp_path / "a.traj", atoms)
    with ase.db.connect(tmp_path / "a.db") as connection:
        connection.write(atoms, energy_unit="kcal/mol")
    for source in (tmp_path / "a.traj", tmp_path / "a.db", [atoms]):
        with pytest.raises(DataError, match="'energy_unit' says that 'energy' is in kcal/mol"):
            read(source)
        (graph,) = read(source, units={"energy": "kcal/mol"}).frames
        assert graph["total_energy"].item() == pytest.approx(-2 * 0.0433641043, rel=1e-8)


def test_other_metadata_that_name_units(database):
    file = database({"units": {"energy": "Hartree"}})
    with pytest.raises(DataError, match="its metadata say that 'energy' is in Hartree, but"):
        read(file)


def test_pressures_in_gigapascal(tmp_path):
    """The stress of the metadata's unit, positive under compression."""
    with ase.db.connect(tmp_path / "a.db") as connection:
        atoms = Atoms("Cu", cell=[2, 2, 2], pbc=True)
        connection.write(atoms, data={"stress": np.diag([1.0, 2.0, 3.0])})
        connection.metadata = {"_property_unit_dict": {"stress": "GPa"}}
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.db", units={"stress_sign": "compression"})
    assert "'data.units={stress_sign: compression, stress: GPa}'" in error.value.advice
    (graph,) = read(tmp_path / "a.db", units={"stress_sign": "compression", "stress": "GPa"}).frames
    assert graph["stress"][0].diagonal().tolist() == pytest.approx([-i / 160.21766208 for i in (1, 2, 3)], rel=1e-7)


def test_structures_without_labels_are_in_the_unit_that_their_file_states(database):
    with pytest.raises(DataError, match="its metadata say that 'positions' is in Bohr"):
        read_structures(database({"_distance_unit": "Bohr"}))
    assert len(read_structures(database({"_property_unit_dict": {"energy": "Hartree"}}))[0]) == 1
