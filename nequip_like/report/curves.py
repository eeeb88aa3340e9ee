"""Training curves out of the ``metrics.csv`` that Lightning's CSVLogger writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from nequip_like.report.history import LARGEST_DRAWN, VALIDATION_NAME, Curve, CurvePanel, list_panels, read_curves
from nequip_like.report.pictures import COLOURS, GREY, draw_light_grid, save_figure

_PANEL = (3.5, 2.7)  # inches: two side by side are as wide as a page
_TEXT = {1: 9, 2: 9, 3: 11}  # by the number of columns, for three are printed smaller
_FEW = 10  # so many points are marked


def plot_curves(
    metrics_csv: str | Path,
    path: str | Path,
    *,
    formats: Sequence[str] | None = None,
    best_epoch: int | None = None,
    before: Mapping[str, float] | None = None,
) -> list[Path]:
    """Draw loss, errors and learning rate over epochs, in two rows; a panel without data is left out.

    Args:
        metrics_csv: The ``metrics.csv`` of a run.
        path: The image to write; its suffix chooses the format.
        formats: Formats in the place of the suffix, a file for each.
        best_epoch: The epoch whose weights are kept, which is marked.
        before: Errors of a fine-tuning before its first step, by column.

    Returns:
        The images; none if there was nothing to draw.

    Raises:
        DataError: If the table cannot be read.
        OutputError: If an image cannot be written.
    """
    drawn = list_panels(read_curves(metrics_csv))
    if not drawn:
        return []
    rows = min(2, len(drawn))
    columns = math.ceil(len(drawn) / rows)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (panel, panel_curves) in zip(grid, drawn, strict=False):
        _draw(axes, panel, panel_curves, before or {}, _TEXT[columns])
        if best_epoch is not None:
            axes.axvline(
                best_epoch, color=GREY, linewidth=1.0, linestyle=":", zorder=1, label=f"best: epoch {best_epoch}"
            )
    for axes in grid[len(drawn) :]:
        axes.set_axis_off()
    _draw_legend(figure, grid[: len(drawn)], columns)
    figure.align_ylabels()
    return save_figure(figure, path, formats)


def _draw(
    axes: Axes, panel: CurvePanel, curves: Mapping[str, Curve], initial_errors: Mapping[str, float], text: int
) -> None:
    for i, (name, curve) in enumerate(curves.items()):
        epochs, values = zip(*curve, strict=True)
        # Training has the first colour in each panel, also where it has no curve.
        colour = COLOURS[(i + (bool(panel.validation) and "training" not in curves)) % len(COLOURS)]
        axes.plot(
            epochs, values,
            color=colour, linewidth=1.5, label=name, marker="o" if len(curve) <= _FEW else "", markersize=3.5,
            drawstyle="default" if panel.validation else "steps-post",
        )  # fmt: skip
    plotted = [value for curve in curves.values() for _, value in curve]
    for column, value in initial_errors.items():
        match = VALIDATION_NAME.fullmatch(column)
        if match and match[2] == panel.validation and panel.factor * value < LARGEST_DRAWN:
            plotted.append(panel.factor * value)
            axes.axhline(plotted[-1], color="#000000", linewidth=1.0, linestyle="--", label="before the first step")
    axes.set_xlabel("epoch", fontsize=text)
    axes.set_ylabel(panel.label, fontsize=text)
    axes.tick_params(labelsize=text - 1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    if min(plotted) > 0 and max(plotted) > 10 * min(plotted):
        _log_scale(axes, max(plotted) / min(plotted))
    elif panel.column_pattern:
        axes.set_ylim(0, 1.1 * max(plotted) or 1)
    draw_light_grid(axes)


def _log_scale(axes: Axes, ratio: float) -> None:
    """Labels at 1, 2 and 5 where there are few decades, at powers of ten where there are many."""
    axes.set_yscale("log")
    if ratio < 300:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_legend(figure: Figure, grid: Sequence[Axes], columns: int) -> None:
    """One legend for all panels above them; groups of a learning rate have one in their panel."""
    common: dict[str, Artist] = {}
    for axes in grid:
        handles, names = axes.get_legend_handles_labels()
        handles_by_name = dict(zip(names, handles, strict=True))
        if axes.get_ylabel() == "learning rate":
            groups = {name: handles_by_name[name] for name in handles_by_name if not name.startswith("best")}
            if len(groups) > 1:
                axes.legend(groups.values(), groups.keys(), frameon=False, fontsize=_TEXT[columns] - 1)
            handles_by_name = {name: handle for name, handle in handles_by_name.items() if name not in groups}
        common |= handles_by_name
    figure.legend(
        common.values(), common.keys(),
        loc="outside upper center", ncols=2 * columns if columns > 1 else 2, frameon=False, fontsize=_TEXT[columns],
    )  # fmt: skip
