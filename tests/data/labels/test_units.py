import ase.units
import pytest

from nequip_like.data.labels.units import Units, list_unused_units
from nequip_like.errors import ConfigError


@pytest.mark.parametrize(
    ("unit", "ev"),
    [
        ("eV", 1.0),
        ("meV", 1e-3),
        ("kcal/mol", 0.0433641),
        ("kJ/mol", 0.01036427),
        ("Hartree", 27.211386),
        ("Ry", 13.605693),
    ],
)
def test_energy_units_against_published_values(unit, ev):
    assert Units(energy=unit).factor("total_energy") == pytest.approx(ev, rel=1e-6)


def test_derived_units_follow_from_energy_and_length():
    units = Units(energy="Hartree", length="Bohr")
    energy, length = ase.units.Hartree, ase.units.Bohr
    assert length == pytest.approx(0.529177, rel=1e-6)
    assert units.factor("pos") == length
    assert units.factor("forces") == energy / length
    assert units.factor("stress") == energy / length**3
    assert units.factor("virial") == energy
    assert units.factor("atomic_energy") == energy
    assert units.factor("frame_weight") == 1.0


def test_declared_takes_a_mapping_and_any_case():
    assert Units.declared({"energy": "HARTREE"}) == Units(energy="Hartree", length="Angstrom")
    assert Units.declared(None) == Units()


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ({"energy": "kcal"}, "did you mean 'kcal/mol'"),
        ({"length": "bohrr"}, "did you mean 'Bohr'.*Angstrom, Bohr, nm"),
        ({"length": "angstrm"}, "did you mean 'Angstrom'"),
    ],
)
def test_unknown_unit_names_the_known_ones(units, expected):
    with pytest.raises(ConfigError, match=expected):
        Units.declared(units)


# 1 Hartree/Bohr = 4.3597447222071e-18 J / 5.29177210903e-11 m, 1 eV/Angstrom = 1.602176634e-9 N; CODATA 2018
HARTREE_BY_BOHR = 4.3597447222071e-18 / 5.29177210903e-11 / 1.602176634e-9
OF_A_GPA = 1 / 160.2176634


@pytest.mark.parametrize(
    ("label", "unit", "factor"),
    [
        ("forces", "Hartree/Bohr", HARTREE_BY_BOHR),
        ("forces", "Eh/a0", HARTREE_BY_BOHR),
        ("forces", "Ry/Bohr", HARTREE_BY_BOHR / 2),
        ("forces", "kcal/(mol A)", 4184 / 96485.33212),
        ("forces", "kJ mol^-1 nm^-1", 100 / 96485.33212),
        ("forces", "meV/Å", 1e-3),
        ("stress", "GPa", OF_A_GPA),
        ("stress", "kbar", OF_A_GPA / 10),
        ("stress", "kB", OF_A_GPA / 10),
        ("stress", "MPa", OF_A_GPA / 1e3),
        ("stress", "bar", OF_A_GPA / 1e4),
        ("stress", "Pa", OF_A_GPA / 1e9),
        ("stress", "eV/Angstrom^3", 1.0),
        ("stress", "eV/A^3", 1.0),
        ("stress", "eV A^-3", 1.0),
        ("stress", "eV/Å³", 1.0),
        ("stress", "meV/Ang**3", 1e-3),
        ("stress", "eV/nm3", 1e-3),
        ("stress", "Hartree/Bohr^3", 29421.015697 * OF_A_GPA),  # the atomic unit of pressure, CODATA 2018
        ("virial", "kJ/mol", 1000 / 96485.33212),
        ("total_energy", "mHa", 27.211386245988e-3),
    ],
)
def test_a_label_has_a_unit_of_its_own(label, unit, factor):
    assert Units.declared({"energy": "Hartree", label: unit}).factor(label) == pytest.approx(factor, rel=2e-8)


def test_exact_values():
    units = Units.declared({"energy": "Hartree", "forces": "Hartree/Bohr", "stress": "GPa", "length": "Angstrom"})
    assert units.factor("total_energy") == pytest.approx(27.211386246, rel=2e-8)
    assert units.factor("forces") == pytest.approx(51.4220674763, rel=2e-8)
    assert units.factor("stress") == pytest.approx(0.00624150907, rel=2e-8)
    assert Units.declared({"stress": "kbar"}).factor("stress") == pytest.approx(1 / 1602.176634, rel=2e-8)
    assert units.factor("virial") == units.factor("total_energy")
    assert units.factor("pos") == 1.0


