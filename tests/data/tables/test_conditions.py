"""Energies of species by reference compounds, beside given ones, and of frames drawn at random."""

import numpy as np
import pytest

from nequip_like.data.datamodule import DataModule
from nequip_like.data.reference_energies import choose
from nequip_like.data.tables.conditions import Conditions, find_lowest_energies, find_undetermined, reduce_formula
from nequip_like.data.tables.frame_table import tabulate
from nequip_like.errors import ConfigError, DataError


@pytest.fixture
def compound(make_graph):
    """A structure on a line: ``compound("H2O", -7.0)``."""

    def compound(formula, energy):
        from ase import Atoms

        symbols = Atoms(formula).get_chemical_symbols()
        return make_graph(symbols, [[1.5 * i, 0, 0] for i in range(len(symbols))], total_energy=[[energy]])

    return compound


def solve(section, frames, names):
    return Conditions.read(section).solve(tabulate(frames), names)


def test_worked_example(compound):
    """E(A2B) = 2a + b = -7 and E(B2) = 2b = -10, of the lowest frames; the same with the energies in the config."""
    frames = [compound("H2O", -6.0), compound("H2O", -7.0), compound("O2", -10.0), compound("H4O2", -13.0)]
    energies, origin = solve({"compounds": ["H2O", "O2"]}, frames, ["H", "O"])
    assert energies == pytest.approx({"H": -1.0, "O": -5.0}, rel=1e-12)
    assert origin == "from H2O, O2"
    energies, _ = solve({"compounds": {"OH2": -7.0, "O2": None}}, frames[2:3], ["H", "O"])
    assert energies == pytest.approx({"H": -1.0, "O": -5.0}, rel=1e-12)


def test_every_composition_of_the_data(compound):
    """Lowest energies per atom of H2O (a frame of two formulas has it), H2 and O2: more equations than species."""
    frames = [compound(f, e) for f, e in (("H2O", -7.0), ("H4O2", -15.0), ("H2", -2.0), ("O2", -10.0), ("O2", -9.0))]
    lowest = find_lowest_energies(tabulate(frames))
    assert lowest == pytest.approx({"H2O": -2.5, "H": -1.0, "O": -5.0}, rel=1e-12)
    energies, origin = solve({"compounds": "auto"}, frames, ["H", "O"])
    rows, goals = np.array([[2 / 3, 1 / 3], [1, 0], [0, 1]]), np.array([-2.5, -1.0, -5.0])
    assert list(energies.values()) == pytest.approx(np.linalg.lstsq(rows, goals, rcond=None)[0].tolist(), rel=1e-12)
    assert sorted(origin.removeprefix("from ").split(", ")) == ["H", "H2O", "O"]


def test_given_energies_beside_least_squares(compound):
    """With H held at -1, O is what is left of each frame per atom of O, weighted by its fraction squared."""
    frames = [compound("H2O", -7.5), compound("O2", -10.0)]
    energies, origin = solve({"fixed": {"H": -1}}, frames, ["H", "O"])
    expected = (1 / 3 * (-7.5 + 2) / 3 + 1 * -5.0) / (1 / 9 + 1)
    assert energies == pytest.approx({"H": -1.0, "O": expected}, rel=1e-12)
    assert origin == "H given"
    assert solve({"fixed": {"H": -1.0, "O": -2.0}}, frames, ["H", "O"])[0] == {"H": -1.0, "O": -2.0}
    energies, _ = solve({"fixed": {"H": -1.0}, "compounds": {"H2O": -8.0}}, [], ["H", "O"])
    assert energies == pytest.approx({"H": -1.0, "O": -6.0}, rel=1e-12)


def test_a_random_subset_is_a_function_of_its_seed(compound):
    rng = np.random.default_rng(0)
    frames = [compound(f, -7.0 + rng.normal()) for f in ("H2O", "O2", "H2O2", "H2") * 25]
    table = tabulate(frames)
    first, again, other = (
        Conditions.read({"subset": size, "seed": seed}).solve(table, ["H", "O"])
        for size, seed in ((50, 0), (0.5, 0), (0.5, 1))
    )
    assert first == again
    assert first[1] == "50 of 100 frames, drawn at random"
    assert other[0] != first[0]
    everything = Conditions.read({"subset": 1000}).solve(table, ["H", "O"])
    assert everything[0] == choose("least_squares", table, ["H", "O"]).energies


def test_species_that_do_not_follow_are_named(compound):
    frames = [compound("H2O", -7.0), compound("H4O2", -14.0), compound("C2", -20.0)]
    with pytest.raises(ConfigError, match=r"energies of H, O do not follow from 3 frames with an energy\n.*fixed=\{H"):
        solve({"fixed": {}}, frames, ["C", "H", "O"])
    with pytest.raises(ConfigError, match=r"energies of O do not follow from the compounds H2, C2\n"):
        solve({"compounds": {"H2": -1.0, "C2": -2.0}}, [], ["C", "H", "O"])
    assert find_undetermined(np.zeros((0, 2)), ["H", "O"]) == ["H", "O"]
    assert find_undetermined(np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]]), ["H", "O"]) == []
    assert reduce_formula({"O": 4, "Fe": 2}) == "O2Fe"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"compounds": ["H2O"], "subst": 3}, "unknown key 'subst'"),
        ({"compounds": "H2O"}, r"compounds is 'H2O'\n.*\[H2O, O2\]"),
        ({"compounds": []}, "compounds is empty"),
        ({"compounds": ["h2o!"]}, "'h2o!' is no formula"),
        ({"compounds": {False: -1.0}}, r"False is no formula\n.*put NO into quotes"),
        ({"compounds": {"H2O": "low"}}, r"compounds.H2O is 'low'"),
        ({"fixed": {"Hydrogen": -1.0}}, "no chemical symbol"),
        ({"fixed": {"H": True}}, "fixed.H is true"),
        ({"subset": 0}, "subset is 0"),
        ({"subset": 1.5}, "subset is 1.5"),
    ],
)
def test_mistakes(section, message):
    with pytest.raises(ConfigError, match=message):
        Conditions.read(section)


def test_compounds_that_are_not_in_the_data(compound):
    with pytest.raises(DataError, match=r"no training frame with an energy has the composition of H2\n.*compounds.H2="):
        solve({"compounds": ["H2O", "H2"]}, [compound("H2O", -7.0)], ["H", "O"])
    with pytest.raises(ConfigError, match="compounds: CO has C, which is no species of the training data"):
        solve({"compounds": {"CO": -7.0}}, [], ["H", "O"])


def test_of_the_data_module(write, molecules):
    """Waters of 0 to -9 eV: H is given, O is what is left of the lowest one; a folder is no part of a formula."""
    file = write("m.xyz", molecules(10))
    choice = {"compounds": ["H2O"], "fixed": {"H": -1.0}}
    data = DataModule(file.name, cutoff_radius=2.0, path=str(file.parent), reference_energies=choice).prepare()
    assert data.reference.energies == pytest.approx({"H": -1.0, "O": -7.0}, rel=1e-12)
    assert data.reference.rule == "reference_compounds"
    assert data.reference.note == "from H2O; H given"
    assert data.reference.residual_rms == pytest.approx(np.sqrt(np.mean(((np.arange(10) - 9) / 3) ** 2)), rel=1e-12)
