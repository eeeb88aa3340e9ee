"""The campaign of recipes: how recipes are read, and means of runs."""

import pytest


@pytest.fixture
def campaign(load):
    return load("campaign")


def test_recipe(campaign):
    assert campaign.read_recipe("default") == ("default", [])
    name, overrides = campaign.read_recipe("clipped: model.l_max=2 'training_module.gradient_clip={norm: 1.0}'")
    assert (name, overrides) == ("clipped", ["model.l_max=2", "training_module.gradient_clip={norm: 1.0}"])


def test_means_are_geometric_and_leave_failures_out(campaign):
    rows = [
        {"set": "Mo", "recipe": "a", "seed": 0, "forces": 10.0, "energy": 1.0},
        {"set": "Mo", "recipe": "a", "seed": 1, "forces": 40.0, "energy": 1.0},
        {"set": "Mo", "recipe": "a", "seed": 2, "failed": "it diverged"},
        {"set": "Mo", "recipe": "b", "seed": 0, "failed": "it diverged"},
    ]
    (mean,) = campaign.compute_means(rows)
    assert mean == {"set": "Mo", "recipe": "a", "runs": 2, "forces": pytest.approx(20.0), "energy": pytest.approx(1.0)}
