"""Right labels are passed over in silence, and each mistake that is made with them is found, in sets of every kind."""

import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from nequip_like.data.graph import volumes
from nequip_like.data.inspection.label_check import fit_factors, from_vasp_order
from nequip_like.data.inspection.near_frames import compute_work
from tests.data.labelled_sets import (
    ENERGY_MISTAKES,
    GPA,
    STRESS_MISTAKES,
    WITH_CLOSE_FRAMES,
    WITH_STRESS,
    as_dataset,
    frames_of,
    in_vasp_order,
    label_contradiction,
    labelled,
)

STRAINED = "elastic strains"


# One set of each way to make frames and of each element's potential stays quick; making them all takes a while.
SLOW = {
    *("relaxation of a stretched cell", "relaxation of a slab", "thermostat, alloy", "shaken alloy"),
    *("elastic strains, relaxed inside", "shaken molecules"),
}


def each_of(sets):
    """Names of sets, as parameters."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in sets]


@pytest.mark.parametrize("name", each_of(WITH_STRESS | WITH_CLOSE_FRAMES))
def test_right_labels_are_not_accused(name):
    assert label_contradiction(as_dataset(frames_of(name))) is None


def displaced(symbol: str, repeat: int, moves: list[tuple[int, int, float]]):
    """Frames of a cubic crystal in which one atom is moved along one axis: atom, axis, Angstrom."""
    frames = []
    for atom, axis, length in moves:
        atoms = bulk(symbol, cubic=True) * (repeat, repeat, repeat)
        atoms.positions[atom, axis] += length
        atoms.calc = EMT()
        frames.append(labelled(atoms))
    return frames


DISPLACED = [(symbol, repeat, length) for symbol in ("Cu", "Pt", "Au", "Al") for repeat in (1, 2)
             for length in (0.01, 0.03, 0.1)]  # fmt: skip
QUICK = [("Cu", 1, 0.01), ("Pt", 1, 0.03), ("Au", 1, 0.1), ("Al", 1, 0.01), ("Al", 1, 0.1), ("Al", 2, 0.03)]


@pytest.mark.parametrize(
    ("symbol", "repeat", "length"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case not in QUICK)) for case in DISPLACED],
)
def test_finite_displacements_tell_nothing_of_the_stress(symbol, repeat, length):
    """Each atom is a centre of symmetry: stress is of second order, and a pair potential is wrong in its very sign."""
    moves = [(i % 4, axis, sign * length) for i in range(2) for axis in range(3) for sign in (-1, 1)]
    assert label_contradiction(as_dataset(displaced(symbol, repeat, moves))) is None


@pytest.mark.parametrize(("symbol", "repeat"), [("Cu", 1), ("Al", 2)])
def test_a_scan_of_one_atom_tells_nothing_of_the_stress(symbol, repeat):
    moves = [(0, 0, i / 50) for i in range(-10, 11)]
    assert label_contradiction(as_dataset(displaced(symbol, repeat, moves))) is None


@pytest.mark.parametrize("mistake", STRESS_MISTAKES)
@pytest.mark.parametrize("name", each_of(WITH_STRESS))
def test_mistakes_with_stress_are_found(name, mistake):
    sentence = label_contradiction(as_dataset(frames_of(name), stress=STRESS_MISTAKES[mistake]))
    assert sentence is not None
    assert sentence.startswith("shear stress agrees better" if mistake == "order" else "stress ")


@pytest.mark.parametrize("mistake", ENERGY_MISTAKES)
@pytest.mark.parametrize("name", each_of(WITH_CLOSE_FRAMES))
def test_mistakes_with_energies_and_forces_are_found(name, mistake):
    sentence = label_contradiction(as_dataset(frames_of(name), **ENERGY_MISTAKES[mistake]))
    assert sentence is not None
    assert sentence.startswith("energies change ")
    assert ("gradients" in sentence) == (mistake == "gradients")


def of_other_atoms(forces, _):
    """The same permutation in all frames."""
    return forces[torch.randperm(len(forces), generator=torch.Generator().manual_seed(1))]


def along_other_axes(forces, _):
    """A quarter turn about z."""
    return torch.stack([-forces[:, 1], forces[:, 0], forces[:, 2]], dim=1)


@pytest.mark.parametrize("mistake", [of_other_atoms, along_other_axes])
@pytest.mark.parametrize("name", each_of(WITH_CLOSE_FRAMES))
def test_forces_of_other_atoms_or_axes_are_found(name, mistake):
    sentence = label_contradiction(as_dataset(frames_of(name), forces=mistake))
    # A permutation of few atoms may turn the sign of most forces, which is told as that.
    told = ("forces do not explain how the energies change", "energies change -")
    assert sentence is not None
    assert sentence.startswith(told if mistake is of_other_atoms else told[0]) or "3.8 times" in sentence


@pytest.mark.parametrize(("offset", "expected"), [(2.4, "2.4 GPa above"), (-3.0, "3.0 GPa below")])
def test_a_pressure_that_was_added(offset, expected):
    shifted = as_dataset(frames_of(STRAINED), stress=lambda stress, _: stress + offset / GPA * torch.eye(3))
    assert label_contradiction(shifted).startswith(f"stress lies {expected} what the energies say")


def test_energies_of_strained_cells_in_another_unit():
    """Without forces only the stress tells, and not which of both is wrong."""
    sentence = label_contradiction(as_dataset(frames_of(STRAINED), **ENERGY_MISTAKES["kcal/mol"]))
    assert sentence == (
        "stress contradicts the energies: they change 23.3 times as much as it says; its or the energies' unit or sign "
        "looks wrong"
    )


def test_energies_that_drift_with_the_volume():
    """As with plane waves that change from cell to cell: 20 meV for each cubic Angstrom."""
    drift = as_dataset(frames_of(STRAINED), total_energy=lambda energy, frame: energy - 0.02 * volumes(frame))
    assert label_contradiction(drift) == (
        "stress lies 3.2 GPa above what the energies say, along all axes alike (188 pairs of close frames): they do "
        "not belong together; either a pressure was added to the stress, or the energies drift with the volume, as "
        "with plane waves that change with the cell; train on one of both only"
    )


def test_factors_are_what_was_done_to_the_labels():
    frames = frames_of("strained and shaken")
    changed = as_dataset(frames, total_energy=lambda e, _: 4 * e, stress=lambda s, _: 2 * s).frames
    right, wrong = (fit_factors(compute_work(some)[0][1]) for some in (frames, changed))
    assert right[0].value == pytest.approx(1.0, abs=0.1)
    assert right[1].value == pytest.approx(1.0, abs=0.2)
    assert wrong[0].value == pytest.approx(4 * right[0].value, rel=0.02)
    assert wrong[1].value == pytest.approx(2 * right[1].value, rel=0.02)


def test_a_few_wrong_frames_hide_no_mistake_in_all():
    frames = [dict(frame) for frame in frames_of(STRAINED)]
    frames[3]["total_energy"] = frames[3]["total_energy"] + 50.0
    assert label_contradiction(as_dataset(frames)) is None
    flipped = label_contradiction(as_dataset(frames, stress=lambda stress, _: -stress))
    assert "sign looks wrong" in flipped
    assert flipped.endswith("declare 'data.units={stress_sign: compression}'")


MIXED = ("barostat", "thermostat, liquid argon", "relaxation of a molecule")


def mix(wrong="", mistake=None):
    """Frames of three kinds of structures, one of them with a mistake in its forces."""
    frames = [
        {**frame, "forces": mistake(frame["forces"]) if name == wrong else frame["forces"]}
        for name in MIXED
        for frame in frames_of(name)
    ]
    return as_dataset(frames)


def test_several_right_kinds_of_structures_are_not_accused():
    assert label_contradiction(mix()) is None


@pytest.mark.parametrize(
    ("wrong", "formula"), [("barostat", "Cu16"), ("thermostat, liquid argon", "Ar32"), (MIXED[2], "C2H6O")]
)
@pytest.mark.parametrize("mistake", [torch.neg, lambda forces: forces / 51.422, lambda forces: forces.roll(1, 0)])
def test_one_wrong_kind_beside_right_ones_is_found(wrong, formula, mistake):
    sentence = label_contradiction(mix(wrong, mistake))
    assert sentence.startswith((f"of the frames of {formula}: ", "energies change ", "forces do not explain "))


def test_order_of_components_by_hand():
    """xx yy zz xy yz zx = 1 2 3 4 5 6; read as xx yy zz yz xz xy."""
    right = torch.tensor([[1.0, 4, 6], [4, 2, 5], [6, 5, 3]])
    read = torch.tensor([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
    assert torch.equal(from_vasp_order(read), right)
    assert torch.equal(in_vasp_order(right), read)


def test_nothing_to_compare(make_graph):
    frames = frames_of(STRAINED)
    assert label_contradiction(as_dataset(frames[:1], stress=lambda stress, _: -stress)) is None
    assert label_contradiction(as_dataset([frames[0]] * 20, stress=lambda stress, _: -stress)) is None
    assert label_contradiction(as_dataset([make_graph("H", [[0, 0, 0]])])) is None


def test_forces_that_are_noise_belong_to_no_energies():
    torch.manual_seed(0)
    noise = as_dataset(frames_of("shaken silicon"), forces=lambda forces, _: torch.randn_like(forces))
    assert label_contradiction(noise).startswith("forces do not explain how the energies change between close frames (")


def test_noise_within_the_expected_error_is_no_contradiction():
    torch.manual_seed(0)
    noise = as_dataset(frames_of("shaken silicon"), forces=lambda forces, _: forces + 0.05 * torch.randn_like(forces))
    assert label_contradiction(noise) is None
