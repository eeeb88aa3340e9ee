"""Outputs of programs: several in one file, and unfinished ones."""

import gzip

import pytest

from nequip_like.data.io.file_formats import FORMATS
from nequip_like.data.io.outputs import drop_unfinished_line, split_parts
from nequip_like.data.io.readers import read
from nequip_like.errors import DataError
from tests.data.format_samples import (
    FORCES,
    HARTREE,
    MINUS,
    VASP_STRESS,
    dump,
    gaussian,
    gpaw,
    orca,
    outcar,
    pwscf,
    vasprun,
)

WATER = outcar(("O", "H"), [(-14.25, FORCES, VASP_STRESS)])
FLUORIDE = outcar(("S", "F"), [(-9.75, MINUS, VASP_STRESS)])


def energies(reading):
    return [frame["total_energy"].item() for frame in reading.frames]


def species(reading):
    return [frame["atomic_numbers"].tolist() for frame in reading.frames]


def test_parts_and_their_lines():
    parts = split_parts((WATER + FLUORIDE).encode(), FORMATS["vasp-out"])
    assert [part.line for part in parts] == [1, WATER.count("\n") + 1]
    assert parts[1].content.decode() == FLUORIDE
    assert len(split_parts(b"nothing", FORMATS["vasp-out"])) == 1


@pytest.mark.parametrize("name", ["OUTCAR_all", "all.OUTCAR", "joined", "joined.out", "all.outcar", "all.dat.gz"])
def test_outputs_of_vasp_under_any_name(name, tmp_path):
    """ASE goes by the name: it reads joined.out as one of Quantum ESPRESSO's, and others not at all."""
    xml = vasprun(("O", "H", "H"), [(-14.5, FORCES)])
    for text, expected in ((WATER + FLUORIDE, [-14.25, -9.75]), (xml, [-14.5])):
        content = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        assert energies(read(tmp_path / name)) == expected


def test_a_last_line_without_an_end():
    assert drop_unfinished_line(b"a\nb\n-10.2") == b"a\nb\n"
    assert drop_unfinished_line(b"a\n") == b"a\n"
    assert drop_unfinished_line(b"a") == b""


def test_a_second_header_without_its_first_line(write_text):
    """As when the head of each file was cut away before they were joined."""
    text = WATER + FLUORIDE.partition("\n")[2]
    with pytest.raises(DataError) as error:
        read(write_text("OUTCAR", text))
    line = WATER.count("\n") + FLUORIDE[: FLUORIDE.index("ions per type")].count("\n")
    assert error.value.message.endswith(
        f"OUTCAR: a second header stands in line {line}, in the middle of an output: atoms may be others there"
    )
    assert text.splitlines()[line - 1] == "   ions per type =               1   2"


def test_three_outputs_of_which_the_middle_one_is_cut_off(write_text):
    cut = FLUORIDE[: FLUORIDE.index("  energy  without")]
    reading = read(write_text("OUTCAR", WATER + cut + WATER))
    assert species(reading) == [[8, 1, 1], [8, 1, 1]]
    (note,) = reading.notes
    line = WATER.count("\n") + cut[: cut.index("Iteration")].count("\n") + 1
    assert note.endswith(f"the last structure, which begins in line {line}, is unfinished and left out")


def test_a_last_number_that_lost_its_digits_is_not_read(write_text):
    text = WATER[: WATER.index("-14.25000000", WATER.index("sigma")) + 5]
    assert text.endswith("-14.2")
    with pytest.raises(DataError, match="holds no finished calculation; it was read as VASP OUTCAR"):
        read(write_text("OUTCAR", text))


def test_files_beside_an_output_are_not_read(write_text):
    write_text("POSCAR", "no structure\n")
    assert energies(read(write_text("OUTCAR", WATER))) == [-14.25]


def test_vasprun_joined_with_itself(write_text):
    """ASE's reader of XML stops after the first."""
    text = vasprun(("O", "H", "H"), [(-14.25, FORCES)])
    assert energies(read(write_text("vasprun.xml", text + text.replace("-14.25", "-14.75")))) == [-14.25, -14.75]


def test_gaussian_jobs_after_the_first(write_text):
    """ASE's reader stops at the first archive entry."""
    first, second = gaussian([8, 1, 1], -76.25, FORCES), gaussian([8, 1, 1], -76.5, FORCES)
    link = second[second.index(" Entering Link 1") :]  # --Link1-- jobs have no header of their own
    reading = read(write_text("a.log", first + link))
    assert energies(reading) == pytest.approx([-76.25 * HARTREE, -76.5 * HARTREE], rel=1e-12)
    assert reading.notes == []


def test_gaussian_forces_along_other_axes(write_text):
    with pytest.raises(DataError, match="its positions stand in Gaussian's standard orientation only") as error:
        read(write_text("a.log", gaussian([8, 1, 1], -76.25, FORCES, axes="Standard")))
    assert "nosymm" in error.value.advice


def test_gpaw_after_an_unfinished_output(write_text):
    """ASE's reader leaves out all that follows a structure without an energy."""
    first, last = gpaw(["O", "H", "H"], -14.25, FORCES), gpaw(["S", "F", "F"], -9.75, MINUS)
    cut = first[: first.index("Energy contributions")]
    reading = read(write_text("a.txt", first + cut + last))
    assert energies(reading) == [-14.25, -9.75]
    assert reading.notes[0].endswith("is unfinished and left out")


