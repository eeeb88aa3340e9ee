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


def test_time_of_a_length(campaign):
    assert campaign.read_seconds(["budget=3min", "data.batch_size=2"]) == 180.0
    with pytest.raises(SystemExit, match="need a time: --length budget=180s"):
        campaign.read_seconds(["trainer.max_steps=3"])


@pytest.mark.slow
def test_a_run(campaign, molecule_file, monkeypatch):
    monkeypatch.setitem(campaign.SETS, "small", f"{molecule_file.name} data.val=5 data.test=5")
    recipe = "small: model.num_features=4 model.num_layers=2"
    row = campaign.run(recipe, molecule_file.parent, "small", 1, ["trainer.max_epochs=2"], 1)
    assert (row["set"], row["recipe"], row["seed"], row["epochs"]) == ("small", "small", 1, 2)
    assert row["forces"] >= row["forces_mae"] > 0
    assert row["last"] >= row["best"] > 0
    failed = campaign.run("wrong: model.num_featurs=4", molecule_file.parent, "small", 1, [], 1)
    assert "num_featurs" in failed["failed"]


def test_frames_for_nequip_have_our_labels(load, crystal_file):
    import ase.io
    import numpy as np

    from nequip_like.data.datamodule import DataModule

    nequip = load("campaign_nequip")
    dataset = DataModule(train=str(crystal_file), val=4, cutoff_radius=3.0).prepare().train_set
    read = {round(atoms.get_potential_energy(), 9): atoms for atoms in ase.io.read(crystal_file, ":")}
    for index in range(len(dataset)):
        atoms = nequip.to_atoms(dataset[index])
        original = read[round(atoms.get_potential_energy(), 9)]
        assert str(atoms.symbols) == str(original.symbols)
        assert np.array_equal(atoms.positions, original.positions)
        assert np.array_equal(atoms.cell, original.cell)
        assert np.array_equal(atoms.get_forces(), original.get_forces())
        assert np.allclose(atoms.get_stress(), original.get_stress(), rtol=0, atol=1e-15)
