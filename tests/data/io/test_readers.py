import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nequip_like.data.fields import FIELDS
from nequip_like.data.io.readers import read, read_frames
from nequip_like.errors import DataError

WATER = """3
{comment}
O 0.0 0.0 0.0 {o}
H 0.96 0.0 0.0 {h}
H -0.24 0.93 0.0 {h}
"""


def water(comment, o="", h=""):
    return WATER.format(comment=comment, o=o, h=h)


def test_fields_of_a_molecule(write_text):
    file = write_text(
        "w.xyz", water("Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5", "0.1 0.2 0.3", "-0.05 -0.1 -0.15")
    )
    (graph,) = read_frames(file)
    assert graph["pos"][1].tolist() == [0.96, 0.0, 0.0]
    assert graph["cell"].tolist() == torch.zeros(1, 3, 3).tolist()
    assert graph["pbc"].tolist() == [[False, False, False]]
    assert graph["atomic_numbers"].tolist() == [8, 1, 1]
    assert graph["num_atoms"].tolist() == [3]
    assert graph["frame_index"].tolist() == [0]
    assert graph["total_energy"].tolist() == [[-1.5]]
    assert graph["forces"][0].tolist() == [0.1, 0.2, 0.3]
    assert set(graph) == {"pos", "cell", "pbc", "atomic_numbers", "num_atoms", "frame_index", "total_energy", "forces"}
    for name, value in graph.items():
        assert value.dtype == FIELDS[name].dtype


def test_missing_labels_are_nan_in_their_frame(write_text):
    text = water("Properties=species:S:1:pos:R:3:force:R:3 energy=-1.5", "0 0 0", "0 0 0") + water("energy=-2")
    text += water("weight=2.0")
    first, second, third = read_frames(write_text("w.xyz", text))
    assert first.keys() == second.keys() == third.keys()
    assert torch.isnan(second["forces"]).all()
    assert second["forces"].shape == (3, 3)
    assert third["total_energy"].isnan().tolist() == [[True]]
    assert [frame["frame_weight"].item() for frame in (first, second, third)] == [1.0, 1.0, 2.0]


def test_weights_of_atoms(write_text):
    text = water("Properties=species:S:1:pos:R:3:weight:R:1 weight=0.5", "2", "1")
    (graph,) = read_frames(write_text("w.xyz", text))
    assert graph["frame_weight"].tolist() == [[0.5]]
    assert graph["atom_weight"].tolist() == [[2.0], [1.0], [1.0]]


def test_virial_becomes_stress(write_text):
    text = water('Lattice="10 0 0 0 10 0 0 0 5" virial="1 0 2 0 3 0 2 0 5"')
    (graph,) = read_frames(write_text("w.xyz", text))
    assert "virial" not in graph
    expected = -torch.tensor([[1.0, 0, 2], [0, 3, 0], [2, 0, 5]], dtype=torch.float64) / 500
    torch.testing.assert_close(graph["stress"][0], expected)


@pytest.mark.parametrize(
    "value",
    ['"1 2 3 4 5 6"', '"1 6 5 6 2 4 5 4 3"', '"_JSON [[1, 6, 5], [6, 2, 4], [5, 4, 3]]"'],
    ids=["voigt", "nine", "matrix"],
)
def test_three_ways_to_write_a_stress(write_text, value):
    file = write_text("w.xyz", water(f'Lattice="5 0 0 0 5 0 0 0 5" dft_stress={value}'))
    (graph,) = read_frames(file)
    assert graph["stress"].tolist() == [[[1, 6, 5], [6, 2, 4], [5, 4, 3]]]


def test_stress_of_ase_results(write, labelled):
    atoms = labelled(bulk("Cu"), energy=1.0, stress=np.array([1.0, 2, 3, 4, 5, 6]))
    for name in ("a.xyz", "a.traj", "a.db"):
        (graph,) = read_frames(write(name, [atoms]))
        assert graph["stress"].tolist() == [[[1, 6, 5], [6, 2, 4], [5, 4, 3]]]


def test_stress_needs_a_periodic_cell(write_text):
    text = water('Lattice="5 0 0 0 5 0 0 0 5" pbc="F F F" energy=1 virial="1 0 0 0 1 0 0 0 1"')
    reading = read(write_text("w.xyz", text))
    assert "stress" not in reading.frames[0]
    assert "1 frames left out" in reading.notes[0]
    assert reading.frames[0]["cell"][0, 0, 0] == 5.0


