"""Scales and ticks of plots."""

import numpy as np
import pytest

from nequip_like.report.page.axes import Scale, fit_scale, format_tick
from nequip_like.report.page.plots import MOST_POINTS, draw_curves, draw_errors, draw_parity


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3.0, 7.0, [-2.0, 0.0, 2.0, 4.0, 6.0]),
        (1e6, 1e6 + 3, [1e6, 1e6 + 1, 1e6 + 2, 1e6 + 3]),
    ],
)
def test_ticks_are_round(low, high, ticks):
    assert Scale(low, high, 0.0, 1.0).list_ticks() == ticks


def test_a_scale_is_logarithmic_beyond_a_decade():
    assert not fit_scale([1.0, 9.0], 0.0, 1.0).logarithmic
    assert fit_scale([1.0, 11.0], 0.0, 1.0).logarithmic
    assert not fit_scale([0.0, 11.0], 0.0, 1.0).logarithmic
    assert fit_scale([1e-9, 1e3], 0.0, 1.0).list_ticks() == [1e-8, 1e-6, 1e-4, 0.01, 1.0, 100.0]


def test_ticks_are_short():
    assert [format_tick(value) for value in (0.0, 0.25, -1e-4, 2e6)] == ["0", "0.25", "−10⁻⁴", "2·10⁶"]


def test_plots_of_a_single_value():
    for drawing in (
        draw_curves({"validation": [(0.0, 0.0)]}, "x", colours={"validation": "#000"}),
        draw_parity({"": (np.zeros(1), np.zeros(1))}, "x", "eV"),
        draw_errors(np.zeros(1), "x", "eV"),
    ):
        assert drawing.startswith("<svg ")
        assert "nan" not in drawing


def test_the_largest_errors_are_always_drawn():
    labels = np.linspace(0.0, 1.0, 3 * MOST_POINTS)
    predictions = labels.copy()
    predictions[17] = 5.0
    drawing = draw_parity({"": (labels, predictions)}, "x", "eV")
    assert drawing.count("h0") == MOST_POINTS
    top = Scale(-0.2, 5.2, 208.0, 14.0).place(5.0)
    assert f" {top:.1f}h0" in drawing