def test_a_label_of_its_own_leaves_the_others_as_they_were():
    with_own = Units.declared({"energy": "kcal/mol", "length": "Bohr", "stress": "kbar", "stress_sign": "compression"})
    without = Units(energy="kcal/mol", length="Bohr")
    for label in ("pos", "total_energy", "atomic_energy", "forces", "virial"):
        assert with_own.factor(label) == without.factor(label)
    assert with_own.factor("stress") == -Units(labels={"stress": "kbar"}).factor("stress")
    assert Units.declared({"total_energy": "Hartree"}).factor("forces") == 1.0


@pytest.mark.parametrize(
    ("units", "message", "advice"),
    [
        (
            {"forces": "GPa"},
            "units: 'GPa' is a pressure, or an energy by a volume, and no unit of forces",
            "write an energy by a length: eV/Angstrom, Hartree/Bohr or kcal/mol/Angstrom",
        ),
        (
            {"stress": "eV"},
            "units: 'eV' is an energy, and no unit of stress",
            "if it is a virial, map its name to 'virial' with key_mapping; else write a pressure, or an energy by a "
            "volume: eV/Angstrom^3, Hartree/Bohr^3, GPa or kbar",
        ),
        (
            {"energy": "Hartree/Bohr"},
            "units: 'Hartree/Bohr' is an energy by a length, and no unit of energy",
            "write an energy: eV, kcal/mol, Hartree or Ry",
        ),
        (
            {"virial": "GPa"},
            "units: 'GPa' is a pressure, or an energy by a volume, and no unit of virial",
            "write an energy: eV, kcal/mol, Hartree or Ry",
        ),
        (
            {"forces": "Ry/au"},
            "units: unknown unit 'au' of forces",
            "for atomic units write Hartree and Bohr; known are: eV, meV, Hartree, mHartree, Ry, mRy, kcal, kJ, J, "
            "mol, Angstrom, Bohr, nm, pm, Pa, MPa, GPa, bar, kbar, Mbar, atm",
        ),
        (
            {"forces": "Hartree//Bohr"},
            "units: the unit 'Hartree//Bohr' of forces cannot be read",
            "write names with *, / and powers between them, such as Hartree/Bohr or eV/Angstrom^3",
        ),
    ],
)
def test_what_is_no_unit_of_a_label_is_refused_with_what_is_wanted(units, message, advice):
    with pytest.raises(ConfigError) as error:
        Units.declared(units)
    assert (error.value.message, error.value.advice) == (message, advice)


@pytest.mark.parametrize(
    "unit", ["", "/eV", "eV/", "(eV", "eV)", "2", "0.5 eV", "eV^", "eV^x", "eV;A", "eV" * 200, "é"]
)
def test_what_is_no_unit_at_all(unit):
    with pytest.raises(ConfigError, match=r"unit '.*' of energy"):
        Units.declared({"energy": unit})


def test_a_megaelectronvolt_is_no_millielectronvolt():
    with pytest.raises(ConfigError, match="did you mean 'meV'"):
        Units.declared({"energy": "MeV"})


def test_lines_of_the_table():
    units = Units.declared({"energy": "hartree", "forces": "HARTREE/a0", "stress": "gpa", "length": "Angstrom"})
    assert units.lines(["total_energy", "forces", "stress"]) == [
        "total_energy: Hartree, x 27.2114",
        "forces: Hartree/Bohr, x 51.4221",
        "stress: GPa, x 0.00624151",
    ]
    assert Units(length="Bohr", stress_sign="compression").lines(["stress"]) == [
        "positions: Bohr, x 0.529177",
        "stress: eV/Bohr^3, x -6.74833",
    ]
    assert Units().lines(["total_energy", "forces", "stress"]) == ["eV, Angstrom"]
    assert str(units) == "Hartree, Angstrom, forces Hartree/Bohr, stress GPa"


def test_unknown_quantity_is_refused():
    with pytest.raises(ConfigError, match="unknown key 'force'"):
        Units.declared({"force": "eV/A"})


def test_sign_of_the_stress():
    flipped = Units(length="Bohr", stress_sign="compression")
    assert flipped.factor("stress") == -1.0 / ase.units.Bohr**3
    assert flipped.factor("virial") == 1.0  # a virial has one sign only
    assert flipped.factor("forces") == 1.0 / ase.units.Bohr
    assert str(flipped) == "eV, Bohr, stress positive under compression"
    assert Units.declared({"stress_sign": "tension"}) == Units()
    with pytest.raises(ConfigError, match="stress_sign is 'negative'"):
        Units.declared({"stress_sign": "negative"})


