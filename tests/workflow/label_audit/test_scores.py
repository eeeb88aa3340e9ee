"""What a residual is measured by, and which faults are told from each other."""

import numpy as np
import pytest

from nequip_like.workflow.label_audit.scores import Scores, compare_with_alike
from nequip_like.workflow.label_audit.suspects import FORCE_LIMIT, _find_exchanged_forces, choose_force_limit


def test_each_residual_is_compared_with_values_as_difficult():
    """Ten times larger residuals of ten times more difficult values have the same scores."""
    rng = np.random.default_rng(0)
    difficulty = np.exp(rng.uniform(0.0, 5.0, 4000))
    scores = compare_with_alike(rng.normal(size=4000) * difficulty, difficulty, 1e-9)
    for part in (difficulty < 10.0, difficulty > 50.0):  # medians of a hundredfold range of residuals
        assert np.median(scores[part]) == pytest.approx(1 / 1.4826, rel=0.1)


def test_a_value_is_no_measure_of_itself():
    """A large residual among many hardly moves what is typical, however large it is."""
    residual = np.ones(100)
    residual[40] = 1e6
    scores = compare_with_alike(residual, np.ones(100), 1e-9)
    assert scores[40] == pytest.approx(1e6 / 1.4826)
    assert np.delete(scores, 40) == pytest.approx(1 / 1.4826)


def test_residuals_below_the_digits_of_a_file_are_nothing():
    assert compare_with_alike(np.full(10, 1e-7), np.ones(10), 1e-5) == pytest.approx(0.01 / 1.4826)


def test_the_limit_of_forces_follows_the_median_frame():
    def scores(worst):
        nothing = np.zeros(0)
        return Scores(nothing, 0.0, nothing, [], [], np.array(worst), 1e-3, 0.1)

    assert choose_force_limit(scores([1.0, 1.5, 40.0])) == FORCE_LIMIT
    assert choose_force_limit(scores([2.0, 3.0, 40.0, np.nan])) == pytest.approx(10.5)
    assert choose_force_limit(scores([np.nan])) == FORCE_LIMIT


def test_exchanged_forces_are_those_that_fit_when_put_back():
    rng = np.random.default_rng(1)
    predicted = rng.normal(size=(6, 3))
    labels = predicted + 0.02 * rng.normal(size=(6, 3))
    labels[[1, 4]] = labels[[4, 1]]
    residual = np.linalg.norm(labels - predicted, axis=1)
    assert _find_exchanged_forces(labels, predicted, residual) == (1, 4)
    labels[1] += 5.0  # no longer the force of any other atom
    residual = np.linalg.norm(labels - predicted, axis=1)
    assert _find_exchanged_forces(labels, predicted, residual) is None
