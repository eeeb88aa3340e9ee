import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from nequip_like.data.io.readers import read
from nequip_like.errors import DataError

GPA = 160.21766208  # of 1 eV/Angstrom^3


@pytest.fixture
def crystals(labelled, write):
    """Shaken copper whose stress is written in another unit: up to 6 GPa in truth."""

    def crystals(factor, name="stress"):
        rng = np.random.default_rng(0)
        frames = []
        for i in range(6):
            atoms = bulk("Cu", cubic=True)
            atoms.rattle(0.05, rng=rng)
            atoms.set_cell(atoms.cell * (0.985 + 0.005 * i), scale_atoms=True)
            atoms.calc = EMT()
            stress = atoms.get_stress(voigt=False) * factor
            atoms = labelled(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
            atoms.info[name] = stress.flatten()
            frames.append(atoms)
        return write("a.xyz", frames)

    return crystals


# kbar, MPa, bar and Pa; and kbar times Angstrom^3 as a virial
@pytest.mark.parametrize(
    ("name", "factor"),
    [*(("dft_stress", factor * GPA) for factor in (10, 1e3, 1e4, 1e9)), ("dft_virial", 10 * GPA * 47.0)],
)
def test_a_stress_that_cannot_be_is_refused(crystals, name, factor):
    file = crystals(factor, name)
    with pytest.raises(DataError, match=rf"a\.xyz frame \d: '{name}' reaches .* GPa") as error:
        read(file)
    assert error.value.advice.startswith("declare its unit: 'data.units={stress: kbar}', or GPa;")


@pytest.mark.parametrize(("unit", "factor"), [("kbar", 10 * GPA), ("GPa", GPA), ("MPa", 1e3 * GPA), ("bar", 1e4 * GPA)])
def test_its_declared_unit_makes_it_right(crystals, unit, factor):
    right = read(crystals(1.0, "dft_stress")).frames
    frames = read(crystals(factor, "dft_stress"), units={"stress": unit}).frames
    for one, other in zip(frames, right, strict=True):
        assert torch.allclose(one["stress"], other["stress"], rtol=1e-7, atol=1e-12)


def test_a_unit_of_a_stress_says_nothing_of_a_virial(crystals):
    with pytest.raises(DataError, match="'dft_virial' reaches"):
        read(crystals(10 * GPA * 47.0, "dft_virial"), units={"stress": "GPa"})


def test_a_declared_stress_is_believed(crystals):
    assert len(read(crystals(10 * GPA, "dft_stress"), units={"stress": "eV/Angstrom3"}).frames) == 6


def test_a_single_frame_under_high_pressure_is_not_refused(write_text):
    row = '1\nLattice="2 0 0 0 2 0 0 0 2" energy=-1.0 dft_stress="{0} 0 0 0 {0} 0 0 0 {0}"\nFe {1} 0 0\n'
    file = write_text("a.xyz", row.format(-0.1, 0.1) + row.format(-0.2, 0.2) + row.format(-6.2, 0.3))
    assert read(file).frames[2]["stress"].diagonal(dim1=1, dim2=2).tolist() == [[-6.2] * 3]
    file = write_text("b.xyz", row.format(-0.1, 0.1) * 2 + row.format(-31.0, 0.2))
    with pytest.raises(DataError, match=r"b\.xyz frame 2: 'dft_stress' reaches 31 eV/Angstrom\^3 = 4967 GPa"):
        read(file)
