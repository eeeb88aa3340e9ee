import pytest

from nequip_like.data.labels.units import Units
from nequip_like.data.labels.units_in_names import find_units_in_names, suggest_units


@pytest.mark.parametrize(("label", "name", "unit"), [
    ("total_energy", "energy_Hartree", "Hartree"),
    ("total_energy", "E_Ha", "Ha"),
    ("total_energy", "energy_kcal", "kcal/mol"),
    ("total_energy", "E_kJ_per_mol", "kJ/mol"),
    ("total_energy", "energy[eV]", "eV"),
    ("total_energy", "labels.energy_Ry", "Ry"),
    ("total_energy", "energy_eV_atom", "eV/atom"),
    ("total_energy", "energy_a.u.", "Hartree"),
    ("forces", "forces_au", "Hartree/Bohr"),
    ("forces", "forces_eV_A", "eV/A"),
    ("forces", "dft_forces_kcal_mol_Ang", "kcal/mol/Ang"),
    ("forces", "forces_Ha", "Ha"),
    ("stress", "stress_GPa", "GPa"),
    ("virial", "virial_meV", "meV"),
])  # fmt: skip
def test_units_at_the_end_of_names(label, name, unit):
    (stated,) = find_units_in_names({label: name})
    assert (stated.label, stated.name, stated.meaning, stated.by) == (label, name, unit, "its name says that")


@pytest.mark.parametrize(("label", "name"), [
    ("total_energy", "energy"), ("total_energy", "eV"), ("total_energy", "energy_pbe"), ("total_energy", "E_bohr"),
    ("total_energy", "energy_metal"), ("total_energy", "energy_j"), ("forces", "forces_a"), ("forces", "forces_nm"),
    ("atom_weight", "weight_eV"), ("total_energy", "energy_per_atom"), ("stress", "stress_kB_A"),
])  # fmt: skip
def test_names_without_a_unit_of_their_label(label, name):
    assert find_units_in_names({label: name}) == []


@pytest.mark.parametrize(("label", "name", "unit"), [
    ("total_energy", "energy_kcal", "kcal/mol"), ("forces", "forces_kcal", "kcal/mol/Angstrom"),
    ("forces", "forces_Ha", "Ha/Bohr"), ("stress", "stress_Ry", "Ry/Bohr3"), ("stress", "stress_kbar", "kbar"),
])  # fmt: skip
def test_a_unit_that_can_be_declared(label, name, unit):
    assert suggest_units({label: name}) == {label: unit}
    assert Units(labels={label: unit}).factor(label) != 1.0


@pytest.mark.parametrize(("label", "name"), [
    ("total_energy", "E_eV"), ("forces", "forces_eV"), ("total_energy", "E_eV_atom"),
])  # fmt: skip
def test_no_unit_to_declare(label, name):
    assert suggest_units({label: name}) == {}
