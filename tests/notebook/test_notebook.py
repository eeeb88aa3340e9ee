"""Training from a notebook: structures in memory or in files, one thin object around the run that they make."""

from __future__ import annotations

import sys

import ase.io
import numpy as np
import pytest

import nequip_like as nl
from nequip_like.compat import aenet
from nequip_like.data.dataset import load_dataset


@pytest.fixture(scope="module")
def trained(molecule_file, tiny, tmp_path_factory):
    """Trained once, on frames that come one by one, with validation frames in memory and a share to test."""
    frames = ase.io.read(molecule_file, ":")
    overrides = [*tiny, "cutoff_radius=4.0", "report.html=false", "report.format=[]"]
    output = tmp_path_factory.mktemp("notebook") / "run"
    return nl.train_potential(iter(frames[:19]), overrides, val=frames[19:], test=5, output=output)


def test_structures_in_memory_are_files_of_the_run(trained, molecule_file):
    """Frames and labels as they were given, so that the run can be repeated."""
    frames = ase.io.read(molecule_file, ":")
    for name, expected in (("train", frames[:19]), ("val", frames[19:])):
        written = ase.io.read(trained.folder / "structures" / f"{name}.extxyz", ":")
        assert len(written) == len(expected)
        for a, b in zip(written, expected, strict=True):
            np.testing.assert_allclose(a.positions, b.positions, atol=1e-7)
            np.testing.assert_allclose(a.get_forces(), b.get_forces(), atol=1e-7)
    assert (trained.folder / "model.safetensors").is_file()
    assert trained.result.model_file == trained.folder / "model.safetensors"


def test_errors_over_the_training(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = trained.errors
    assert [row["epoch"] for row in rows] == [0, 1]
    assert all(row["val0_epoch/forces_rmse"] > 0 for row in rows)
    assert trained.stats["epoch"] in (0, 1)
    kept = rows[trained.stats["epoch"]]
    assert trained.stats["val0_epoch/forces_rmse"] == pytest.approx(kept["val0_epoch/forces_rmse"])
    assert any(name.startswith("test") for name in trained.stats)


def test_errors_are_a_table_of_pandas(trained):
    pandas = pytest.importorskip("pandas")
    assert isinstance(trained.errors, pandas.DataFrame)
    assert trained.errors["epoch"].tolist() == [0, 1]


def test_plots(trained, molecule_file, tmp_path):
    assert trained.plot_training(tmp_path / "training.png") == [tmp_path / "training.png"]
    assert trained.plot_errors(molecule_file, tmp_path / "parity.png") == [tmp_path / "parity.png"]
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("training.png", "parity.png"))


def test_predictions_and_files(trained, molecule_file, tmp_path):
    atoms = ase.io.read(molecule_file)
    expected = nl.Predictor(trained.folder).predict(atoms)
    assert trained.predict(atoms)["total_energy"].item() == expected["total_energy"].item()
    dataset = load_dataset(molecule_file, trained.potential.type_names, trained.potential.cutoff)
    assert len(trained.predict_dataset(dataset)) == 24
    atoms.calc = trained.make_calculator()
    assert atoms.get_potential_energy() == pytest.approx(expected["total_energy"].item())
    trained.save(tmp_path / "copy.safetensors", {"licence": "MIT"})
    again = nl.TrainedPotential.load(tmp_path / "copy.safetensors")
    assert again.predict(atoms)["total_energy"].item() == expected["total_energy"].item()
    assert again.stats["val0_epoch/forces_rmse"] == trained.stats["val0_epoch/forces_rmse"]
    assert again.result is None
    with pytest.raises(nl.ConfigError, match=r"has no metrics\.csv"):
        again.errors  # noqa: B018
    of_folder = nl.TrainedPotential.load(trained.folder)
    assert len(of_folder.errors) == 2
    with pytest.raises(nl.ModelError, match="cannot be written for aenet"):
        trained.to_aenet_ascii(tmp_path)


def test_files_stay_where_they_are(molecule_file, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    no_report = ["report.format=[]", "report.html=false"]
    config = nl.compose("train", [*tiny, *no_report, "cutoff_radius=4.0", "run=[train]", "trainer.max_epochs=1"])
    trained = nl.train_potential(molecule_file, config=config, val=5)
    assert not (trained.folder / "structures").exists()
    assert trained.folder.parents[1] == tmp_path / "outputs"
    with pytest.raises(nl.ConfigError, match="overrides are given beside a composed config"):
        nl.train_potential(molecule_file, ["seed=3"], config)
    with pytest.raises(nl.ConfigError, match="train: there are no structures"):
        nl.train_potential([], ["cutoff_radius=4.0"])


DESCRIPTOR = {"species": ["O", "C", "H"], "rad_order": 4, "rad_cutoff": 4.0, "ang_order": 2, "ang_cutoff": 3.0}


def test_a_descriptor_network_is_said_as_in_aenet(molecule_file, tmp_path):
    arch = {name: [(3, "tanh")] for name in "HCO"}
    potential = nl.DescriptorPotential(arch, DESCRIPTOR)
    settings = potential.make_config(["optimizer=adam"])
    assert list(settings.chemical_species) == ["O", "C", "H"]
    assert (settings.cutoff_radius, settings.model.radial_order, settings.model.angular_cutoff) == (4.0, 4, 3.0)
    overrides = ["trainer.max_epochs=1", "run=[train]", "report.format=[]", "report.html=false"]
    trained = potential.train(molecule_file, overrides, val=10, output=tmp_path / "run")
    assert trained.potential.type_names == ["O", "C", "H"]
    files = trained.to_aenet_ascii(tmp_path / "for-aenet", "cho")
    assert files["C"].name == "cho.C.nn.ascii"
    back = aenet.read_aenet_potential(tmp_path / "for-aenet")
    atoms = ase.io.read(molecule_file)
    expected = trained.predict(atoms)
    assert nl.Predictor(back).predict(atoms)["total_energy"].item() == pytest.approx(expected["total_energy"].item())
    assert "energy_uncertainty" in expected  # as of every family, where there are validation energies


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"ang_cutoff": None}, "descriptor has no 'ang_cutoff'"), ({"rad_ordr": 3}, "unknown key 'rad_ordr'")],
)
def test_a_descriptor_that_is_none(changes, message):
    descriptor = {key: value for key, value in {**DESCRIPTOR, **changes}.items() if value is not None}
    with pytest.raises(nl.ConfigError, match=message):
        nl.DescriptorPotential([(3, "tanh")], descriptor)
