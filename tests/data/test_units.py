import pytest

from nequip_like.data.units import ENERGY_UNITS, LENGTH_UNITS, Units
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
    energy, length = ENERGY_UNITS["Hartree"], LENGTH_UNITS["Bohr"]
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
    [({"energy": "kcal"}, "did you mean 'kcal/mol'"), ({"length": "nm"}, "known are: Angstrom, Bohr")],
)
def test_unknown_unit_names_the_known_ones(units, expected):
    with pytest.raises(ConfigError, match=expected):
        Units.declared(units)


def test_unknown_quantity_is_refused():
    with pytest.raises(ConfigError, match="unknown key 'force'"):
        Units.declared({"force": "eV/A"})


def test_sign_of_the_stress():
    flipped = Units(length="Bohr", stress_sign="compression")
    assert flipped.factor("stress") == -1.0 / LENGTH_UNITS["Bohr"] ** 3
    assert flipped.factor("virial") == 1.0  # a virial has one sign only
    assert flipped.factor("forces") == 1.0 / LENGTH_UNITS["Bohr"]
    assert str(flipped) == "eV, Bohr, stress positive under compression"
    assert Units.declared({"stress_sign": "tension"}) == Units()
    with pytest.raises(ConfigError, match="stress_sign is 'negative'"):
        Units.declared({"stress_sign": "negative"})
