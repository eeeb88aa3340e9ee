import numpy as np
import pytest
from ase import Atoms

from nequip_like.data.io.annotations import Annotations
from nequip_like.data.labels.frame_units import collect_units_of_frames
from nequip_like.errors import DataError

READ = {"total_energy": "dft_energy", "forces": "forces", "stress": "stress"}


def stated(frame, chosen=READ):
    return [(one.label, one.unit) for one in collect_units_of_frames([frame], chosen, "a.xyz")]


@pytest.mark.parametrize("name", [
    "energy_unit", "energy_units", "Energy-Unit", "energyUnit", "unit_energy", "units_of_energy", "dft_energy_unit",
    "E_unit", "energies_unit",
])  # fmt: skip
def test_one_label_under_many_names(name):
    assert stated({name: "Hartree"}) == [("total_energy", "Hartree")]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"force_unit": "Ha/Bohr"}, [("forces", "Ha/Bohr")]),
        ({"stress_units": "GPa", "length_unit": "Bohr"}, [("stress", "GPa"), ("pos", "Bohr")]),
        ({"units": "eV"}, [("total_energy", "eV")]),
        ({"Units": "eV/Ang"}, [("total_energy", "eV"), ("forces", "eV/Ang")]),
        ({"units": "kcal/mol/Å"}, [("total_energy", "kcal/mol"), ("forces", "kcal/mol/Å")]),
        ({"units": "eV, Angstrom"}, [("total_energy", "eV"), ("pos", "Angstrom")]),
        ({"units": "eV Angstrom GPa"}, [("total_energy", "eV"), ("pos", "Angstrom"), ("stress", "GPa")]),
        ({"units": np.array(["Hartree", "Bohr"])}, [("total_energy", "Hartree"), ("pos", "Bohr")]),
        ({"unit": "energy: Ry; forces=Ry/Bohr"}, [("total_energy", "Ry"), ("forces", "Ry/Bohr")]),
        ({"units": "energy in eV, length Angstrom"}, [("total_energy", "eV"), ("pos", "Angstrom")]),
        ({"units": {"energy": "Ha", "pos": "A", "dipole": "D"}}, [("total_energy", "Ha"), ("pos", "A")]),
        ({"units": "real"}, [("total_energy", "kcal/mol"), ("forces", "kcal/mol/Angstrom"), ("pos", "Angstrom")]),
        ({"units": "atomic"}, [("total_energy", "Hartree"), ("forces", "Hartree/Bohr"), ("pos", "Bohr")]),
        ({"units": "fortnights per mile"}, [("total_energy", "fortnights per mile")]),
        ({"dipole_unit": "Debye", "unit_cell": np.eye(3), "unit": 5, "community": "eV", "virial_unit": "Ha"}, []),
        ({"unit_cell": "conventional", "unitcell": "primitive"}, []),
        ({"zpe_energy_unit": "Ha", "zpe_energy": 0.1}, []),
    ],
)  # fmt: skip
def test_what_frames_say(frame, expected):
    assert stated(frame) == expected


def test_frames_that_say_different_things():
    frames = [{"energy_unit": "eV"}, {"energy_unit": "Hartree"}]
    with pytest.raises(DataError, match=r"a\.xyz: 'energy_unit' is eV in one frame and Hartree in another"):
        collect_units_of_frames(frames, READ, "a.xyz")
    with pytest.raises(DataError, match=r"1 of its 3 frames say with 'energy_unit' that 'dft_energy' is in"):
        collect_units_of_frames([{}, {"energy_unit": "Hartree"}, {}], READ, "a.xyz")
    assert len(collect_units_of_frames([{}, {"energy_unit": "eV"}], READ, "a.xyz")) == 1


@pytest.mark.parametrize(("text", "other"), [
    ("eV", "ev"), ("au", "A.U."), ("kcal/mol", "kcal mol^-1"), ("eV, Ang", "ev; angstrom"),
])  # fmt: skip
def test_frames_that_say_the_same_in_two_spellings(text, other):
    frames = [{"units": text}, {"units": other}]
    assert collect_units_of_frames(frames, READ, "a.xyz")[0].label == "total_energy"


@pytest.mark.parametrize(("text", "other"), [("meV", "MeV"), ("lj", "erg"), ("eV, Ang", "eV"), ("au", "metal")])
def test_frames_that_do_not_say_the_same(text, other):
    with pytest.raises(DataError, match="in one frame and"):
        collect_units_of_frames([{"units": text}, {"units": other}], READ, "a.xyz")


def test_units_are_not_handed_on_with_values_that_were_converted():
    info = {"energy_unit": "Hartree", "config_type": "bulk", "unit": 3}
    assert Annotations.collect((), info, {}, Atoms("H")).info == {"config_type": "bulk", "unit": 3}
