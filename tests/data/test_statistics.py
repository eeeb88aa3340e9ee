import math

import pytest

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.statistics import check_not_zero, training_statistics
from nequip_like.errors import DataError

NAN = math.nan


def test_values_by_hand(make_graph):
    # An isolated O between bonded atoms: H-H is an edge pair, O sees nobody.
    frames = [
        make_graph(
            "OH2", [[9, 9, 9], [0, 0, 0], [0, 0, 1]], total_energy=[[-6.0]], forces=[[0, 0, 3], [1, 0, 0], [0, 2, 0]]
        ),
        make_graph(
            "HO2", [[0, 0, 0], [0, 0, 1], [0, 1, 0]], total_energy=[[-12.0]], forces=[[0, 0, 0], [0, 0, 0], [NAN] * 3]
        ),
        make_graph("O", [[0, 0, 0]], total_energy=[[NAN]], forces=[[NAN] * 3]),
    ]
    result = training_statistics(GraphDataset(frames, 1.2, ["H", "O", "Cu"]))
    assert result["type_names"] == ["H", "O", "Cu"]
    # edges: 2 in the first, 4 in the second (H to each O and back)
    assert result["num_neighbors_mean"] == pytest.approx(6 / 7)
    assert result["per_type_num_neighbors_mean"] == pytest.approx({"H": 4 / 3, "O": 2 / 4, "Cu": 6 / 7})
    assert result["per_atom_energy_mean"] == pytest.approx(-3.0)
    assert result["per_atom_energy_std"] == pytest.approx(math.sqrt(2.0))
    assert result["total_energy_std"] == pytest.approx(math.sqrt(18.0))
    rms = math.sqrt(14 / 15)
    assert result["forces_rms"] == pytest.approx(rms)
    assert result["per_type_forces_rms"] == pytest.approx({"H": math.sqrt(5 / 9), "O": math.sqrt(9 / 6), "Cu": rms})
    plain = [value for key, value in result.items() if key != "type_names" and not key.startswith("per_type")]
    assert all(type(value) is float for value in plain)


def test_isolated_atom_in_the_middle_keeps_its_zero(make_graph):
    frames = [make_graph("HOC2", [[9, 9, 9], [0, 0, 0], [0, 0, 1], [0, 0, 2]])]
    result = training_statistics(GraphDataset(frames, 1.2, ["H", "C", "O"]))
    assert result["per_type_num_neighbors_mean"] == {"H": 0.0, "C": 1.5, "O": 1.0}


def test_without_labels_and_without_neighbors(make_graph):
    result = training_statistics(GraphDataset([make_graph("H", [[0, 0, 0]])], 2.0, ["H", "C"]))
    assert result == {
        "type_names": ["H", "C"],
        "num_neighbors_mean": 0.0,
        "per_type_num_neighbors_mean": {"H": 0.0, "C": 0.0},
    }


def test_volume_per_atom_is_the_median_over_crystals(make_graph):
    """8, 27 / 2 and 1000 Angstrom^3 per atom; a molecule has no volume."""
    cubes = [("H", 2.0), ("H2", 3.0), ("H", 10.0)]
    crystals = [
        make_graph(name, [[0, 0, i] for i in range(int(name[1:] or 1))], cell=[edge] * 3, pbc=True)
        for name, edge in cubes
    ]
    slab = make_graph("H", [[0, 0, 0]], cell=[2.0, 2.0, 5.0], pbc=[True, True, False])
    molecule = make_graph("H", [[0, 0, 0]])
    frames = [*crystals, slab, molecule]
    assert training_statistics(GraphDataset(frames, 1.5, ["H"]))["volume_per_atom"] == pytest.approx(13.5)
    # Of slabs alone it is what their stress refers to, the cell with its vacuum.
    assert training_statistics(GraphDataset([slab, molecule], 1.5, ["H"]))["volume_per_atom"] == pytest.approx(20.0)


def test_one_frame_has_no_standard_deviation(make_graph):
    frames = [make_graph("H", [[0, 0, 0]], total_energy=[[1.0]])]
    result = training_statistics(GraphDataset(frames, 2.0, ["H"]))
    assert result["per_atom_energy_mean"] == 1.0
    assert "per_atom_energy_std" not in result


def test_partly_known_forces(make_graph):
    frames = [make_graph("H", [[0, 0, 0]], forces=[[3.0, NAN, NAN]])]
    result = training_statistics(GraphDataset(frames, 2.0, ["H"]))
    assert result["forces_rms"] == 3.0
    assert result["per_type_forces_rms"] == {"H": 3.0}


@pytest.mark.parametrize(
    ("name", "value", "message", "advice"),
    [
        (
            "per_type_num_neighbors_mean",
            {"H": 2.0, "Xe": 0.0},
            "no Xe atom of the training set has a neighbour within the cutoff radius",
            "raise cutoff_radius, or write ${training_data_stats:num_neighbors_mean} in the place of "
            "per_type_num_neighbors_mean",
        ),
        (
            "per_type_forces_rms_Xe",
            0.0,
            "all forces on Xe atoms of the training set are zero, so they are no scale for their energies",
            "write ${training_data_stats:energy_scale} in the place of per_type_forces_rms_Xe, or one number for each "
            "species",
        ),
    ],
)
def test_statistics_that_are_zero_are_told_in_terms_of_the_data(name, value, message, advice):
    with pytest.raises(DataError) as error:
        check_not_zero(name, value)
    assert (error.value.message, error.value.advice) == (message, advice)


def test_other_statistics_may_be_zero():
    check_not_zero("num_neighbors_mean", 0.0)
    check_not_zero("per_type_forces_rms", {"H": 0.1})
    check_not_zero("nothing", None)