def test_contradicting_stress_and_virial(write_text):
    text = water('Lattice="10 0 0 0 10 0 0 0 10" stress="1 0 0 0 1 0 0 0 1" virial="{0} 0 0 0 {0} 0 0 0 {0}"')
    (graph,) = read_frames(write_text("same.xyz", text.replace("{0}", "-1000")))
    assert graph["stress"][0, 0, 0] == 1.0
    with pytest.raises(DataError, match="contradict") as error:
        read_frames(write_text("other.xyz", text.replace("{0}", "1000")))
    assert "other.xyz frame 0" in error.value.message


def test_asymmetric_stress_is_refused(write_text):
    # Under the name `stress` ASE keeps one triangle only, and nobody can tell.
    file = write_text("v.xyz", water('Lattice="5 0 0 0 5 0 0 0 5" dft_virial="1 2 0 0 1 0 0 0 1"'))
    with pytest.raises(DataError, match="not symmetric"):
        read_frames(file)


def test_forces_are_the_labels_whatever_the_constraints(write, labelled):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    atoms.set_constraint(FixAtoms([0]))
    forces = np.array([[0, 0, 1.0], [0, 0, -1.0]])
    for name in ("a.xyz", "a.traj", "a.db"):
        (graph,) = read_frames(write(name, [labelled(atoms, energy=1.0, forces=forces)]))
        assert graph["forces"].tolist() == forces.tolist()


def test_energy_is_preferred_to_free_energy(write, labelled):
    file = write("a.traj", [labelled(Atoms("H"), energy=1.0, free_energy=2.0)])
    assert read_frames(file)[0]["total_energy"].item() == 1.0


def test_units_are_converted(write_text):
    text = water("Properties=species:S:1:pos:R:3:forces:R:3 energy=2.0 Lattice='9 0 0 0 9 0 0 0 9'", "1 0 0", "0 0 0")
    text = text.replace("'", '"').replace("energy", 'virial="729 0 0 0 729 0 0 0 729" energy')
    (graph,) = read_frames(write_text("w.xyz", text), units={"energy": "Hartree", "length": "Bohr"})
    assert graph["total_energy"].item() == pytest.approx(2 * 27.211386, rel=1e-6)
    assert graph["forces"][0, 0].item() == pytest.approx(51.422067, rel=1e-6)
    assert graph["cell"][0, 0, 0].item() == pytest.approx(9 * 0.529177, rel=1e-6)
    assert graph["pos"][1, 0].item() == pytest.approx(0.96 * 0.529177, rel=1e-6)
    assert graph["stress"][0, 0, 0].item() == pytest.approx(-27.211386 / 0.529177**3, rel=1e-5)


def test_a_label_has_a_unit_of_its_own(write_text):
    columns = "Properties=species:S:1:pos:R:3:dft_forces:R:3 dft_energy=-76.4"
    file = write_text("w.xyz", water(columns, "-0.0083 0.0445 0", "0.00415 -0.02225 0"))
    (graph,) = read_frames(file, units={"energy": "Hartree", "forces": "Hartree/Bohr"})
    assert graph["total_energy"].item() == pytest.approx(-76.4 * 27.211386246, rel=2e-8)
    assert graph["forces"][0].tolist() == pytest.approx([-0.426803160, 2.288282003, 0.0], rel=2e-8)
    assert graph["pos"][1].tolist() == [0.96, 0.0, 0.0]


def test_units_of_each_file(write_text):
    cell = 'Lattice="5 0 0 0 5 0 0 0 5" energy=-1.0 dft_stress="{0} 0 0 0 {0} 0 0 0 {0}"'
    for unit, value in (("GPa", 160.21766208), ("kbar", 1602.1766208), ("Hartree/Bohr^3", 160.21766208 / 29421.01569)):
        (graph,) = read_frames(write_text("a.xyz", water(cell.format(value))), units={"stress": unit})
        assert graph["stress"][0, 0, 0].item() == pytest.approx(1.0, rel=1e-6)
        assert graph["total_energy"].item() == -1.0


