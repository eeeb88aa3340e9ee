import pytest

from nequip_like.data.labels.unit_checks import Stated, check_by_halves, compare
from nequip_like.data.labels.units import Units
from nequip_like.errors import DataError


def by_halves(declared, labels, stated=()):
    check_by_halves(Units.declared(declared), declared, labels, stated, "a.xyz")


@pytest.mark.parametrize(
    ("declared", "labels", "message", "advice"),
    [
        (
            {"energy": "hartree"},
            ["total_energy", "forces"],
            "a.xyz: energies are in Hartree, but the unit of 'forces' is declared nowhere; it would be read in "
            "Hartree/Angstrom",
            "declare it: 'data.units={energy: Hartree, forces: Hartree/Bohr}', or Hartree/Angstrom if it is that",
        ),
        (  # the energies' own unit says nothing of forces, which would be in eV/Angstrom
            {"total_energy": "Ry", "stress_sign": "compression"},
            ["total_energy", "forces", "stress"],
            "a.xyz: energies are in Ry, but the unit of 'forces' is declared nowhere; it would be read in eV/Angstrom",
            "declare it: 'data.units={stress_sign: compression, total_energy: Ry, forces: Ry/Bohr}', or Ry/Angstrom if "
            "it is that",
        ),
        (
            {"energy": "Ha", "forces": "Ha/Bohr"},
            ["total_energy", "forces", "stress"],
            "a.xyz: energies are in Hartree, but the unit of 'stress' is declared nowhere; it would be read in "
            "Hartree/Angstrom3",
            "declare it: 'data.units={energy: Hartree, forces: Hartree/Bohr, stress: Hartree/Bohr3}', or "
            "Hartree/Angstrom3 if it is that",
        ),
    ],
)
def test_energies_in_atomic_units_without_a_unit_of_the_rest(declared, labels, message, advice):
    with pytest.raises(DataError) as error:
        by_halves(declared, labels)
    assert (error.value.message, error.value.advice) == (message, advice)


@pytest.mark.parametrize(
    ("declared", "labels", "stated"),
    [
        ({"energy": "Ha"}, ["total_energy"], ()),
        ({"energy": "Ha"}, ["total_energy", "virial"], ()),
        ({"energy": "Ha", "length": "Angstrom"}, ["total_energy", "forces"], ()),
        ({"energy": "Ry", "length": "Bohr"}, ["total_energy", "forces", "stress"], ()),
        ({"energy": "Ry", "forces": "Ry/Angstrom"}, ["total_energy", "forces"], ()),
        ({"energy": "Ha"}, ["total_energy", "forces"], ("forces",)),
        ({"energy": "kcal/mol"}, ["total_energy", "forces"], ()),
        (None, ["total_energy", "forces"], ()),
    ],
)
def test_what_is_declared_in_whole(declared, labels, stated):
    by_halves(declared, labels, stated)


def refused(units, *stated):
    with pytest.raises(DataError) as error:
        compare([Stated(label, name, unit, "it says that") for label, name, unit in stated], units, "a.xyz")
    return error.value


def test_the_advice_declares_all_that_is_stated_and_was_declared():
    stated = (("total_energy", "energy", "Ha"), ("forces", "forces", "eV/Å"), ("stress", "stress", "eV A^-3"))
    assert refused(Units(stress_sign="compression"), *stated).advice == (
        "declare it: 'data.units={stress_sign: compression, energy: Hartree}'; or repair what the file says"
    )
    error = refused(Units(), ("forces", "forces", "kcal/(mol A)"), ("stress", "stress", "Hartree/Bohr^3"))
    assert error.message == (
        "a.xyz: it says that 'forces' is in kcal/(mol A), but it is read in eV, Angstrom, which is 23.0605 times "
        "as much"
    )
    assert error.advice == (
        "declare it: 'data.units={forces: \"kcal/(mol Angstrom)\", stress: Hartree/Bohr3}'; or repair what "
        "the file says"
    )
    assert refused(Units(energy="Hartree"), ("total_energy", "energy", "eV")).advice == (
        "leave out the units of this data set; without units: {...} a file is read in eV and Angstrom"
    )


@pytest.mark.parametrize("unit", ["eV/atom", "eV per atom", "meV atom^-1"])
def test_an_energy_by_atom(unit):
    error = refused(Units(), ("total_energy", "energy", unit))
    assert error.message == f"a.xyz: it says that 'energy' is in {unit}, but it is read as that of a structure"


def test_the_sign_of_a_stress_is_no_matter_of_its_unit():
    stated = [Stated("stress", "stress", "GPa", "it says that")]
    assert compare(stated, Units(stress_sign="compression", labels={"stress": "GPa"}), "a.db") == []
