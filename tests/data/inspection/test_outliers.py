import torch

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.measure import measure
from nequip_like.data.inspection.outliers import find_outliers, measure_scores


def test_scores_by_hand():
    """Median 3, MAD 1: the last value is 0.6745 * 101."""
    scores = measure_scores(torch.tensor([1.0, 2.0, 3.0, 4.0, 104.0, torch.nan], dtype=torch.float64))
    torch.testing.assert_close(
        scores,
        torch.tensor([1.349, 0.6745, 0.0, 0.6745, 68.1245, torch.nan], dtype=torch.float64),
        equal_nan=True,
    )
    assert measure_scores(torch.tensor([5.0, 5.0, 5.2]), smallest=1.0)[2] < 0.2
    assert measure_scores(torch.full((3,), torch.nan)).isnan().all()


def facts_of(make_graph, forces):
    frames = [make_graph("H2", [[0, 0, 0], [0, 0, 0.74]], forces=[[0, 0, force], [0, 0, -force]]) for force in forces]
    return measure(GraphDataset(frames, 3.0, ["H"]).frames)


def test_large_forces_are_outliers_and_small_ones_are_not(make_graph):
    usual = [1.0 + 0.02 * i for i in range(30)]
    facts = facts_of(make_graph, [*usual, 300.0, 1e-4])
    (outlier,) = find_outliers(facts, None)
    assert (outlier.frame, outlier.value) == (30, 300.0)
    assert outlier.quantity == "largest force, eV/Å"
    assert find_outliers(facts_of(make_graph, [*usual[:10], 300.0]), None) == []  # too few to know what is usual


def test_energies_without_those_of_the_species(make_graph):
    facts = facts_of(make_graph, [1.0] * 25)
    residuals = torch.linspace(-0.1, 0.1, 25, dtype=torch.float64)
    residuals[3] = torch.nan
    assert find_outliers(facts, residuals) == []
    residuals[7] = 5.0
    (outlier,) = find_outliers(facts, residuals)
    assert (outlier.frame, outlier.value) == (7, 5.0)
    # What hardly differs at all has no outliers: the MAD counts as 0.01 eV/atom at least.
    assert find_outliers(facts, 1e-3 * residuals) == []
