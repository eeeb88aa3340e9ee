"""Energies and forces of outputs go with the structure that they were computed at, and with each other."""

import numpy as np
import pytest

from nequip_like.data.io.output_steps import divide_steps
from nequip_like.data.io.readers import read
from tests.data.format_samples import BOHR, FORCES, HARTREE, MINUS, gaussian, orca

ORCA_END = "\n                             ****ORCA TERMINATED NORMALLY****\n"
FINAL = "\n                 *** FINAL ENERGY EVALUATION AT THE STATIONARY POINT ***\n\n"
BANNER = "\n          *                ORCA GEOMETRY RELAXATION STEP                *\n\n"
GRADIENT = "------------------\nCARTESIAN GRADIENT"


def orca_step(energy, gradient, bond):
    text = orca(["O", "H", "H"], energy, gradient).replace("0.960000", bond).removesuffix(ORCA_END)
    return text[text.index("---------------------------------\nCARTESIAN") :]


def lists(reading, label):
    return [frame[label].squeeze().tolist() for frame in reading.frames]


@pytest.mark.parametrize("between", [FINAL, BANNER + FINAL])
def test_the_last_structure_of_an_optimisation_has_no_forces(write_text, between):
    head = orca(["O", "H", "H"], -76.0, MINUS).removesuffix(ORCA_END)
    last = orca_step(-77.0, FORCES, "1.060000")
    reading = read(write_text("a.out", head + between + last[: last.index(GRADIENT)] + ORCA_END))
    assert lists(reading, "total_energy") == pytest.approx([-76 * HARTREE, -77 * HARTREE], rel=1e-7)
    assert [frame["pos"][1, 0].item() for frame in reading.frames] == [0.96, 1.06]
    first, second = (frame["forces"].numpy() for frame in reading.frames)
    np.testing.assert_allclose(first, np.array(FORCES) * HARTREE / BOHR, rtol=1e-6)
    assert np.isnan(second).all()


@pytest.mark.parametrize("between", ["\n", BANNER])
def test_all_steps_of_an_optimisation_with_gradients(write_text, between):
    """The number of atoms stands in the first step only."""
    head = orca(["O", "H", "H"], -76.0, MINUS).removesuffix(ORCA_END)
    last = orca_step(-77.0, FORCES, "1.060000").replace("Number of atoms", "Number of electrons")
    reading = read(write_text("a.out", head + between + last + ORCA_END))
    assert lists(reading, "total_energy") == pytest.approx([-76 * HARTREE, -77 * HARTREE], rel=1e-7)
    for frame, force in zip(reading.frames, (FORCES, MINUS), strict=True):
        np.testing.assert_allclose(frame["forces"].numpy(), np.array(force) * HARTREE / BOHR, rtol=1e-6)


def test_an_optimisation_that_was_stopped_after_a_gradient_or_after_coordinates(write_text):
    head = "ORCA SCF GRADIENT CALCULATION\n"
    head = orca(["O", "H", "H"], -76.0, MINUS).removesuffix(ORCA_END).replace("Number of", head + "Number of", 1)
    last = orca_step(-77.0, FORCES, "1.060000")
    assert len(read(write_text("a.out", head + BANNER + last + BANNER)).frames) == 2
    reading = read(write_text("b.out", head + BANNER + last[: last.index("\nNumber of atoms")]))
    assert lists(reading, "total_energy") == pytest.approx([-76 * HARTREE], rel=1e-7)
    (note,) = reading.notes
    assert note.endswith("is unfinished and left out")


def test_two_jobs_and_an_optimisation_of_one_step(write_text):
    first = orca(["O", "H", "H"], -76.0, MINUS)
    reading = read(write_text("a.out", first + orca_step(-77.0, FORCES, "1.060000") + ORCA_END))
    assert lists(reading, "total_energy") == pytest.approx([-76 * HARTREE, -77 * HARTREE], rel=1e-7)
    reading = read(write_text("b.out", first.removesuffix(ORCA_END) + BANNER + ORCA_END))
    assert lists(reading, "total_energy") == pytest.approx([-76 * HARTREE], rel=1e-7)


GAUSSIAN = gaussian([8, 1, 1], -76.0, FORCES)
END = GAUSSIAN[GAUSSIAN.index("\n 1\\1\\") :]
SCF = " SCF Done:  E(RB3LYP) =  -77.0000000000     A.U. after   10 cycles\n"


def test_the_energy_of_an_excited_state(write_text):
    excited = "after   10 cycles\n Excited State   1: Singlet-A 8.0 eV\n Total Energy, E(TD-HF/TD-DFT) =  -75.7000000\n"
    file = write_text("a.log", GAUSSIAN.replace("after   10 cycles\n", excited))
    reading = read(file)
    assert reading.notes == [
        f"{file}: energies are those of an excited state, 'Total Energy, E(...)', wherever Gaussian prints one"
    ]
    assert lists(reading, "total_energy") == pytest.approx([-75.7 * HARTREE], rel=1e-7)


def test_a_second_energy_of_the_same_structure_has_no_forces(write_text):
    reading = read(write_text("a.log", GAUSSIAN.removesuffix(END) + SCF + END))
    assert lists(reading, "total_energy") == pytest.approx([-76 * HARTREE, -77 * HARTREE], rel=1e-7)
    first, second = (frame["forces"].numpy() for frame in reading.frames)
    np.testing.assert_allclose(first, np.array(FORCES) * HARTREE / BOHR, rtol=1e-6)
    assert np.isnan(second).all()
    assert reading.frames[1]["pos"].tolist() == reading.frames[0]["pos"].tolist()


def test_outputs_with_nothing_to_divide_stay_as_they_are():
    for name, text in (("gaussian-out", GAUSSIAN), ("orca-output", orca(["O", "H", "H"], -76.0, MINUS)), ("xsf", "a")):
        assert divide_steps(text.encode(), name) == text.encode()
