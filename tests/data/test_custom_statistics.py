"""Statistics that a config defines, by hand."""

import math

import pytest

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.statistics import custom_statistics
from nequip_like.errors import ConfigError, DataError

NAN = math.nan


@pytest.fixture
def dataset(make_graph):
    """O alone, H-H 1 Angstrom apart; then H between two O, the second O 1.1 Angstrom away."""
    frames = [
        make_graph(
            "OH2", [[9, 9, 9], [0, 0, 0], [0, 0, 1]], total_energy=[[-6.0]], forces=[[0, 0, 3], [1, 0, 0], [0, 2, 0]]
        ),
        make_graph(
            "HO2", [[0, 0, 0], [0, 0, 1], [0, 1.1, 0]], total_energy=[[-12.0]], forces=[[0, 0, 0], [0, 0, 0], [NAN] * 3]
        ),
    ]
    return GraphDataset(frames, 1.2, ["H", "O"])


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("mean", 6 / 15),
        ("mean_abs", 6 / 15),
        ("rms", math.sqrt(14 / 15)),
        ("std", math.sqrt((14 - 36 / 15) / 14)),
        ("var", (14 - 36 / 15) / 14),
        ("std_biased", math.sqrt((14 - 36 / 15) / 15)),
        ("var_biased", (14 - 36 / 15) / 15),
        ("max", 3.0),
        ("absmax", 3.0),
        ("min", 0.0),
        ("absmin", 0.0),
        ("count", 15.0),
    ],
)
def test_of_all_force_components_that_are_known(metric, value, dataset):
    result = custom_statistics(dataset, [{"name": "mine", "field": "forces", "metric": metric}])
    assert result == {"mine": pytest.approx(value, rel=1e-14)}


def test_per_atom_with_factor(dataset):
    entry = {"name": "e", "field": "total_energy", "metric": "mean", "per_atom": True, "factor": 1000}
    assert custom_statistics(dataset, [entry]) == {"e": -3000.0}
    assert custom_statistics(dataset, [{**entry, "metric": "absmax"}]) == {"e": 4000.0}


def test_of_types(dataset):
    entries = [
        {"name": "neighbors", "field": "num_neighbors", "metric": "mean", "per_type": True},
        {"name": "f", "field": "forces", "metric": "rms", "per_type": True},
        {"name": "n", "field": "forces", "metric": "count", "per_type": True},
    ]
    result = custom_statistics(dataset, entries)
    assert result["neighbors"] == {"H": pytest.approx(4 / 3), "O": pytest.approx(2 / 3)}  # the lone O keeps its zero
    assert result["f"] == {"H": pytest.approx(math.sqrt(5 / 9)), "O": pytest.approx(math.sqrt(9 / 6))}
    assert result["n"] == {"H": 9.0, "O": 6.0}


def test_of_pairs_of_types_centre_first(make_graph):
    # H sees both O; the O see only H.
    dataset = GraphDataset([make_graph("HO2", [[0, 0, 0], [0, 0, 1], [0, 0, -1.1]])], 1.2, ["H", "O"])
    entry = {"name": "d", "field": "edge_lengths", "metric": "max", "per_type": True}
    everything = 1.1
    assert custom_statistics(dataset, [entry])["d"] == pytest.approx(
        {"H_H": everything, "H_O": 1.1, "O_H": 1.1, "O_O": everything}
    )
    counts = custom_statistics(dataset, [{**entry, "metric": "count"}])["d"]
    assert counts == {"H_H": 0.0, "H_O": 2.0, "O_H": 2.0, "O_O": 0.0}


def test_edges_within_cutoffs_of_pairs(dataset):
    entry = {"name": "n", "field": "num_neighbors", "metric": "mean", "per_type": True}
    cut = {**entry, "pair_cutoffs": {"H": {"O": 1.05}, "O": {}}}
    # The edge from H to the O at 1.1 Angstrom goes, the one back stays.
    assert custom_statistics(dataset, [cut])["n"] == pytest.approx({"H": 3 / 3, "O": 2 / 3})


def test_a_type_without_values_has_that_of_all(make_graph):
    frames = [make_graph("H", [[0, 0, 0]], forces=[[3.0, 0.0, 0.0]])]
    result = custom_statistics(
        GraphDataset(frames, 2.0, ["H", "C"]), [{"name": "f", "field": "forces", "metric": "max", "per_type": True}]
    )
    assert result["f"] == {"H": 3.0, "C": 3.0}


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ({"name": "a", "field": "force", "metric": "rms"}, "did you mean 'forces'"),
        ({"name": "a", "field": "forces", "metric": "rmse"}, "did you mean 'rms'"),
        ({"name": "a", "field": "forces"}, "no metric"),
        ({"name": "a", "field": "forces", "metric": "rms", "per_typ": True}, "did you mean 'per_type'"),
        ({"name": "a", "field": "total_energy", "metric": "mean", "per_type": True}, "belongs to structures"),
        ({"name": "a", "field": "forces", "metric": "mean", "per_atom": True}, "no value of structures"),
    ],
)
def test_mistakes(entry, part, dataset):
    with pytest.raises(ConfigError, match=part):
        custom_statistics(dataset, [entry])


def test_a_name_twice(dataset):
    entry = {"name": "a", "field": "forces", "metric": "rms"}
    with pytest.raises(ConfigError, match="'a' twice"):
        custom_statistics(dataset, [entry, entry])


def test_what_the_data_lack(dataset, make_graph):
    with pytest.raises(DataError, match="no frame of the training set has stress"):
        custom_statistics(dataset, [{"name": "a", "field": "stress", "metric": "rms"}])
    one = GraphDataset([make_graph("H", [[0, 0, 0]], total_energy=[[1.0]])], 2.0, ["H"])
    with pytest.raises(DataError, match="1 values of total_energy: too few for 'a'"):
        custom_statistics(one, [{"name": "a", "field": "total_energy", "metric": "std"}])
    with pytest.raises(DataError, match="0 values of edge_lengths"):
        custom_statistics(one, [{"name": "a", "field": "edge_lengths", "metric": "mean"}])
