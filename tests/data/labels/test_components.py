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
    assert find_lone_components(
        ["dft_fx", "fx", "fz", "prefix", "suffix", "forces_x", "forces_y", "forces_z", "forces_x forces_y forces_z"]
    ) == [
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


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            "fx:R:1:fy:R:1:fz:S:1",
            "'fx', 'fy', 'fz' not read as forces: not all of them are columns of numbers, such as fx:R:1",
        ),
        (
            "f1:R:1:f2:R:1:f3:R:1",
            "'f1 f2 f3' is not read; if it is the label 'forces', write 'data.key_mapping={f1 f2 f3: forces}'",
        ),
        (
            "grad_x:R:1:grad_y:R:1:grad_z:R:1",
            "'grad_x grad_y grad_z' is not read: if it is the gradient of the energy, write its negative into the file "
            "as 'forces'",
        ),
    ],
)
def test_columns_that_could_be_forces_are_told_of(write_text, columns, said):
    file = write_text("w.xyz", f"2\nProperties=species:S:1:pos:R:3:{columns} energy=-1.0\n{ROWS}")
    assert read(file).notes == [f"{file}: {said}"]


def test_components_of_a_stress_are_told_of_with_what_works(write_text):
    six = "stress_xx=1 stress_yy=2 stress_zz=3 stress_yz=4 stress_xz=5 stress_xy=6"
    head = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.0'
    file = write_text("w.xyz", f"2\n{head} {six}\n{ROWS}")
    (note,) = read(file).notes
    assert note == (
        f"{file}: 'stress_xx', 'stress_xy', 'stress_xz', 'stress_yy', 'stress_yz', 'stress_zz' not read: components of "
        'a stress or virial are read as one value; write all nine, stress="xx xy xz yx yy yz zx zy zz"'
    )


def test_fractional_positions_are_not_proposed_as_forces(write_text):
    head = "Properties=species:S:1:pos:R:3:frac_pos:R:3 energy=-1.0"
    assert read(write_text("w.xyz", f"2\n{head}\n{ROWS}")).notes == []
