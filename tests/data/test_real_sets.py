"""Arrays and archives of published data sets beside extended XYZ files of the same frames."""

from pathlib import Path

import ase.io
import numpy as np
import pytest

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.report import inspect
from nequip_like.data.io.formats import read_atoms
from nequip_like.data.io.readers import read
from nequip_like.data.species import species_of
from nequip_like.errors import DataError

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")
KCAL = 0.04336410390059322  # eV


def stacked(reading, label):
    return np.stack([np.squeeze(frame[label].numpy()) for frame in reading.frames])


@pytest.mark.parametrize("part", ["train", pytest.param("test", marks=pytest.mark.slow)])
def test_ethanol_of_rmd17(part):
    file = DATA / f"rmd17_ethanol/rmd17_ethanol_{part}_01.npz"
    chosen = slice(None, None, 5) if part == "train" else slice(None)  # all of them take their time
    reading = read(file, units={"energy": "kcal/mol"}, index=chosen)
    others = read(DATA / f"rmd17_ethanol/ethanol_{part}_01.xyz", index=chosen)
    with np.load(file) as arrays:
        assert stacked(reading, "pos").tolist() == arrays["coords"][chosen].tolist()
        assert stacked(reading, "total_energy").tolist() == (arrays["energies"][chosen] * KCAL).tolist()
        assert stacked(reading, "forces").tolist() == (arrays["forces"][chosen] * KCAL).tolist()
    assert stacked(reading, "pos").tolist() == stacked(others, "pos").tolist()
    assert stacked(reading, "atomic_numbers").tolist() == stacked(others, "atomic_numbers").tolist()
    # The .xyz was converted with another kcal/mol, 0.0433641153 eV, and has eight decimals of forces.
    other = 0.0433641153 / KCAL
    np.testing.assert_allclose(stacked(reading, "total_energy") * other, stacked(others, "total_energy"), rtol=1e-9)
    np.testing.assert_allclose(stacked(reading, "forces") * other, stacked(others, "forces"), rtol=0, atol=7e-9)
    assert inspect(GraphDataset(reading, 4.0, species_of(reading.frames))).warnings == []


def test_units_of_rmd17_that_nobody_declared_are_noticed():
    reading = read(DATA / "rmd17_ethanol/rmd17_ethanol_train_01.npz", index=":100")
    energy, *_ = inspect(GraphDataset(reading, 4.0, species_of(reading.frames))).warnings
    assert "eV/atom is more than all electrons of the atoms bind with; is it in kcal/mol or kJ/mol?" in energy
    assert "'data.units={energy: kcal/mol, forces: kcal/mol/Angstrom}'" in energy


def test_water_of_deepmd():
    """The .xyz has every sixth frame of this set, and others behind."""
    reading, others = (
        read(DATA / "water_pbe0/data_0", index="::6"),
        read(DATA / "water_pbe0/water_pbe0_64.xyz", index=":14"),
    )
    for label in ("atomic_numbers", "cell", "pbc", "total_energy"):
        assert stacked(reading, label).tolist() == stacked(others, label).tolist(), label
    for label in ("pos", "forces"):  # single precision, written with eight decimals
        np.testing.assert_allclose(stacked(reading, label), stacked(others, label), rtol=0, atol=5.1e-9)


@pytest.mark.parametrize(("system", "frames"), [("C1H4O2", 1562), ("C3H3O4", 485), ("C4H3O1", 15)])
def test_molecules_of_deepmd(system, frames):
    folder = DATA / "combustion_deepmd" / system
    reading = read(folder)
    assert len(reading) == frames
    for label, name in (("pos", "coord"), ("total_energy", "energy"), ("forces", "force")):
        array = np.load(folder / f"set.000/{name}.npy").astype(float)
        assert stacked(reading, label).ravel().tolist() == array.ravel().tolist()
    counts = dict(zip("CHO", (int(letter) for letter in system[1::2]), strict=True))
    formula = {
        symbol: reading.frames[0]["atomic_numbers"].tolist().count(z)
        for symbol, z in zip("CHO", (6, 1, 8), strict=True)
    }
    assert formula == counts


def test_systems_of_deepmd_are_one_data_set_by_a_pattern():
    assert len(read(DATA / "combustion_deepmd/*", index=":15")) == 3 * 15
    with pytest.raises(DataError, match="combustion_deepmd is no data set itself, but holds 3: C1H4O2, C3H3O4, C4H3O1"):
        read(DATA / "combustion_deepmd")


def test_titania_in_its_archive():
    archive = DATA / "tio2_aenet/original_xsf.tar.gz"
    reading, others = read(archive), read(DATA / "tio2_aenet/tio2.xyz")
    for label in ("pos", "cell", "total_energy", "forces"):
        for frame, other in zip(reading.frames, others.frames, strict=True):
            # Forces are the file's own, but ASE multiplies them by Hartree and we divide again.
            np.testing.assert_allclose(frame[label], other[label], rtol=4e-16 if label == "forces" else 0, atol=0)
    assert reading.origins[7] == f"{archive}/original/structure-008.xsf frame 0"
    (note,) = reading.notes
    assert (
        note
        == f"{archive}: files that are of no format that is read are left out, 1 of them, such as original/README.txt"
    )


def test_the_archive_is_read_as_ase_reads_the_files_in_it(tmp_path):
    import tarfile

    with tarfile.open(DATA / "tio2_aenet/original_xsf.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    frames, _ = read_atoms(DATA / "tio2_aenet/original_xsf.tar.gz")
    for atoms, file in zip(frames, sorted(tmp_path.glob("original/*.xsf")), strict=True):
        expected = ase.io.read(file)
        assert atoms.positions.tolist() == expected.positions.tolist()
        assert atoms.cell.tolist() == expected.cell.tolist()
        assert atoms.numbers.tolist() == expected.numbers.tolist()
