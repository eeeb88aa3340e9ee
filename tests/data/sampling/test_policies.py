import numpy as np
import pytest

from nequip_like.data.sampling.policies import Sampling, compute_energy_weights, compute_error_weights
from nequip_like.data.tables.frame_table import tabulate
from nequip_like.errors import ConfigError, DataError


def test_weights_of_energies(make_graph):
    """Energies of 0, 1 and 2 eV/atom have weights of 1, 2/3 and 1/2, and are drawn with 6/13, 4/13 and 3/13."""
    pair = [[0, 0, 0], [0, 0, 0.74]]
    frames = [make_graph("H2", pair, total_energy=[[-27.2 + 2.0 * e]]) for e in (0.0, 1.0, 2.0)]
    weights = compute_energy_weights(tabulate(frames), {"H": -13.6})
    assert weights == pytest.approx([1.0, 2 / 3, 1 / 2], rel=1e-12)
    assert weights / weights.sum() == pytest.approx([6 / 13, 4 / 13, 3 / 13], rel=1e-12)


def test_energies_are_per_atom_and_above_the_references(make_graph):
    water = make_graph("OH2", [[0, 0, 0], [1, 0, 0], [0, 1, 0]], total_energy=[[-10.0 + 3.0]])
    hydrogen = make_graph("H2", [[0, 0, 0], [0, 0, 1]], total_energy=[[0.0]])
    oxygen = make_graph("O2", [[0, 0, 0], [0, 0, 1]], total_energy=[[-20.0 + 4.0]])
    weights = compute_energy_weights(tabulate([water, hydrogen, oxygen]), {"O": -10.0})
    assert weights == pytest.approx([2 / 3, 1.0, 1 / 2], rel=1e-12)


def test_equal_and_missing_energies(make_graph):
    same = [make_graph("H", [[0, 0, 0]], total_energy=[[-1.0]])] * 3
    assert compute_energy_weights(tabulate(same), {}).tolist() == [1.0, 1.0, 1.0]
    energies = (0.0, np.nan, 2.0)
    frames = [make_graph("H", [[0, 0, 0]], total_energy=[[energy]]) for energy in energies]
    assert compute_energy_weights(tabulate(frames), {}).tolist() == [1.0, 0.75, 0.5]
    with pytest.raises(DataError, match="no training frame has an energy to sample by"):
        compute_energy_weights(tabulate(frames[1:2]), {})


def test_weights_of_errors():
    weights = compute_error_weights(np.array([2.0, 0.0, np.nan, 1.0]))
    assert weights == pytest.approx(np.array([2.0, 1e-12, 1e-12, 1.0]) / 0.75, rel=1e-11)
    assert weights.mean() == pytest.approx(1.0, rel=1e-15)
    assert compute_error_weights(np.array([np.inf, 0.0, -1.0])).tolist() == [1.0, 1.0, 1.0]


def test_section():
    assert Sampling.read(None) == Sampling("uniform", None)
    assert Sampling.read({"samples_per_epoch": 7}) == Sampling("uniform", 7)
    for section, message in (
        ({"policy": "energy"}, "sampling.policy is 'energy'"),
        ({"samples_per_epoch": 0}, "sampling.samples_per_epoch is 0"),
        ({"samples": 3}, "samples"),
    ):
        with pytest.raises(ConfigError, match=message):
            Sampling.read(section)
