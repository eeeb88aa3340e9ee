"""Data sets in .npz files: those of rMD17 and sGDML, others with usual names, and what is refused."""

import io
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nequip_like.data.io.formats import read_atoms
from nequip_like.data.io.readers import read
from nequip_like.errors import DataError

KCAL = 0.04336410390059322  # eV, of CODATA 2014
Z = np.array([8, 1, 1], dtype=np.uint8)
RNG = np.random.default_rng(0)
R = np.array([[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]]) + 0.01 * RNG.normal(size=(4, 3, 3))
E, F = RNG.normal(size=4), RNG.normal(size=(4, 3, 3))


@pytest.fixture
def save(tmp_path):
    def save(compressed=False, **arrays):
        (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", **arrays)
        return tmp_path / "a.npz"

    return save


def stacked(reading, label):
    return np.stack([np.squeeze(frame[label].numpy()) for frame in reading.frames])


@pytest.mark.parametrize("compressed", [False, True])
def test_names_of_rmd17(save, compressed):
    file = save(
        nuclear_charges=Z,
        coords=R,
        energies=E,
        forces=F,
        old_energies=E - 1,
        old_indices=np.arange(4),
        compressed=compressed,
    )
    reading = read(file, units={"energy": "kcal/mol"})
    assert reading.label_names == {"total_energy": ["energies"], "forces": ["forces"]}
    assert stacked(reading, "pos").tolist() == R.tolist()
    assert stacked(reading, "total_energy").tolist() == (E * KCAL).tolist()
    assert stacked(reading, "forces").tolist() == (F * KCAL).tolist()
    assert [frame["atomic_numbers"].tolist() for frame in reading.frames] == [[8, 1, 1]] * 4
    assert not any(bool(frame["pbc"].any()) for frame in reading.frames)
    assert [note.info["old_indices"] for note in reading.annotations] == [0, 1, 2, 3]
    assert reading.notes == []


def sgdml(save, **changes):
    extra = {"type": "d", "name": "water", "theory": b"PBE", "F_max": F.max(), "perms": np.arange(6).reshape(2, 3)}
    return save(**({"z": Z, "R": R, "E": E[:, None], "F": F, "e_unit": "kcal/mol", "r_unit": "Ang"} | extra | changes))


def test_names_and_units_of_sgdml(save):
    file = sgdml(save)
    with pytest.raises(DataError) as error:
        read(file)
    assert error.value.message == (
        f"{file}: its 'e_unit' says that 'E' is in kcal/mol, but it is read in eV, Angstrom, which is 23.0605 times as "
        "much"
    )
    assert error.value.advice.startswith("declare it: 'data.units={energy: kcal/mol, forces: kcal/mol/Angstrom}'")
    reading = read(file, units={"energy": "kcal/mol"})
    assert reading.label_names == {"total_energy": ["E"], "forces": ["F"]}
    assert stacked(reading, "total_energy").tolist() == (E * KCAL).tolist()
    assert stacked(reading, "forces").tolist() == (F * KCAL).tolist()


def test_units_of_sgdml_without_energies(save):
    arrays = {"z": Z, "R": R, "F": F}
    file = save(**arrays, e_unit=np.array("kcal/mol"), r_unit=np.array("Ang"))
    with pytest.raises(
        DataError, match="its 'e_unit' and 'r_unit' say that 'F' is in kcal/mol/Ang, but it is read in eV"
    ):
        read(file)
    with pytest.raises(DataError, match="its 'e_unit' says that 'F' is in kcal/mol/Angstrom, but it is read in eV"):
        read(save(**arrays, e_unit=np.array("kcal/mol")))
    assert len(read(save(**arrays, e_unit=np.array(b"eV"), r_unit=np.array("Ang")))) == 4


def test_units_in_a_file_of_one_frame(save):
    one = {"z": Z, "R": R[:1], "E": E[:1], "F": F[:1]}
    reading = read(save(**one, e_unit=["kcal/mol"], r_unit=["Ang"]), units={"energy": "kcal/mol"})
    assert stacked(reading, "total_energy").tolist() == (E[:1] * KCAL).tolist()


def test_lengths_of_sgdml(save):
    file = sgdml(save, e_unit="eV", r_unit="Bohr")
    with pytest.raises(DataError, match="its 'r_unit' says that 'positions' is in Bohr"):
        read(file)
    reading = read(file, units={"length": "Bohr"})
    np.testing.assert_allclose(stacked(reading, "pos"), R * 0.5291772105638411, rtol=1e-14)
    np.testing.assert_allclose(stacked(reading, "forces"), F / 0.5291772105638411, rtol=1e-14)


def test_atomic_units_of_sgdml(save):
    reading = read(sgdml(save, e_unit="au", r_unit="au"), units={"energy": "Hartree", "length": "Bohr"})
    np.testing.assert_allclose(stacked(reading, "forces"), F * 27.211386024367243 / 0.5291772105638411, rtol=1e-14)


def test_cells_rows_and_columns(save):
    cell = np.array([[5.0, 1.0, 0.0], [0.0, 6.0, 0.0], [0.0, 0.5, 7.0]])
    for name, positions, expected in (("cell", "positions", cell), ("lattice", "pos", cell), ("lattice", "R", cell.T)):
        (first, *_) = read(save(**{"z": Z, positions: R, "energy": E, name: cell})).frames
        assert first["cell"][0].tolist() == expected.tolist()
        assert first["pbc"].tolist() == [[True, True, True]]


def test_a_cell_a_periodicity_and_species_of_each_frame(save):
    cells = np.stack([np.diag([5.0, 6.0, 7.0 + i]) for i in range(4)])
    pbc = np.array([[True, True, bool(i % 2)] for i in range(4)])
    numbers = np.array([[8, 1, 1], [16, 1, 1], [8, 1, 9], [8, 1, 1]])
    stress = RNG.normal(size=(4, 6))
    reading = read(save(atomic_numbers=numbers, coordinates=R, cell=cells, pbc=pbc, energy=E, stress=stress))
    assert stacked(reading, "cell").tolist() == cells.tolist()
    assert stacked(reading, "pbc").tolist() == pbc.tolist()
    assert [frame["atomic_numbers"].tolist() for frame in reading.frames] == numbers.tolist()
    assert stacked(reading, "stress")[:, 1, 2].tolist() == stress[:, 3].tolist()
    flat = read(save(atomic_numbers=numbers, pos=R, cell=np.diag([5.0, 6.0, 0.0]), energy=E))
    assert flat.frames[0]["pbc"].tolist() == [[True, True, False]]
    assert not read(save(numbers=numbers, pos=R, cell=np.eye(3), pbc=False, energy=E)).frames[0]["pbc"].any()


def test_names_that_are_declared(save):
    file = save(z=Z, R=R, E=E, E_dft=E - 1, my_forces=F, other=F + 1)
    mapping = {"E_dft": "total_energy", "my_forces": "forces"}
    reading = read(file, key_mapping=mapping)
    assert stacked(reading, "total_energy").tolist() == (E - 1).tolist()
    assert stacked(reading, "forces").tolist() == F.tolist()  # of three atoms, where a tensor has the same shape


def test_energies_of_atoms(save):
    reading = read(save(z=Z, R=R, E=E, energies=np.stack([E, E, E], axis=1)))
    assert reading.label_names == {"total_energy": ["E"], "atomic_energy": ["energies"]}


def test_other_orders_of_bytes_and_of_memory(save):
    file = save(z=Z.astype(">i4"), R=np.asfortranarray(R.astype(">f4")), E=E.astype(">f8"), forces=np.asfortranarray(F))
    reading = read(file, index="1:")
    assert stacked(reading, "pos").tolist() == R[1:].astype(np.float32).astype(float).tolist()
    assert stacked(reading, "forces").tolist() == F[1:].tolist()
    assert reading.origins[0] == f"{file} frame 1"


def test_two_names_for_one_label(save):
    with pytest.raises(DataError, match="2 names could be the label 'total_energy': E, energy"):
        read(save(z=Z, R=R, E=E, energy=E))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"R": R, "E": E}, r"a\.npz has no atomic numbers; its arrays are R, E"),
        ({"z": Z, "E": E}, r"a\.npz has no positions; its arrays are z, E"),
        ({}, r"a\.npz has no positions; its arrays are none"),
        ({"z": Z, "R": R, "coords": R}, "R and coords could both be the positions"),
        ({"z": Z, "R": R[0]}, r"the array 'R' has the shape \(3, 3\)"),
        ({"z": Z[:2], "R": R}, r"the array 'z' has the shape \(2,\)"),
        ({"z": Z, "R": R, "cell": np.ones(3)}, r"the array 'cell' has the shape \(3,\)"),
        ({"z": Z, "R": R, "energy": E[:3]}, r"the array 'energy' has the shape \(3,\), but the file has 4 frames"),
        ({"z": Z, "R": R, "F": F.reshape(12, 3)}, r"the array 'F' has the shape \(12, 3\), but the file has 4 frames"),
        ({"z": [[8, 1, 1]] * 3 + [[8, 1, 0]], "R": R}, "frame 3: an atomic number is 0, as where frames"),
        ({"z": Z + 0.5, "R": R}, "frame 0: its atomic numbers are of type float64"),
        ({"z": [8, 1, 200], "R": R}, "frame 0: atom 2 has the atomic number 200"),
        ({"z": Z, "R": R[:0]}, r"a\.npz holds no frames"),
        ({"z": Z, "R": np.full((4, 3, 3), "x")}, r"cannot read .*a\.npz, frame 0: "),
        ({"z": Z, "R": R + 1j}, "the array 'R' holds values of type complex128"),
    ],
)  # fmt: skip
def test_what_is_no_data_set(save, arrays, message):
    with pytest.raises(DataError, match=message):
        read(save(**arrays))


