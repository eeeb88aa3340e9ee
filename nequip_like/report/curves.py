"""Training curves out of the ``metrics.csv`` that Lightning's CSVLogger writes."""

from __future__ import annotations

import csv
import math
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from nequip_like.errors import DataError
from nequip_like.report.pictures import COLOURS, GREY, draw_light_grid, save
from nequip_like.report.units import FORCES, PER_ATOM_ENERGY, STRESS

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class _Panel:
    """One panel: what it shows of training and validation, and in which unit."""

    label: str
    validation: str = ""
    training: tuple[str, ...] = ()  # the first that was logged is shown; of NAME_mse the root
    column_pattern: str = ""  # a pattern of columns that are neither
    factor: float = 1.0


def _make_error_panel(quantity: str, name: str, unit: str, factor: float) -> _Panel:
    training = tuple(f"train_{kind}_epoch/{name}_{metric}" for metric in ("rmse", "mse") for kind in ("metric", "loss"))
    return _Panel(f"{quantity} RMSE ({unit})", f"{name}_rmse", training, factor=factor)


_LARGEST = 1e100  # matplotlib overflows on the way to the largest numbers
_PANELS = (
    _Panel("weighted sum (arb. units)", "weighted_sum", ("train_loss_epoch/weighted_sum",)),
    _make_error_panel("force", "forces", FORCES.unit, FORCES.factor),
    _make_error_panel("energy", "per_atom_energy", PER_ATOM_ENERGY.unit, PER_ATOM_ENERGY.factor),
    _make_error_panel("stress", "stress", STRESS.unit, STRESS.factor),
    _Panel("learning rate", column_pattern=r"learning_rate(/.*)?|lr-.*"),
)
_VALIDATION = re.compile(r"(val\d+(?:_raw)?)_epoch/(.*)")
_PANEL = (3.5, 2.7)  # inches: two side by side are as wide as a page
_TEXT = {1: 9, 2: 9, 3: 11}  # by the number of columns, for three are printed smaller
_FEW = 10  # so many points are marked


def read_curves(path: str | Path) -> dict[str, Curve]:
    """Read all columns of a CSVLogger file as curves over epochs.

    Args:
        path: The ``metrics.csv``.

    Returns:
        ``{column: [(epoch, value), ...]}``, the last value of each epoch below 1e100. ``epoch`` counts from 0. A row
        without one, as of learning rates, belongs to the epoch of the next row that has one.

    Raises:
        DataError: If the file cannot be read or has no column ``epoch``.

    Example:
        >>> _ = Path("metrics.csv").write_text('''epoch,step,val0_epoch/forces_rmse
        ... 0,9,0.4
        ... 1,19,0.3
        ... ''')
        >>> read_curves("metrics.csv")
        {'val0_epoch/forces_rmse': [(0.0, 0.4), (1.0, 0.3)]}
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}", "give the metrics.csv of a training run") from error
    if rows and "epoch" not in rows[0]:
        raise DataError(f"{path} has no column 'epoch'", "give the metrics.csv of a training run")
    curves: dict[str, dict[float, float]] = {}
    epochs = _list_epochs_by_step(rows)
    for row in rows:
        epoch = _find_epoch(row, epochs)
        row.pop(None, None)  # cells beyond the last column
        for column, text in row.items():
            value = _read_number(text)
            if epoch is not None and value is not None and column not in ("epoch", "step"):
                curves.setdefault(column, {})[epoch] = value
    return {column: sorted(points.items()) for column, points in curves.items()}


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
    curves = read_curves(metrics_csv)
    drawn = [(panel, _select_curves(curves, panel)) for panel in _PANELS]
    drawn = [(panel, panel_curves) for panel, panel_curves in drawn if panel_curves]
    if not any(panel.validation for panel, _ in drawn):
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
    return save(figure, path, formats)


def _select_curves(curves: Mapping[str, Curve], panel: _Panel) -> dict[str, Curve]:
    """Curves of a panel by what the legend calls them, in the unit of the panel."""
    selected: dict[str, Curve] = {}
    several = any(column.startswith("val1_") for column in curves)
    for column in panel.training:
        if column in curves and "training" not in selected:
            root = column.endswith("_mse")
            selected["training"] = [(x, math.sqrt(max(y, 0.0)) if root else y) for x, y in curves[column]]
    for column, curve in sorted(curves.items()):
        match = _VALIDATION.fullmatch(column)
        if match and match[2] == panel.validation:
            selected[_set_name(match[1], several)] = curve
        elif panel.column_pattern and re.fullmatch(panel.column_pattern, column):
            selected[column.partition("/")[2] or column] = curve
    return {name: [(x, panel.factor * y) for x, y in curve] for name, curve in selected.items()}


def _set_name(prefix: str, several: bool) -> str:
    """``validation 1`` of val1, ``validation`` of the only one; ``validation, raw weights`` of val0_raw."""
    number, _, raw = prefix.removeprefix("val").partition("_")
    return "validation" + (f" {number}" if several else "") + (", raw weights" if raw else "")


def _draw(
    axes: Axes, panel: _Panel, curves: Mapping[str, Curve], initial_errors: Mapping[str, float], text: int
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
        match = _VALIDATION.fullmatch(column)
        if match and match[2] == panel.validation and panel.factor * value < _LARGEST:
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


def _list_epochs_by_step(rows: Sequence[Mapping[str, str | None]]) -> list[tuple[float, float]]:
    """Pairs of step and epoch, in order of steps."""
    pairs = [(_read_number(row.get("step")), _read_number(row.get("epoch"))) for row in rows]
    return sorted((step, epoch) for step, epoch in pairs if step is not None and epoch is not None)


def _find_epoch(row: Mapping[str, str | None], epochs: Sequence[tuple[float, float]]) -> float | None:
    epoch, step = _read_number(row.get("epoch")), _read_number(row.get("step"))
    if epoch is None and step is not None:
        index = bisect_left(epochs, (step, -math.inf))
        return epochs[index][1] if index < len(epochs) else None
    return epoch


def _read_number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if abs(value) < _LARGEST else None