def test_orca_optimization_that_was_stopped(write_text):
    step = orca(["O", "H", "H"], -76.25, FORCES).replace(
        "                             ****ORCA TERMINATED NORMALLY****\n", ""
    )
    turn = "ORCA SCF GRADIENT CALCULATION\n         *                ORCA GEOMETRY RELAXATION STEP               *\n"
    second = step[step.index("---------------------------------\nCART") :].replace("-76.25", "-76.50")
    reading = read(write_text("a.out", step + turn + second))
    assert energies(reading) == pytest.approx([-76.25 * HARTREE], rel=1e-12)
    assert reading.notes[0].endswith("is unfinished and left out")


def test_espresso_relaxation_and_dynamics_that_ended(write_text):
    """The positions that are printed last have no results, and nothing is missing."""
    run = pwscf(["O", "H", "H"], -34.5, FORCES, -34.75)
    positions = "ATOMIC_POSITIONS (angstrom)\nO 0.0 0.0 0.0\nH 0.96 0.0 0.0\nH -0.24 0.93 0.0\n"
    relaxed = run.replace("   JOB", f"Begin final coordinates\n\n{positions}End final coordinates\n\n   JOB")
    moved = run.replace("   JOB", f"\n{positions}\n     The maximum number of steps has been reached.\n\n   JOB")
    for text in (relaxed, moved, relaxed.replace("   JOB DONE.\n", "")):
        reading = read(write_text("pw.out", text))
        assert len(reading.frames) == 2
        assert reading.notes == []


def test_espresso_that_did_not_converge(write_text):
    run = pwscf(["O", "H", "H"], -34.5, FORCES, -34.75)
    begin = run.rindex("!    total energy")
    text = run[:begin] + "     convergence NOT achieved after 100 iterations: stopping\n\n   JOB DONE.\n"
    reading = read(write_text("pw.out", text))
    assert len(reading.frames) == 1
    assert reading.notes[0].endswith(
        "1 structures without any label are left out, as of a calculation that did not converge"
    )


def test_a_damaged_structure_of_a_finished_output_is_an_error(write_text):
    run = pwscf(["O", "H", "H"], -34.5, FORCES, -34.75)
    with pytest.raises(DataError, match="cannot read"):
        read(write_text("pw.out", run.replace("-34.75000000 Ry", "*********** Ry")))


def test_declared_units_of_an_output_are_refused(write_text):
    """ASE's readers bring outputs to eV and Angstrom; a factor would come twice."""
    file = write_text("a.out", orca(["O", "H", "H"], -76.25, FORCES))
    with pytest.raises(DataError) as error:
        read(file, units={"energy": "Hartree"})
    assert error.value.message.endswith(
        "a.out: in ORCA output, 'energy' is in eV, but it is read in Hartree, Angstrom, which is 27.2114 times as much"
    )
    assert energies(read(file, units={"energy": "eV"})) == pytest.approx([-76.25 * HARTREE])


def test_calculations_that_did_not_converge(write_text):
    steps = [(-14.25, FORCES, VASP_STRESS), (-14.5, MINUS, VASP_STRESS)]
    said = " The electronic self-consistency was not achieved in the given number of steps (NELM)\n"
    two = outcar(("O", "H"), steps)
    text = WATER + two[: two.rindex("  FREE ENERGIE")] + said + two[two.rindex("  FREE ENERGIE") :]
    file = write_text("OUTCAR", text)
    line = text[: text.index("The electronic self")].count("\n") + 1
    assert read(file).notes == [
        f"{file}: not converged (frame 2, line {line}: 'self-consistency was not achieved'); the labels may be wrong "
        "there"
    ]
    text = gaussian([8, 1, 1], -76.0, FORCES).replace("10 cycles\n", "10 cycles\n Convergence criterion not met\n")
    (note,) = read(write_text("a.log", text)).notes
    assert "not converged (line 17: 'Convergence criterion not met')" in note
    end = "     End of self-consistent calculation"
    text = pwscf(["O", "H", "H"], -30.0, FORCES, -31.0)
    text = text.replace(end, "     convergence NOT achieved after 100 iterations: stopping", 1)
    (note,) = read(write_text("pw.out", text)).notes
    assert "not converged (frame 0, line" in note


def test_the_last_row_of_a_file_without_an_end(write_text):
    """An editor leaves the end out, and so does a copy that stopped within a number."""
    text = "2\nenergy=-1.0\nO 0 0 0\nH 0 0 0.96"
    (note,) = read(write_text("a.xyz", text)).notes
    assert note.endswith("a.xyz: its last line, 4, has no end: if the file was cut off, the last number may be wrong")
    assert read(write_text("b.xyz", text + "\n")).notes == []
    assert read(write_text("c.xyz", text + " ")).notes == []
    water = dump(["O", "H", "H"], FORCES)
    (note,) = read(write_text("a.lammpstrj", water.removesuffix("\n"))).notes
    assert "its last line, 12, has no end" in note
    assert read(write_text("b.lammpstrj", water)).notes == []
