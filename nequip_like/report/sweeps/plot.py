"""A picture of several runs: the best value of each, and over each key that varies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nequip_like.report.pictures import COLOURS, GREY, draw_light_grid, save_figure
from nequip_like.report.sweeps.runs import PRUNED, Run, find_varying_keys, read_values

_PANEL = (3.5, 2.7)  # inches
_MOST_KEYS = 8
_DECADES = 30.0  # from this ratio on an axis is logarithmic
_LONGEST = 18  # characters of a value


def plot_runs(runs: Sequence[Run], path: str | Path) -> list[Path]:
    """Draw the best value of each run over its number, with the best so far, and over each key that varies.

    Runs that were pruned are grey. Runs without a value are left out.

    Args:
        runs: The runs.
        path: The image.

    Returns:
        The image; none if no run has a value.

    Raises:
        OutputError: If it cannot be written.
    """
    shown = sorted((run for run in runs if run.best is not None and math.isfinite(run.best)), key=lambda r: r.number)
    if not shown:
        return []
    keys = find_varying_keys(runs)[:_MOST_KEYS] if len(runs) > 1 else []
    columns = min(3, 1 + len(keys))
    rows = math.ceil((1 + len(keys)) / columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    _draw_course(grid[0], shown)
    for axes, key in zip(grid[1:], keys, strict=False):
        _draw_key(axes, shown, key)
    for axes in grid[: 1 + len(keys)]:
        if is_wide([float(run.best or 0.0) for run in shown]):
            axes.set_yscale("log")
        draw_light_grid(axes)
    for axes in grid[1 + len(keys) :]:
        axes.set_axis_off()
    return save_figure(figure, path)


def is_wide(values: Sequence[float]) -> bool:
    """Whether values are spread so far that their logarithms are to be drawn.

    Example:
        >>> is_wide([1e-4, 1e-2]), is_wide([4.0, 6.0]), is_wide([0.0, 1.0])
        (True, False, False)
    """
    return min(values) > 0 and max(values) / min(values) >= _DECADES


def _draw_course(axes: Axes, runs: Sequence[Run]) -> None:
    _draw_points(axes, [float(run.number) for run in runs], runs)
    numbers, bests, best = [], [], math.inf
    for run in runs:
        if not run.status.startswith(PRUNED) and run.best is not None:
            best = min(best, -run.best if run.larger_is_better else run.best)
            numbers.append(run.number)
            bests.append(-best if run.larger_is_better else best)
    axes.step(numbers, bests, where="post", color=COLOURS[1], linewidth=1.2, label="best so far")
    axes.set_xlabel("run")
    axes.set_ylabel(runs[0].monitored)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8)


def _draw_key(axes: Axes, runs: Sequence[Run], key: str) -> None:
    texts = [read_values(run).get(key, "") for run in runs]
    numbers = [_read_number(text) for text in texts]
    if all(number is not None for number in numbers):
        places = [number for number in numbers if number is not None]
        if is_wide(places):
            axes.set_xscale("log")
    else:
        names = list(dict.fromkeys(texts))
        places = [float(names.index(text)) for text in texts]
        axes.set_xticks(range(len(names)), [name[:_LONGEST] for name in names], rotation=20 if len(names) > 2 else 0)
    _draw_points(axes, places, runs)
    axes.set_xlabel(key)


def _draw_points(axes: Axes, places: Sequence[float], runs: Sequence[Run]) -> None:
    for label, colour, pruned in (("run", COLOURS[0], False), ("pruned", GREY, True)):
        chosen = [(x, run.best) for x, run in zip(places, runs, strict=True) if run.status.startswith(PRUNED) is pruned]
        if chosen:
            axes.plot(*zip(*chosen, strict=True), linestyle="", marker="o", markersize=4, color=colour, label=label)


def _read_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
