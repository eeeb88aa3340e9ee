"""A model that knows nothing: its errors by hand, the words for one that is no better, and a whole run."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from nequip_like.data import fields
from nequip_like.data.dataset import load_dataset
from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.tables.frame_table import tabulate
from nequip_like.metrics import EnergyForceMetrics, EnergyOnlyMetrics, MetricsManager
from nequip_like.metrics.baseline import compute_baseline_errors, compute_mean_remainder
from nequip_like.metrics.elementwise import MeanSquaredError, RootMeanSquaredError
from nequip_like.training.baseline import WorseThanBaseline, describe_shares
from nequip_like.workflow.train import train


@pytest.fixture
def dataset(tmp_path, write_labelled):
    """Seven frames, of which the third and the sixth have no forces."""
    return load_dataset(write_labelled(tmp_path / "a.xyz"), ["H", "C", "O"], 3.0)


def error_of_zero(frames: Any, metric: Any, **options: Any) -> float:
    manager = MetricsManager([{"field": fields.FORCES, "metric": metric, "name": "f", **options}])
    return compute_baseline_errors(frames, manager, {}, 0.0)["f"]


def labels(dataset: Any) -> list[Any]:
    return [f[fields.FORCES].numpy() for f in dataset.frames if not f[fields.FORCES].isnan().any()]


def test_error_of_zero_is_the_size_of_the_labels(dataset):
    forces = np.concatenate(labels(dataset))
    assert len(labels(dataset)) == 5
    assert error_of_zero(dataset.frames, RootMeanSquaredError) == pytest.approx(np.sqrt((forces**2).mean()), rel=1e-12)
    assert error_of_zero(dataset.frames, MeanSquaredError) == pytest.approx((forces**2).mean(), rel=1e-12)


def test_with_weights_and_by_frames(dataset):
    for i, frame in enumerate(dataset.frames):
        frame[fields.FRAME_WEIGHT] = torch.tensor([[float(i)]], dtype=torch.float64)
    known = [i for i in range(7) if i % 3 != 2]
    sums = [i * (x**2).sum() for i, x in zip(known, labels(dataset), strict=True)]
    counts = [i * x.size for i, x in zip(known, labels(dataset), strict=True)]
    found = error_of_zero(dataset.frames, RootMeanSquaredError)
    assert found == pytest.approx(math.sqrt(sum(sums) / sum(counts)), rel=1e-12)
    means = [i * (x**2).mean() for i, x in zip(known, labels(dataset), strict=True)]
    found = error_of_zero(dataset.frames, MeanSquaredError, average="frames")
    assert found == pytest.approx(sum(means) / sum(known), rel=1e-12)


def test_words():
    found = [WorseThanBaseline("val0", 3.012, 1.0), WorseThanBaseline("val1_raw", 0.6, 0.5)]
    assert describe_shares(found[:1]) == "forces worse than zero: val0 301.2 % of the RMS force"
    assert describe_shares(found) == "forces worse than zero: val0 301.2 %, val1_raw 120.0 % of the RMS force"
    assert found[0].describe() == (
        "warning: forces worse than zero: on val0 their RMSE, 3012 meV/A, is 301.2 % of the RMS force, 1000 meV/A; "
        "a model that predicts no forces at all would be better"
    )
    energies = WorseThanBaseline("val0", 0.03, 0.02, "per_atom_energy")
    assert describe_shares([energies, *found[:1]]) == (
        "forces worse than zero: val0 301.2 % of the RMS force; "
        "energies worse than their mean: val0 150.0 % of the spread"
    )
    assert energies.describe() == (
        "warning: energies worse than their mean: on val0 their RMSE, 30 meV/atom, is 150.0 % of the spread, "
        "20 meV/atom; a model that predicts reference energies and their mean remainder would be better"
    )
    stress = WorseThanBaseline("val0", 0.02, 0.01, "stress")
    assert describe_shares([stress]) == "stress worse than zero: val0 200.0 % of the RMS stress"


def test_energies_are_references_and_the_mean_of_what_they_leave():
    """-13 eV of H2 and -8 eV of HO are -1 and -2 eV beyond references of -6 and 0 eV: -0.75 eV per atom."""
    pair = [[0, 0, 0], [0, 0, 0.9]]
    frames = [
        {**graph_from_atoms(Atoms(name, pair)), fields.TOTAL_ENERGY: torch.tensor([[energy]], dtype=torch.float64)}
        for name, energy in (("H2", -13.0), ("HO", -8.0))
    ]
    references = {"H": -6.0}
    mean = compute_mean_remainder(tabulate(frames), references)
    assert mean == pytest.approx(-0.75)
    # Without labels of forces there is no error of forces, and so no sum of both.
    errors = compute_baseline_errors(frames, EnergyForceMetrics(), references, mean)
    assert errors == pytest.approx(
        {
            "total_energy_rmse": 0.5,
            "total_energy_mae": 0.5,
            "total_energy_maxabserr": 0.5,
            "per_atom_energy_rmse": 0.25,
            "per_atom_energy_mae": 0.25,
            "per_atom_energy_maxabserr": 0.25,
        }
    )
    only = EnergyOnlyMetrics({"total_energy_mae": 1.0})
    assert compute_baseline_errors(frames, only, references, mean)["weighted_sum"] == pytest.approx(0.5)


# A model of scale 20 without a step that counts: forces of several times the labels' size.
BAD = ("run=[train]", "training_module.optimizer.lr=1.0e-30", "trainer.max_epochs=2")


@pytest.mark.parametrize("options", [("model.per_type_energy_scales=20",), ("model.per_type_energy_scales=1.0e-6",)])
def test_whole_runs(options: tuple[str, ...], compose: Any, molecule_file: Any, capsys: Any) -> None:
    """Said at the end of each line and of the training; silent for a model that is nearly zero."""
    result = train(compose(*BAD, *options))
    lines = capsys.readouterr().out.splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    rmse = result.metrics["val0_epoch/forces_rmse"]
    said = [line for line in lines if line.startswith("warning: forces worse than zero")]
    assert len(epochs) == 2
    if "e-6" in options[0]:
        assert not any("worse" in line for line in epochs)
        assert said == []
        return
    ends = {line.rpartition(" | ")[2] for line in epochs}
    percent = float(said[0].split(" is ")[1].split(" %")[0])
    assert percent > 150
    assert ends == {f"forces worse than zero: val0 {percent:.1f} % of the RMS force"}
    (sentence,) = said
    match = re.fullmatch(
        r"warning: forces worse than zero: on val0 their RMSE, (\S+) meV/A, is \S+ % of the RMS force, (\S+) meV/A; "
        r"a model that predicts no forces at all would be better",
        sentence,
    )
    assert match is not None
    assert float(match[1]) == pytest.approx(1e3 * rmse, rel=1e-3)
    assert 100 * float(match[1]) / float(match[2]) == pytest.approx(percent, rel=1e-3)