@pytest.mark.parametrize(
    ("key", "unit", "meant"),
    [
        ("stress", "mBar", "Mbar"),
        ("stress", "mBAR", "Mbar"),
        ("stress", "mbar", "Mbar"),
        ("stress", "mpa", "MPa"),
        ("energy", "MEV", "meV"),
        ("energy", "Mev", "meV"),
        ("energy", "MEh", "mEh"),
        ("energy", "MHARTREE", "mHartree"),
        ("energy", "MRydberg", "mRydberg"),
        ("length", "Nm", "nm"),
        ("length", "NM", "nm"),
        ("length", "Pm", "pm"),
    ],
)
def test_the_case_of_a_prefix_counts(key, unit, meant):
    with pytest.raises(ConfigError) as error:
        Units.declared({key: unit})
    assert error.value.message == f"units: unknown unit '{unit}' of {key}"
    assert error.value.advice.startswith(
        f"did you mean '{meant}'? '{unit[0]}' and '{meant[0]}' are different prefixes; known are: eV, meV, Hartree"
    )


@pytest.mark.parametrize("unit", ["nM", "pM", "pA"])
def test_units_of_chemists_are_none_of_length_or_pressure(unit):
    with pytest.raises(ConfigError, match=f"unknown unit '{unit}' of length"):
        Units.declared({"length": unit})


@pytest.mark.parametrize(
    ("key", "unit", "kept"),
    [
        ("energy", "EV", "eV"),
        ("energy", "mev", "meV"),
        ("energy", "meh", "mHartree"),
        ("energy", "KJ/MOL", "kJ/mol"),
        ("stress", "gpa", "GPa"),
        ("stress", "MPA", "MPa"),
        ("stress", "MBar", "Mbar"),
        ("stress", "KBAR", "kbar"),
        ("forces", "eV⋅Å−1", "eV·Angstrom-1"),
        ("forces", "eV/A\u030angstro\u0308m", "eV/Angstrom"),
        ("length", "Ångström", "Angstrom"),
        ("length", "Ångstrom", "Angstrom"),
        ("length", "\u212bngström", "Angstrom"),
    ],
)
def test_spellings_that_can_mean_one_unit_only(key, unit, kept):
    units = Units.declared({key: unit})
    assert units.labels.get(key, getattr(units, key, "")) == kept
    assert units == Units.declared({key: kept})


@pytest.mark.parametrize("unit", ["eV/Pa^99", "(Ry^99)^99", "((((eV^99)^99)^99)^99)^99", "Pa^99/Pa^99"])
def test_powers_that_no_number_can_hold(unit):
    with pytest.raises(ConfigError) as error:
        Units.declared({"energy": unit})
    assert unit in error.value.message


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (5, "units: 5 is no mapping"),
        ("eV", "units: 'eV' is no mapping"),
        ([], "units: [] is no mapping"),
        ({None: "eV"}, "units: unknown key 'None'"),
        ({0: "eV"}, "units: unknown key '0'"),
    ],
)
def test_units_from_python_that_cannot_be_meant(units, message):
    with pytest.raises(ConfigError) as error:
        Units.declared(units)
    assert error.value.message == message
    assert "write units: {energy: ..., length: ..., stress_sign: ...}" in error.value.advice


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("energy", "energies are totals of a structure: multiply those by atom in the file by its number of atoms; "),
        ("atomic_energy", "leave the atom out, each is the energy of one atom; "),
    ],
)
def test_an_energy_by_atom(key, advice):
    with pytest.raises(ConfigError) as error:
        Units.declared({key: "hartree/atom"})
    assert error.value.message == f"units: unknown unit 'atom' of {key}"
    assert error.value.advice.startswith(f"{advice}known are: eV")


@pytest.mark.parametrize(
    ("declared", "labels", "notes"),
    [
        (
            {"stress": "GPa"},
            ["virial"],
            ["the unit GPa of 'stress' is not used, no label 'stress' was read; 'virial' is read in eV"],
        ),
        ({"virial": "Ry"}, [], ["the unit Ry of 'virial' is not used, no label 'virial' was read"]),
        ({"stress": "GPa", "forces": "Ry/Bohr"}, ["stress", "forces"], []),
        ({"energy": "kcal/mol"}, ["forces"], []),
        (None, ["forces"], []),
    ],
)
def test_notes_on_what_is_declared(declared, labels, notes):
    assert list_unused_units(Units.declared(declared), labels) == notes
