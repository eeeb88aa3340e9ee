import math

import numpy as np
import pytest
import torch

from nequip_like.data import reference_energies as rules
from nequip_like.data.reference_energies import choose, uses_isolated_frames
from nequip_like.data.tables.frame_table import is_isolated_atom, tabulate
from nequip_like.errors import ConfigError, DataError

HYDROGEN, CARBON = -13.6, -1029.5


@pytest.fixture
def lone(make_graph):
    def lone(symbol, energy, **kwargs):
        return make_graph(symbol, [[0, 0, 0]], total_energy=[[energy]], **kwargs)

    return lone


@pytest.fixture
def hydrocarbon(make_graph):
    """C_c H_h whose energy is the sum of its atoms plus ``extra``."""

    def hydrocarbon(carbons, hydrogens, extra=0.0):
        size = carbons + hydrogens
        energy = carbons * CARBON + hydrogens * HYDROGEN + extra
        return make_graph(f"C{carbons}H{hydrogens}", np.arange(3 * size).reshape(size, 3), total_energy=[[energy]])

    return hydrocarbon


def test_least_squares_recovers_exact_energies(hydrocarbon):
    result = rules.fit_least_squares([hydrocarbon(1, 4), hydrocarbon(2, 6), hydrocarbon(2, 2)])
    assert result.energies == pytest.approx({"H": HYDROGEN, "C": CARBON}, rel=1e-12)
    assert list(result.energies) == ["H", "C"]
    assert result.rule == "least_squares"
    assert result.residual_rms == pytest.approx(0.0, abs=1e-9)


def test_residual_by_hand(lone):
    result = rules.fit_least_squares([lone("H", 1.0), lone("H", 3.0)])
    assert result.energies == pytest.approx({"H": 2.0})
    assert result.residual_rms == pytest.approx(1.0)


def test_one_composition_cannot_be_told_apart(hydrocarbon):
    with pytest.raises(DataError, match="only 1 independent directions") as error:
        rules.fit_least_squares([hydrocarbon(1, 4), hydrocarbon(2, 8)])
    assert "isolated atoms" in error.value.advice


def test_absent_species_cannot_be_fitted(hydrocarbon):
    with pytest.raises(DataError, match="no frame with an energy holds O"):
        rules.fit_least_squares([hydrocarbon(1, 4), hydrocarbon(2, 6)], ["H", "C", "O"])


def test_no_energies(make_graph):
    with pytest.raises(DataError, match="no frame has an energy"):
        rules.fit_least_squares([make_graph("H", [[0, 0, 0]])])
    assert rules.auto([make_graph("H", [[0, 0, 0]])], ["H"]) is None


@pytest.mark.parametrize(
    ("cell", "pbc", "isolated"),
    [
        (None, False, True),
        ([3, 3, 3], False, True),
        ([20, 20, 20], True, True),
        ([20, 20, 3], True, False),
        ([20, 20, 3], [True, True, False], True),
        ([[20, 0, 0], [19, 1, 0], [0, 0, 20]], True, False),
    ],
)
def test_what_an_isolated_atom_is(lone, cell, pbc, isolated):
    assert is_isolated_atom(lone("H", 1.0, cell=cell, pbc=pbc)) is isolated


def test_isolated_atoms(lone, hydrocarbon):
    frames = [hydrocarbon(1, 4, extra=-20), lone("C", -1029.0), lone("H", -13.0), lone("O", -2000.0)]
    result = rules.from_isolated_atoms(frames, ["H", "C"])
    assert result.energies == {"H": -13.0, "C": -1029.0}
    with pytest.raises(DataError, match="for N"):
        rules.from_isolated_atoms(frames, ["H", "N"])


def test_two_different_isolated_atoms(lone):
    with pytest.raises(DataError, match=r"two isolated H atoms.*frame 0.*frame 1"):
        rules.from_isolated_atoms([lone("H", -13.0), lone("H", -13.1)], ["H"])
    assert rules.from_isolated_atoms([lone("H", -13.0), lone("H", -13.0)], ["H"]).energies == {"H": -13.0}


