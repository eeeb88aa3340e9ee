"""The plot of uncertainties: are they calibrated, do they follow the errors, what does leaving out the worst bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nequip_like.inference.evaluation import Evaluation
from nequip_like.inference.uncertainty_quality import UncertaintyQuality, reject_uncertain
from nequip_like.report.pictures import COLOURS, GREY, draw_light_grid, save_figure
from nequip_like.report.uncertainty.quality_table import SHOWN
from nequip_like.report.units import Shown

_MOST_POINTS = 5000
_TEXT = 11


def plot_uncertainty(
    evaluations: Mapping[str, Evaluation], path: str | Path, formats: Sequence[str] | None = None
) -> list[Path]:
    """Draw the quality of uncertainties: a row for each data set and quantity that has them.

    Three panels: the share of errors within each interval beside the share that is claimed; errors over uncertainties;
    the error that is left without the least certain.

    Args:
        evaluations: The evaluation of each data set.
        path: The image; its suffix chooses the format.
        formats: Formats in the place of the suffix, a file for each.

    Returns:
        The images; none if nothing has an uncertainty.

    Raises:
        OutputError: If a file cannot be written.
    """
    rows = [(name, quality) for name, evaluation in evaluations.items() for quality in evaluation.uncertainty.values()]
    if not rows or (formats is not None and not formats):
        return []
    figure = Figure(figsize=(12.0, 3.8 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes_row, (name, quality) in zip(figure.subplots(len(rows), 3, squeeze=False), rows, strict=True):
        display = SHOWN[quality.quantity]
        axes_row[0].set_title(f"{name}: {display.label}", loc="left", fontweight="bold", parse_math=False)
        _draw_calibration(axes_row[0], quality)
        _draw_errors(axes_row[1], quality, display)
        _draw_rejection(axes_row[2], quality, display)
        for axes in axes_row:
            axes.tick_params(labelsize=_TEXT - 1)
            draw_light_grid(axes)
    return save_figure(figure, path, formats)


def _draw_calibration(axes: Axes, quality: UncertaintyQuality) -> None:
    claimed = np.linspace(0.0, 1.0, len(quality.curve))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    axes.plot(claimed, quality.curve, color=COLOURS[0])
    axes.fill_between(claimed, claimed, quality.curve, color=COLOURS[0], alpha=0.15, linewidth=0)
    axes.set_xlabel("claimed share of errors", fontsize=_TEXT)
    axes.set_ylabel("share found", fontsize=_TEXT)
    text = f"miscalibration area {quality.miscalibration_area:.3f}"
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top", fontsize=_TEXT - 1)


def _draw_errors(axes: Axes, quality: UncertaintyQuality, display: Shown) -> None:
    step = max(1, len(quality.errors) // _MOST_POINTS)
    spreads, errors = (display.factor * values[::step] for values in (quality.spreads, quality.errors))
    positive = (spreads > 0) & (errors > 0)
    if positive.any():
        axes.loglog(spreads[positive], errors[positive], ".", color=COLOURS[0], markersize=3, alpha=0.5)
        ends = np.array([spreads[positive].min(), spreads[positive].max()])
        axes.plot(ends, ends, color=GREY, linewidth=1)
        for axis in (axes.xaxis, axes.yaxis):  # a few numbers, also where they span less than a decade
            axis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"uncertainty ({display.unit})", fontsize=_TEXT)
    axes.set_ylabel(f"error ({display.unit})", fontsize=_TEXT)
    axes.text(0.03, 0.97, f"Spearman {quality.spearman:.2f}", transform=axes.transAxes, va="top", fontsize=_TEXT - 1)


def _draw_rejection(axes: Axes, quality: UncertaintyQuality, display: Shown) -> None:
    rejected = np.linspace(0.0, 90.0, len(quality.rejection))
    axes.plot(rejected, display.factor * quality.rejection, color=COLOURS[0], label="by uncertainty")
    axes.plot(rejected, display.factor * _reject_worst(quality), color=GREY, linestyle="--", label="by error itself")
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("least certain left out (%)", fontsize=_TEXT)
    axes.set_ylabel(f"RMSE of the rest ({display.unit})", fontsize=_TEXT)
    axes.legend(frameon=False, fontsize=_TEXT - 1)


def _reject_worst(quality: UncertaintyQuality) -> np.ndarray:
    """What a perfect ranking would bring."""
    return reject_uncertain(quality.errors, quality.errors)
