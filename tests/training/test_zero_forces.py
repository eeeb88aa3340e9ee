"""Forces that are worse than none: the error of zero by hand, the words, and a whole run."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from nequip_like.data import fields
from nequip_like.data.dataset import load_dataset
from nequip_like.metrics import MetricsManager
from nequip_like.metrics.elementwise import MeanSquaredError, RootMeanSquaredError
from nequip_like.training.zero_forces import WorseThanZero, describe_shares, error_of_zero
from nequip_like.workflow.train import train


@pytest.fixture
def dataset(tmp_path, write_labelled):
    """Seven frames, of which the third and the sixth have no forces."""
    return load_dataset(write_labelled(tmp_path / "a.xyz"), ["H", "C", "O"], 3.0)


def term(metric: Any, **options: Any) -> Any:
    return MetricsManager([{"field": fields.FORCES, "metric": metric, "name": "f", **options}]).terms[0]


def labels(dataset: Any) -> list[Any]:
    return [f[fields.FORCES].numpy() for f in dataset.frames if not f[fields.FORCES].isnan().any()]


def test_error_of_zero_is_the_size_of_the_labels(dataset):
    forces = np.concatenate(labels(dataset))
    assert len(labels(dataset)) == 5
    assert error_of_zero(dataset.frames, term(RootMeanSquaredError)) == pytest.approx(
        np.sqrt((forces**2).mean()), rel=1e-12
    )
    assert error_of_zero(dataset.frames, term(MeanSquaredError)) == pytest.approx((forces**2).mean(), rel=1e-12)


def test_with_weights_and_by_frames(dataset):
    for i, frame in enumerate(dataset.frames):
        frame[fields.FRAME_WEIGHT] = torch.tensor([[float(i)]], dtype=torch.float64)
    known = [i for i in range(7) if i % 3 != 2]
    sums = [i * (x**2).sum() for i, x in zip(known, labels(dataset), strict=True)]
    counts = [i * x.size for i, x in zip(known, labels(dataset), strict=True)]
    found = error_of_zero(dataset.frames, term(RootMeanSquaredError))
    assert found == pytest.approx(math.sqrt(sum(sums) / sum(counts)), rel=1e-12)
    means = [i * (x**2).mean() for i, x in zip(known, labels(dataset), strict=True)]
    found = error_of_zero(dataset.frames, term(MeanSquaredError, average="frames"))
    assert found == pytest.approx(sum(means) / sum(known), rel=1e-12)


def test_words():
    found = [WorseThanZero("val0", 3.012, 1.0), WorseThanZero("val1_raw", 0.6, 0.5)]
    assert describe_shares(found[:1]) == "forces worse than zero: val0 301.2 % of the RMS force"
    assert describe_shares(found) == "forces worse than zero: val0 301.2 %, val1_raw 120.0 % of the RMS force"
    assert found[0].describe() == (
        "warning: forces worse than zero: on val0 their RMSE, 3012 meV/A, is 301.2 % of the RMS force, 1000 meV/A; "
        "a model that predicts no forces at all would be better"
    )


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
        assert all(line.endswith(" s") for line in epochs)
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
