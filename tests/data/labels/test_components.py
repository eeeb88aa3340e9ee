import numpy as np
import pytest

from nequip_like.data.io.readers import read
from nequip_like.data.labels.components import add_vectors, find_lone_components

X, Y, Z = np.array([1.0, 4.0]), np.array([2.0, 5.0]), np.array([3.0, 6.0])
VECTORS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


@pytest.mark.parametrize(
    "names",
    [
        ("fx", "fy", "fz"),
        ("F_x", "F_y", "F_z"),
        ("dft_fx", "dft_fy", "dft_fz"),
        ("forces_x", "forces_y", "forces_z"),
        ("f_ave[1]", "f_ave[2]", "f_ave[3]"),
    ],
)
def test_three_columns_are_vectors(names):
    x, y, z = names
    together = add_vectors({z: Z, x: X, "energies": X, y: Y})
    assert together[f"{x} {y} {z}"].tolist() == VECTORS
    assert len(together) == 5


@pytest.mark.parametrize(
    "names", [("vx", "vy", "vz"), ("fx", "fy"), ("c_s[1]", "c_s[2]", "c_s[3]", "c_s[4]"), ("x", "y", "z")]
)
def test_what_is_no_force(names):
    assert list(add_vectors(dict.fromkeys(names, X))) == list(names)


def test_components_that_stand_alone():
    assert find_lone_components(["dft_fx", "fx", "fz", "prefix", "suffix", "forces_x", "forces_y", "forces_z"]) == [
        "'dft_fx' not read: forces have three components, and there is none along y and z",
        "'fx' and 'fz' not read: forces have three components, and there is none along y",
    ]


ROWS = "O 0 0 0 1 2 3\nH 1 0 0 4 5 6\n"


def test_columns_of_extended_xyz(write_text):
    head = 'Properties=species:S:1:pos:R:3:fx:R:1:fy:R:1:{}:R:1 pbc="F F F" energy=-1.0'
    reading = read(write_text("w.xyz", f"2\n{head.format('fz')}\n{ROWS}"))
    assert reading.label_names == {"total_energy": ["energy"], "forces": ["fx fy fz"]}
    assert reading.frames[0]["forces"].tolist() == VECTORS
    assert reading.notes == []
    assert list(reading.annotations[0].arrays) == ["fx", "fy", "fz"]
    file = write_text("v.xyz", f"2\n{head.format('q')}\n{ROWS}")
    assert read(file).notes == [
        f"{file}: 'fx' and 'fy' not read: forces have three components, and there is none along z"
    ]


def test_columns_of_a_dump(write_text):
    head = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n" + "0 9\n" * 3
    rows = "1 O 0 0 0 1 2 3\n2 H 1 0 0 4 5 6\n"
    file = write_text("a.lammpstrj", f"{head}ITEM: ATOMS id element x y z f_a[1] f_a[2] f_a[3]\n{rows}")
    (note,) = read(file).notes
    assert note.startswith(f"{file}: 'f_a[1] f_a[2] f_a[3]' is not read; if it is the label 'forces', write ")
    (graph,) = read(file, key_mapping={"f_a[1] f_a[2] f_a[3]": "forces"}).frames
    assert graph["forces"].tolist() == VECTORS
    file = write_text("b.lammpstrj", f"{head}ITEM: ATOMS id element x y z fx fy q\n{rows}")
    assert read(file).notes == [
        f"{file}: 'fx' and 'fy' not read: forces have three components, and there is none along z"
    ]
