"""Numbers of the quality of uncertainties, by hand and of errors that are drawn as is claimed."""

import math

import numpy as np
import pytest
import torch

from nequip_like.inference.uncertainty_quality import (
    correlate_ranks,
    judge_predictions,
    judge_uncertainty,
    reject_uncertain,
)


def test_errors_that_are_as_claimed():
    random = np.random.default_rng(0)
    spreads = random.uniform(0.1, 1.0, size=20_000)
    quality = judge_uncertainty("forces", random.normal(size=20_000) * spreads, spreads)
    assert quality.coverage == {share: pytest.approx(share, abs=0.01) for share in (0.5, 0.9, 0.95)}
    assert quality.miscalibration_area < 0.005
    assert quality.sharpness == pytest.approx(np.sqrt((spreads**2).mean()))
    expected = np.mean(0.5 * np.log(2 * np.pi * spreads**2)) + 0.5
    assert quality.negative_log_likelihood == pytest.approx(expected, abs=0.02)
    assert 0.3 < quality.spearman < 0.6
    assert (np.diff(quality.rejection) < 0).all()


def test_numbers_by_hand():
    """Errors of 1 and 3 sigma: 0.5 holds neither, 0.9 and 0.95 the first one."""
    quality = judge_uncertainty("forces", np.array([-1.0, 6.0]), np.array([1.0, 2.0]))
    assert quality.coverage == {0.5: 0.0, 0.9: 0.5, 0.95: 0.5}
    by_hand = 0.5 * math.log(2 * math.pi) + 0.5 * math.log(2) + 0.5 * (1 + 9) / 2
    assert quality.negative_log_likelihood == pytest.approx(by_hand)
    assert quality.sharpness == pytest.approx(math.sqrt(2.5))
    assert quality.spearman == pytest.approx(1.0)
    assert quality.curve[[0, 68, 69, 99, 100]].tolist() == [0.0, 0.0, 0.5, 0.5, 1.0]


def test_certain_of_nothing():
    """Where all is claimed to be exact and nothing is, no interval holds an error, and the area is a half."""
    quality = judge_uncertainty("forces", np.array([1.0, -2.0]), np.zeros(2))
    assert quality.coverage[0.95] == 0.0
    assert quality.miscalibration_area == pytest.approx(0.5, abs=0.01)
    assert math.isinf(quality.negative_log_likelihood)
    assert math.isnan(quality.spearman)
    exact = judge_uncertainty("forces", np.zeros(2), np.zeros(2))
    assert exact.coverage[0.5] == 1.0


def test_ranks_share_ties():
    """Spearman's coefficient of (1, 2.5, 2.5, 4) and (1, 2, 3, 4)."""
    assert correlate_ranks(np.array([0, 5, 5, 9]), np.array([1, 2, 3, 4])) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert correlate_ranks(np.arange(5.0), -np.arange(5.0)) == pytest.approx(-1.0)


def test_rejection():
    errors, spreads = np.arange(1.0, 11.0), np.arange(1.0, 11.0)
    rejection = reject_uncertain(errors, spreads)
    assert rejection[[0, 5, 9]].tolist() == pytest.approx([math.sqrt(38.5), math.sqrt(11.0), 1.0])
    assert reject_uncertain(np.array([2.0]), np.array([1.0])).tolist() == [2.0] * 10


def test_predictions():
    """Energies per atom, forces by component and ranked by atom; labels that are NaN are left out."""
    nan = float("nan")

    def graph(energy, forces, **others):
        values = {"total_energy": torch.tensor([[energy]]), "forces": torch.tensor(forces), "pos": torch.zeros(2, 3)}
        return {**values, **others}

    spreads = {"energy_uncertainty": torch.tensor([[0.4]]), "forces_uncertainty": torch.tensor([[0.3] * 3, [0.6] * 3])}
    zeros = [[0.0] * 3] * 2
    frames = [graph(0.0, zeros), graph(nan, [[0.0] * 3, [nan] * 3])]
    predictions = [graph(0.2, [[0.3] * 3, [1.2] * 3], **spreads), graph(5.0, zeros, **spreads)]
    qualities = judge_predictions(frames, predictions)
    energy, forces = qualities["per_atom_energy"], qualities["forces"]
    assert (energy.count, energy.sharpness, energy.errors.tolist()) == (1, pytest.approx(0.2), pytest.approx([0.1]))
    assert forces.count == 9
    assert forces.errors.tolist() == pytest.approx([0.3, 1.2, 0.0])
    assert forces.spreads.tolist() == pytest.approx([0.3, 0.6, 0.3])
    assert forces.coverage[0.9] == pytest.approx(6 / 9)
    assert judge_predictions(frames, frames) == {}
