"""The comparison of training recipes: both configs are sound, and a whole run of each is read right."""

import json
import shutil
import sys

import pytest


@pytest.mark.slow
def test_both_recipes_run(load, molecule_file, tmp_path, monkeypatch, capsys):
    recipes = load("recipes")
    shutil.copy(molecule_file, tmp_path / "train_300K.xyz")
    small = [
        "data.val=5",
        "data.test=5",
        "data.reference_energies=auto",
        "trainer.max_epochs=1",
        "model.num_features=4",
    ]
    command = [
        "recipes.py",
        "--data",
        str(tmp_path),
        "--seeds",
        "1",
        "--threads",
        "1",
        "--json",
        str(tmp_path / "a.json"),
    ]
    monkeypatch.setattr(sys, "argv", [*command, *small])
    recipes.main()
    result = json.loads((tmp_path / "a.json").read_text())
    assert [row["recipe"] for row in result["rows"]] == ["tutorial_3bpa", "recommended_3bpa"]
    for row, mean in zip(result["rows"], result["means"], strict=True):
        assert row["seed"] == 1
        assert row["forces_rmse"] == mean["forces_rmse"] > 0
        assert 0 < row["energy_rmse"] == mean["energy_rmse"]
    assert capsys.readouterr().out.count("mean: ") == 2