class Opened:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was opened')",)


def test_objects_are_not_opened(save, tmp_path):
    with pytest.raises(DataError, match="the array 'R' holds Python objects, which are not opened"):
        read(save(z=Z, R=np.array([Opened()], dtype=object)))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("R.npy", pickle.dumps(Opened()))
    with pytest.raises(DataError, match="the array 'R' is no array of NumPy"):
        read(tmp_path / "b.npz")


def header(shape):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("shape", ["(10**12, 3, 3)", "(1000000000000, 3, 3)", "(-2, -1, 0)", "(-1,)", "(0.5,)", "4"])
def test_a_shape_that_is_not_that_of_the_content_takes_no_memory(tmp_path, shape):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("R.npy", header(shape) + bytes(72))
        archive.writestr("z.npy", header("(1,)") + bytes(8))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"a\.npz: the array 'R'"):
        read_atoms(tmp_path / "a.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 21


def test_one_array_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("R.npy", header("(0,)"))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("R.npy", header("(0,)"))
    with pytest.raises(DataError, match="holds two arrays named 'R'"):
        read_atoms(tmp_path / "a.npz")


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_file_that_is_cut_off_is_one_error_with_its_name(tmp_path, data):
    stream = io.BytesIO()
    np.savez_compressed(stream, z=Z, R=R, E=E, F=F)
    whole = stream.getvalue()
    path = tmp_path / "a.npz"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(DataError, match=r"a\.npz"):
        read(path)