def test_notes_on_units(write_text):
    file = write_text("w.xyz", water('Lattice="9 0 0 0 9 0 0 0 9" virial="1 0 0 0 1 0 0 0 1"'))
    assert read(file, units={"stress": "GPa"}).notes == [
        f"{file}: the unit GPa of 'stress' is not used, no label 'stress' was read; 'virial' is read in eV"
    ]
    file = write_text("f.xyz", water("Properties=species:S:1:pos:R:3:forces:R:3 energy=2.0", "1 0 0", "-0.5 0 0"))
    with pytest.raises(DataError, match="energies are in Hartree, but the unit of 'forces' is declared nowhere"):
        read(file, units={"energy": "Hartree"})


def test_key_mapping_wins_and_is_checked(write_text):
    file = write_text("w.xyz", water("energy=1 dft_energy=2"))
    assert read_frames(file, key_mapping={"dft_energy": "total_energy"})[0]["total_energy"].item() == 2.0
    with pytest.raises(DataError, match="declare which one"):
        read_frames(file)
    with pytest.raises(DataError, match="did you mean 'dft_energy'"):
        read_frames(file, key_mapping={"DFT_energy": "total_energy"})


def test_declared_name_may_be_absent_in_one_of_several_files(write_text):
    files = [write_text("a.xyz", water("E0=1")), write_text("b.xyz", water("energy=2"))]
    first, second = read_frames(files, key_mapping={"E0": "total_energy"})
    assert first["total_energy"].item() == 1.0
    assert torch.isnan(second["total_energy"]).all()


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("energy=nan", "not a finite number"),
        ("energy=inf", "not a finite number"),
        ("energy=high", "no number"),
        ('energy="1 2"', "has shape"),
        ("weight=-1", "negative"),
        ('pbc="T T T"', "does not span the periodic directions"),
        ('Lattice="1 0 0 2 0 0 0 0 1"', "does not span the periodic directions"),
    ],
)
def test_values_that_cannot_be_right(write_text, comment, expected):
    file = write_text("w.xyz", water("") + water(comment))
    with pytest.raises(DataError, match=expected) as error:
        read_frames(file)
    assert "w.xyz frame 1" in error.value.message
    assert error.value.advice


def test_atoms_that_cannot_be_right(write_text):
    with pytest.raises(DataError, match="position of atom 1"):
        read_frames(write_text("a.xyz", water("").replace("0.96", "nan")))
    with pytest.raises(DataError, match="no chemical element"):
        read_frames(write_text("b.xyz", water("").replace("O", "X")))


def test_index_keeps_the_position_in_the_file(write, molecules):
    file = write("m.xyz", molecules(10))
    reading = read(file, index="-3:")
    assert [origin.split()[-1] for origin in reading.origins] == ["7", "8", "9"]
    assert [frame["total_energy"].item() for frame in reading.frames] == [-7, -8, -9]
    assert [frame["frame_index"].item() for frame in reading.frames] == [0, 1, 2]
    assert len(read_frames(file, index="::4")) == 3
    assert len(read_frames(file, index=-1)) == 1
    with pytest.raises(DataError, match="chooses none of its 10 frames"):
        read_frames(file, index="20:")
    with pytest.raises(DataError, match="cannot be understood"):
        read_frames(file, index="first")


def test_several_files_and_patterns(write, molecules, tmp_path, monkeypatch):
    write("b.xyz", molecules(2))
    write("a.xyz", molecules(3))
    monkeypatch.chdir(tmp_path)
    reading = read("*.xyz")
    assert [path.name for path in reading.files] == ["a.xyz", "b.xyz"]
    assert reading.origins[3] == "b.xyz frame 0"
    assert [frame["frame_index"].item() for frame in reading.frames] == [0, 1, 2, 3, 4]


