"""What is written can be read by ASE and checked with numpy alone."""

import json

import ase.io
import numpy as np
import pytest
import torch

from nequip_like.errors import OutputError
from nequip_like.report.files import write_metrics, write_predictions


def test_metrics(tmp_path, evaluations):
    write_metrics(evaluations, tmp_path / "new" / "metrics.json")
    read = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert read == {name: evaluation.metrics for name, evaluation in evaluations.items()}


def test_predictions_keep_all_digits(tmp_path, evaluations):
    path = tmp_path / "predictions.extxyz"
    write_predictions(evaluations, path)
    images = iter(ase.io.read(path, ":"))
    for name, evaluation in evaluations.items():
        for i, (frame, prediction) in enumerate(zip(evaluation.dataset.frames, evaluation.predictions, strict=True)):
            atoms = next(images)
            assert atoms.info["data_set"] == name
            assert atoms.info["origin"] == evaluation.dataset.origin(i)
            np.testing.assert_array_equal(atoms.numbers, frame["atomic_numbers"])
            np.testing.assert_array_equal(atoms.positions, frame["pos"])
            np.testing.assert_array_equal(atoms.cell[:], frame["cell"][0])
            np.testing.assert_array_equal(atoms.pbc, frame["pbc"][0])
            assert atoms.get_potential_energy() == frame["total_energy"].item()
            assert atoms.info["predicted_energy"] == prediction["total_energy"].item()
            np.testing.assert_array_equal(atoms.arrays["predicted_forces"], prediction["forces"])
            np.testing.assert_array_equal(atoms.arrays["predicted_energies"], prediction["atomic_energy"][:, 0])
            has_forces = not frame["forces"].isnan().all()
            assert ("forces" in atoms.calc.results) == has_forces
            if has_forces:
                np.testing.assert_array_equal(atoms.get_forces(), frame["forces"])
            assert ("predicted_stress" in atoms.info) == bool(atoms.pbc.any())
            if atoms.pbc.any():
                np.testing.assert_array_equal(atoms.info["predicted_stress"].reshape(3, 3), prediction["stress"][0])
                np.testing.assert_array_equal(atoms.get_stress(voigt=False), frame["stress"][0])
    assert next(images, None) is None


def test_partial_forces_and_odd_names(tmp_path, evaluations):
    evaluation = evaluations["second"]
    evaluation.dataset.frames[0]["forces"][1] = torch.nan
    evaluation.dataset._origins[0] = 'a "quoted" folder\\file.xyz frame 0'
    write_predictions({"x": evaluation}, tmp_path / "p.extxyz")
    atoms = ase.io.read(tmp_path / "p.extxyz")
    assert np.isnan(atoms.get_forces()).all(axis=1).tolist() == [i == 1 for i in range(len(atoms))]
    assert atoms.info["origin"] == 'a "quoted" folder\\file.xyz frame 0'


def test_unwritable(tmp_path, evaluations):
    (tmp_path / "file").write_text("")
    for write in (write_metrics, write_predictions):
        with pytest.raises(OutputError, match="cannot write"):
            write(evaluations, tmp_path / "file" / "name")


def test_failure_leaves_the_old_file(tmp_path, evaluations):
    path = tmp_path / "predictions.extxyz"
    path.write_text("old")
    del evaluations["second"].predictions[0]["total_energy"]
    evaluations["second"].predictions.append({})
    with pytest.raises(ValueError, match="zip"):
        write_predictions(evaluations, path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.glob("*predictions*")] == ["predictions.extxyz"]
