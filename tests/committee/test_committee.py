"""Committees of folders and files, and the table of what they predict."""

import json

import numpy as np
import pytest

from nequip_like.committee import Committee, CommitteePrediction, CommitteePredictions
from nequip_like.committee.predictions import compute_force_uncertainty
from nequip_like.data.dataset import load_dataset
from nequip_like.errors import ConfigError, ModelError, ModelFileError
from nequip_like.inference import Predictor, save


@pytest.fixture
def members(make_potential):
    return [make_potential(seed=seed) for seed in (1, 2, 3)]


@pytest.fixture
def folder(tmp_path, members):
    for i, member in enumerate(members):
        save(member, tmp_path / "run" / f"member_{i:03d}" / "model.safetensors")
    return tmp_path / "run"


@pytest.fixture
def frames(tmp_path, write_labelled):
    return write_labelled(tmp_path / "a.xyz", 5)


def test_statistics_of_the_members(members, frames):
    predictions = Committee(members, batch_size=2).predict(frames)
    outputs = [Predictor(member).predict(frames) for member in members]
    assert [prediction.index for prediction in predictions] == [0, 1, 2, 3, 4]
    assert predictions[3].identifier.endswith("a.xyz frame 3")
    for i, prediction in enumerate(predictions):
        energies = np.array([output[i]["total_energy"].item() for output in outputs])
        forces = np.array([output[i]["forces"].numpy() for output in outputs])
        np.testing.assert_allclose(prediction.member_energies, energies, rtol=1e-12)
        assert prediction.energy_mean == pytest.approx(energies.sum() / 3)
        assert prediction.energy_std == pytest.approx(np.sqrt(((energies - energies.mean()) ** 2).sum() / 3))
        np.testing.assert_allclose(prediction.forces_mean, forces.mean(0), atol=1e-12)
        np.testing.assert_allclose(prediction.forces_std, np.std(forces, axis=0, ddof=0), atol=1e-12)
        np.testing.assert_allclose(prediction.force_uncertainty, prediction.forces_std.sum(1) / 3, atol=1e-12)
        assert np.isnan(prediction.member_stress).all() == (i % 2 == 0)


def test_a_data_set_keeps_its_neighbours(members, frames):
    dataset = load_dataset(frames, members[0].type_names, members[0].cutoff)
    committee = Committee(members)
    for a, b in zip(committee.predict(dataset), committee.predict(frames), strict=True):
        np.testing.assert_allclose(a.member_energies, b.member_energies, rtol=1e-12)
    assert committee.predict([]) == []


def test_folder_files_and_one_file(tmp_path, folder, frames, members):
    committee = Committee.load(folder)
    assert len(committee) == 3
    committee.save(tmp_path / "committee.safetensors")
    expected = [prediction.energy_std for prediction in Committee(members).predict(frames)]
    files = [folder / f"member_{i:03d}" / "model.safetensors" for i in range(3)]
    for other in (committee, Committee.from_files(files), Committee.load(tmp_path / "committee.safetensors")):
        assert [prediction.energy_std for prediction in other.predict(frames)] == pytest.approx(expected)


def test_what_is_no_committee(tmp_path, folder, make_potential):
    with pytest.raises(ModelFileError, match="holds a single potential"):
        Committee.load(folder / "member_000" / "model.safetensors")
    with pytest.raises(ModelFileError, match="has no member_000"):
        Committee.load(tmp_path)
    with pytest.raises(ModelFileError, match="give a list of two or more"):
        Committee.from_files(str(folder))
    save(make_potential(r_max=3.5), folder / "member_002" / "model.safetensors")
    with pytest.raises(ModelError, match=r"member_000 and .*member_002 differ in cutoff: 3.0 and 3.5"):
        Committee.load(folder)


def test_a_failed_member_is_named(folder):
    entries = [{"member_index": i, "status": "done", "error": None} for i in range(3)]
    entries[1] |= {"status": "failed", "error": "loss is NaN"}
    (folder / "committee_metadata.json").write_text(json.dumps({"members": entries}))
    with pytest.raises(ModelFileError, match="member 1 is not trained: loss is NaN"):
        Committee.load(folder)
    (folder / "committee_metadata.json").write_text("{")
    with pytest.raises(ModelFileError, match="is damaged"):
        Committee.load(folder)


def make_predictions():
    def make(index, spread, force):
        forces = np.zeros((2, 3, 3))
        forces[:, 0] = [[-force] * 3, [force] * 3]
        return CommitteePrediction(index, f"a.xyz frame {index}", np.array([-1 - spread, -1 + spread]), forces)

    return CommitteePredictions([make(0, 0.1, 0.3), make(1, 0.3, 0.1), make(2, 0.2, 0.2)])


def test_sorting():
    predictions = make_predictions()
    assert [p.index for p in predictions.sort_by("energy_std")] == [1, 2, 0]
    assert [p.index for p in predictions.sort_by("energy_std", descending=False)] == [0, 2, 1]
    assert [p.index for p in predictions.top_uncertain(2)] == [0, 2]
    assert [p.max_force_uncertainty for p in predictions] == pytest.approx([0.3, 0.1, 0.2])
    assert [p.mean_force_uncertainty for p in predictions] == pytest.approx([0.1, 0.1 / 3, 0.2 / 3])
    with pytest.raises(ConfigError, match="cannot be sorted by 'energy_sd'"):
        predictions.sort_by("energy_sd")


def test_without_forces(make_potential, frames):
    committee = Committee([make_potential(seed=seed, do_derivatives=False) for seed in (1, 2)])
    predictions = committee.predict(frames)
    spreads = [prediction.energy_std for prediction in predictions.top_uncertain()]
    assert spreads == sorted(spreads, reverse=True)
    assert np.isnan(predictions[0].max_force_uncertainty)
    with pytest.raises(ConfigError, match="predicts no forces"):
        _ = predictions[0].forces_std


def test_rows():
    row = make_predictions()[1].list_values()
    assert row["index"] == 1
    assert row["energy"] == row["energy_mean"] == -1.0
    assert row["energy_std"] == pytest.approx(0.3)
    assert row["member_energies"] == pytest.approx([-1.3, -0.7])
    assert (row["num_members"], row["aggregation"]) == (2, "mean")


def test_dataframe():
    pandas = pytest.importorskip("pandas")
    table = make_predictions().to_dataframe()
    assert isinstance(table, pandas.DataFrame)
    assert table["energy_std"].tolist() == pytest.approx([0.1, 0.3, 0.2])


def test_dataframe_without_pandas(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ConfigError, match="needs pandas"):
        make_predictions().to_dataframe()


def test_force_uncertainty_is_the_mean_over_axes():
    assert compute_force_uncertainty(np.array([[0.3, 0.6, 0.0]])).tolist() == pytest.approx([0.3])