def test_auto_takes_the_first_rule_that_the_data_allow(lone, hydrocarbon):
    atoms = [lone("H", -13.0), lone("C", -1029.0)]
    various, single = [hydrocarbon(1, 4), hydrocarbon(2, 6)], [hydrocarbon(1, 4), hydrocarbon(1, 4, extra=1.0)]
    assert rules.auto(various, ["H", "C"], isolated=atoms).rule == "isolated_atoms"
    assert rules.auto(various, ["H", "C"]).rule == "least_squares"
    mean = rules.auto(single, ["H", "C"])
    assert mean.rule == "per_atom_energy_mean"
    assert mean.energies["H"] == mean.energies["C"] == pytest.approx((CARBON + 4 * HYDROGEN + 0.5) / 5)
    assert "per_atom_energy_mean" in mean.describe()
    assert "cannot be told apart" in mean.describe()


def test_auto_finds_what_follows_where_not_all_does(lone, hydrocarbon):
    """Of methane the sum, of copper its energy: one mean for all would leave hundreds of eV per atom."""
    crystal = {**lone("Cu", -4.0), **{"cell": torch.eye(3).unsqueeze(0) * 3.6}}
    frames = [hydrocarbon(1, 4), hydrocarbon(1, 4, extra=1.0), *[dict(crystal) for _ in range(3)]]
    result = rules.auto(frames, ["H", "C", "Cu"])
    assert result.rule == "least_squares"
    assert result.energies["Cu"] == pytest.approx(-4.0)
    assert 4 * result.energies["H"] + result.energies["C"] == pytest.approx(CARBON + 4 * HYDROGEN + 0.5)
    assert result.residual_rms == pytest.approx(math.sqrt(2 * 0.1**2 / 5))
    assert "nearest to the mean energy per atom" in result.describe()


@pytest.mark.parametrize(
    ("energies", "expected"),
    [
        ({"H": -13.6}, "no energy for C"),
        ({"H": -13.6, "Carbon": 1.0}, "no chemical symbol"),
        ({"H": -13.6, "C": "x"}, "C is 'x'"),
        ({"H": -13.6, "C": math.nan}, "C is nan"),
    ],
)
def test_energies_of_the_user_are_checked(energies, expected):
    with pytest.raises(ConfigError, match=expected):
        rules.from_user(energies, ["H", "C"])


def test_energies_of_the_user(hydrocarbon):
    result = choose({"C": CARBON, "H": HYDROGEN, "O": 1.0}, [hydrocarbon(1, 4, extra=-5)], ["H", "C"])
    assert result.energies == {"H": HYDROGEN, "C": CARBON}
    assert result.rule == "user"
    assert result.residual_rms == pytest.approx(1.0)


def test_choices(lone, hydrocarbon, write_text):
    frames = [hydrocarbon(1, 4), hydrocarbon(2, 6)]
    assert choose(None, frames, ["H", "C"]) is None
    assert choose("least_squares", frames, ["H", "C"]).rule == "least_squares"
    file = write_text("atoms.xyz", "1\nE0=-13\nH 0 0 0\n1\nE0=-1029\nC 0 0 0\n")
    mapping = {"E0": "total_energy", "f": "forces"}
    assert choose(str(file), frames, ["H", "C"], key_mapping=mapping).energies == {"H": -13.0, "C": -1029.0}
    own = {"file": str(file), "key_mapping": {"E0": "total_energy"}, "units": {"energy": "meV"}}
    assert choose(own, frames, ["H", "C"]).energies == pytest.approx({"H": -0.013, "C": -1.029})
    with pytest.raises(ConfigError, match="did you mean 'least_squares'"):
        choose("least_square", frames, ["H", "C"])