def test_missing_and_broken_files(tmp_path, write_text):
    with pytest.raises(DataError, match=str(tmp_path / "none.xyz")):
        read_frames(tmp_path / "none.xyz")
    with pytest.raises(DataError, match="is a folder"):
        read_frames(tmp_path)
    with pytest.raises(DataError, match="frame 0 is cut off"):
        read_frames(write_text("cut.xyz", "3\nenergy=1\nO 0 0 0\n"))
    with pytest.raises(DataError, match="is empty"):
        read_frames(write_text("empty.xyz", ""))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 300, "cannot read xxx"),
        ("x" * 5000, "xxx...: File name too long"),
        ("a\x00b.xyz", "no such file"),
        ("~nobody-of-this-name/a.xyz", "/~nobody-of-this-name/a.xyz"),
        ("", "is a folder"),
        ("/dev/null", "no files match /dev/null"),
    ],
)
def test_names_that_are_no_files(name, message):
    with pytest.raises(DataError) as error:
        read_frames(name)
    assert message in error.value.message


def test_a_file_that_may_not_be_read(write_text, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    for name, opener in (("a.xyz", "nequip_like.data.io.formats.open_with_compression"), ("a.traj", "ase.io.iread")):
        file = write_text(name, water("energy=1"))
        monkeypatch.setattr(opener, refuse)
        with pytest.raises(DataError, match=rf"cannot read \S+/{name}.*Permission denied"):
            read_frames(file)


def test_name_with_an_at_sign(write_text):
    assert len(read_frames(write_text("a@2.xyz", water("energy=1")))) == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_read_back(tmp_path, labelled, data):
    numbers = st.floats(-50, 50, allow_nan=False).map(lambda x: round(x, 6))
    frames = []
    for _ in range(data.draw(st.integers(1, 3))):
        size = data.draw(st.integers(1, 5))
        elements = data.draw(st.lists(st.integers(1, 118), min_size=size, max_size=size))
        positions = data.draw(arrays(float, (size, 3), elements=numbers))
        pbc = data.draw(st.lists(st.booleans(), min_size=3, max_size=3))
        atoms = Atoms(elements, positions, cell=[7.0, 8.0, 9.0], pbc=pbc)
        results = {"energy": data.draw(numbers), "forces": data.draw(arrays(float, (size, 3), elements=numbers))}
        frames.append(labelled(atoms, **results))
    ase.io.write(tmp_path / "h.xyz", frames)
    for atoms, graph in zip(frames, read_frames(tmp_path / "h.xyz"), strict=True):
        assert graph["atomic_numbers"].tolist() == atoms.numbers.tolist()
        np.testing.assert_allclose(graph["pos"].numpy(), atoms.positions, atol=1e-8)
        np.testing.assert_allclose(graph["forces"].numpy(), atoms.calc.results["forces"], atol=1e-8)
        assert graph["total_energy"].item() == pytest.approx(atoms.calc.results["energy"])
        assert graph["pbc"][0].tolist() == atoms.pbc.tolist()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("energy", "'energy' is True, which is no number"),
        ("energy=nan", "'energy' is not a finite number"),
        ("energy=-inf", "'energy' is not a finite number"),
        ('energy="1 2"', "'energy' has shape (2,), but 'total_energy' of this frame needs shape (1, 1)"),
        ("energy=none", "'energy' is 'none', which is no number"),
        (f"energy={'9' * 400}", "'energy' is not a finite number"),
    ],
)
def test_energies_that_are_none(write_text, value, message):
    with pytest.raises(DataError, match=r"w\.xyz frame 0") as error:
        read_frames(write_text("w.xyz", water(value)))
    assert message in error.value.message


def test_nan_is_missing_only_as_a_whole(write_text):
    head = "Properties=species:S:1:pos:R:3:forces:R:3 energy=1"
    (graph,) = read_frames(write_text("w.xyz", water(head, "nan nan nan", "0 0 0")))
    assert torch.isnan(graph["forces"]).all(dim=1).tolist() == [True, False, False]
    with pytest.raises(DataError, match=r"w.xyz frame 0: 'forces' of atom 1 is not a number \(NaN\) in a part"):
        read_frames(write_text("w.xyz", water(head, "nan nan nan", "0 nan 0")))
    cell = 'Lattice="5 0 0 0 5 0 0 0 5" virial='
    (graph,) = read_frames(write_text("w.xyz", water(cell + '"' + " ".join(["nan"] * 9) + '" energy=1')))
    assert torch.isnan(graph["stress"]).all()
    with pytest.raises(DataError, match=r"'virial' is not a number \(NaN\) in a part"):
        read_frames(write_text("w.xyz", water(cell + '"nan 0 0 0 1 0 0 0 1" energy=1')))
