"""Files input.data of RuNNer and n2p2."""

import gzip

import ase.io
import numpy as np
import pytest
from ase.io.formats import ioformats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nequip_like.data.io.formats import format_of, read_atoms
from nequip_like.data.io.readers import read
from nequip_like.errors import DataError

HARTREE, BOHR = 27.211386024367243, 0.5291772105638411
TEXT = """# two frames, written by hand
begin
comment source_file_name=md.log structure_number=1
lattice   10.00    0.00    0.00
lattice    1.00   11.00    0.00
lattice    0.00    0.00   12.50
atom   0.000   0.125   0.250  O  -0.50  0.0   0.0100  -0.0200   0.0300
atom   1.800   0.125   0.250  H   0.25  0.0  -0.0050   0.0100  -0.0150
atom  -0.450   1.750   0.250  H   0.25  0.0  -0.0050   0.0100  -0.0150
energy  -76.250000
charge    0.000000
end
begin
comment
atom   0.000   0.000   0.000  He  0.00  0.0   0.0   0.0   0.0
energy   -2.875
charge    0.0
end
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "input.data").write_text(TEXT)
    return tmp_path / "input.data"


def test_frames_in_ev_and_angstrom(file):
    assert format_of(file).name == "runnerdata"
    reading = read(file)
    water, helium = reading.frames
    assert reading.label_names == {"total_energy": ["energy"], "forces": ["forces"]}
    assert water["atomic_numbers"].tolist() == [8, 1, 1]
    np.testing.assert_allclose(water["pos"][1].numpy(), [1.8 * BOHR, 0.125 * BOHR, 0.25 * BOHR], rtol=1e-15)
    np.testing.assert_allclose(water["cell"][0, 1].numpy(), [BOHR, 11 * BOHR, 0], rtol=1e-15)
    assert water["pbc"].tolist() == [[True] * 3]
    assert water["total_energy"].item() == -76.25 * HARTREE
    np.testing.assert_allclose(water["forces"][0].numpy(), np.array([0.01, -0.02, 0.03]) * HARTREE / BOHR, rtol=1e-15)
    assert not helium["pbc"].any()
    assert helium["total_energy"].item() == -2.875 * HARTREE
    assert reading.annotations[0].arrays["charges"].tolist() == [-0.5, 0.25, 0.25]
    assert reading.notes == [f"{file}: it was taken to be in Hartree and Bohr, as RuNNer writes it, and converted"]


@pytest.mark.skipif("runnerdata" not in ioformats, reason="this version of ASE does not read the format")
def test_the_same_as_ase_reads(file):
    for ours, other in zip(read_atoms(file)[0], ase.io.read(file, ":", format="runnerdata"), strict=True):
        assert ours.symbols.get_chemical_formula() == other.symbols.get_chemical_formula()
        np.testing.assert_allclose(ours.positions, other.positions, rtol=1e-15)
        np.testing.assert_allclose(ours.cell, other.cell, rtol=1e-15)
        np.testing.assert_allclose(ours.get_potential_energy(), other.get_potential_energy(), rtol=1e-15)
        np.testing.assert_allclose(ours.get_forces(), other.get_forces(), rtol=1e-14)


@pytest.mark.parametrize("name", ["input.data", "train", "water.dat", "input.data.gz"])
def test_whatever_it_is_called(tmp_path, name):
    for text in (TEXT, TEXT.replace("\n", "\r\n"), "\ufeff" + TEXT[TEXT.index("begin") :], "\n" + TEXT):
        content = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        assert len(read(tmp_path / name, index=":")) == 2


def test_units_that_are_declared_would_convert_a_second_time(file):
    with pytest.raises(DataError, match=r"input\.data, 'energy' is in eV, but it is read in Hartree") as error:
        read(file, units={"energy": "Hartree", "length": "Bohr"})
    assert error.value.advice.startswith("leave out the units of this data set")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("energy  -76.250000\n", "", "the frame that begins in line 2 has 3 lines of atom, 3 of lattice, 0 of energy"),
        ("energy  -76.250000\n", "energy -76\nenergy -75\n", "3 of lattice, 2 of energy, 1 of charge"),
        ("lattice    1.00   11.00    0.00\n", "", "3 lines of atom, 2 of lattice"),
        ("energy  -76.250000", "energy  -76.25x", "line 10: '-76.25x' is no number"),
        ("energy  -76.250000", "energy  -76_25", "line 10: '-76_25' is no number"),
        ("energy  -76.250000", "energy  nan", "line 10: 'nan' is not a finite number"),
        ("energy  -76.250000", "energy", "line 10 has 0 columns after 'energy', not 1"),
        ("  H   0.25  0.0  -0.0050", "  H   0.25  -0.0050", "line 8 has 8 columns after 'atom', not 9"),
        ("  O  ", "  Oh ", "line 7: 'Oh' is no chemical symbol"),
        ("  O  ", "  X ", "line 7: 'X' is no chemical symbol"),
        ("charge    0.000000\nend\n", "charge 0\n", "line 12: 'begin' stands within a frame"),
        ("end\nbegin", "end\natom 1\nbegin", "line 13: 'atom' stands outside of a frame"),
        ("energy  -76", "enregy  -76", "line 10: 'enregy' is no line of a frame"),
        ("begin\ncomment\n", "begin position(3) element force(3)\n", "columns of the atoms are declared"),
        ("charge    0.0\nend\n", "charge    0.0\n", "is cut off: the frame that begins in line 13 has no 'end'"),
        ("atom   0.000   0.000   0.000  He  0.00  0.0   0.0   0.0   0.0\n", "", "line 13 has 0 lines of atom"),
    ],
)  # fmt: skip
def test_damage(tmp_path, old, new, message):
    assert old in TEXT
    (tmp_path / "input.data").write_text(TEXT.replace(old, new, 1))
    with pytest.raises(DataError) as error:
        read(tmp_path / "input.data")
    assert message in error.value.message
    assert "input.data" in error.value.message


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(end=st.integers(0, len(TEXT) - 2))
def test_a_file_that_is_cut_off_is_one_error_with_its_name(tmp_path, end):
    """A cut behind a frame cannot be seen; any other is refused."""
    (tmp_path / "input.data").write_text(TEXT[:end])
    whole = TEXT[:end].rstrip().endswith("end") and TEXT[:end].count("\nend") == 1
    if whole:
        assert len(read(tmp_path / "input.data")) == 1
    else:
        with pytest.raises(DataError, match=r"input\.data"):
            read(tmp_path / "input.data")