def test_isolated_frames_are_used_only_if_they_cover_all(lone):
    frames = [lone("H", -13.0), lone("C", -1029.0)]
    table = tabulate(frames)
    assert uses_isolated_frames("auto", table, ["H", "C"])
    assert not uses_isolated_frames("auto", table, ["H", "C", "O"])
    assert not uses_isolated_frames("least_squares", table, ["H", "C"])
    assert not uses_isolated_frames({"H": 1.0, "C": 2.0}, table, ["H", "C"])


@pytest.fixture
def rare(lone):
    """H, C and O in five frames each, at -2, -4 and -6 eV with errors whose squares add up to 6 eV^2."""
    return [
        lone(symbol, energy + error)
        for symbol, energy in (("H", -2.0), ("C", -4.0), ("O", -6.0))
        for error in (1.0, -1.0, 0.0, 0.0, 0.0)
    ]


def test_a_species_in_few_frames_is_held_near_to_the_others(rare, lone):
    result = rules.fit_least_squares([*rare, lone("Ne", 6.0)])
    # Mean -4, standard deviation 2; sigma^2 = 6 / (16 frames - 4 species) = 0.5, so neon's own energy counts for
    # 1 / (1 + 0.5 / 2^2) = 8 / 9: -4 + 8 / 9 * 10.
    assert result.energies == pytest.approx({"H": -2.0, "C": -4.0, "O": -6.0, "Ne": -4.0 + 80 / 9})
    assert result.warning.startswith(
        "fewer than 5 frames have Ne (1): their reference energies are held near to the mean of the other species, "
        "-4.00 eV, within 2.00 eV"
    )
    assert result.residual_rms == pytest.approx(math.sqrt((6 + (10 / 9) ** 2) / 16))


def test_two_rare_species_that_are_only_together(rare, make_graph):
    frames = [*rare, make_graph("NeAr", [[0, 0, 0], [0, 0, 3]], total_energy=[[12.0]])]
    # 6 eV/atom; with u = e + 4 of both: minimise (10 - u)^2 + 2 (6 / 11) / 4 u^2, as 16 - 5 = 11.
    expected = -4.0 + 10 / (1 + 2 * (6 / 11) / 4)
    result = rules.fit_least_squares(frames)
    assert (result.energies["Ne"], result.energies["Ar"]) == pytest.approx((expected, expected))
    assert "Ne (1), Ar (1)" in result.warning
    assert rules.auto(frames, ["H", "C", "O", "Ne", "Ar"]).energies == result.energies


def test_a_species_of_no_frame_is_the_mean_of_the_others(rare):
    """Only a validation set has it: the energies of the others must not be lost for that."""
    result = rules.auto([*rare], ["H", "C", "O", "Os"])
    assert result.rule == "least_squares"
    assert result.energies == pytest.approx({"H": -2.0, "C": -4.0, "O": -6.0, "Os": -4.0}, rel=1e-12)
    assert "fewer than 5 frames have Os (0): " in result.warning


def test_what_fits_exactly_is_not_changed(hydrocarbon, lone, make_graph):
    carbons = [hydrocarbon(1, 4), hydrocarbon(2, 6), hydrocarbon(2, 2), hydrocarbon(3, 8), hydrocarbon(2, 4)]
    many = [*carbons, *(lone("O", -2000.0) for _ in range(5)), make_graph("Ne", [[0, 0, 0]], total_energy=[[7.0]])]
    result = rules.fit_least_squares(many)
    assert result.energies == pytest.approx({"H": HYDROGEN, "C": CARBON, "O": -2000.0, "Ne": 7.0}, rel=1e-9)
    assert "Ne (1)" in result.warning


def test_species_in_many_frames_are_not_held(rare):
    result = rules.fit_least_squares(rare)
    assert result.energies == pytest.approx({"H": -2.0, "C": -4.0, "O": -6.0}, rel=1e-12)
    assert result.warning == ""
