"""Energies of which a part is in another unit: made of sums over species and a spread that bonds have."""

import numpy as np
import pytest

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.checks.findings import Subject
from nequip_like.data.inspection.checks.mixed_units import find_mixed_units

OF_SPECIES = {"H": -3.0, "C": -8.0, "O": -5.0}


def subject_of(make_graph, factors, seed=0):
    rng = np.random.default_rng(seed)
    frames = []
    for factor in factors:
        symbols = rng.choice(list(OF_SPECIES), size=4)
        energy = sum(OF_SPECIES[symbol] for symbol in symbols) + 4 * 0.1 * rng.normal()
        places = [[1.2 * i, 0, 0] for i in range(4)]
        frames.append(make_graph(list(symbols), places, total_energy=[[factor * energy]]))
    return Subject(GraphDataset(frames, 1.5, list(OF_SPECIES)))


@pytest.mark.parametrize(
    ("ratio", "unit"), [(23.0605, "kcal/mol"), (96.4853, "kJ/mol"), (1 / 27.2114, "Hartree"), (1 / 13.6057, "Rydberg")]
)
@pytest.mark.parametrize("every", [2, 3, 40])
def test_a_part_in_another_unit(make_graph, ratio, unit, every):
    factors = [ratio if i % every == every - 1 else 1.0 for i in range(40)]
    finding = next(find_mixed_units(subject_of(make_graph, factors)))
    assert finding.level == "wrong"
    assert set(finding.frames) in ({i for i in range(40) if factors[i] != 1}, {i for i in range(40) if factors[i] == 1})
    size = "large" if (len(finding.frames) <= 20) == (ratio > 1) or every == 2 else "small"
    assert f"times as {size}" in finding.text
    assert unit in finding.text


def test_one_unit(make_graph):
    for seed in range(10):
        (finding,) = find_mixed_units(subject_of(make_graph, [1.0] * 40, seed))
        assert (finding.level, finding.text) == ("ok", "all energies are in one unit")


def test_a_factor_of_no_unit_is_not_told_as_one(make_graph):
    (finding,) = find_mixed_units(subject_of(make_graph, [5.0 if i % 2 else 1.0 for i in range(40)]))
    assert finding.level == "ok"
    (finding,) = find_mixed_units(subject_of(make_graph, [1.0, 23.0605]))
    assert finding.text == "not told by 2 frames with an energy"
