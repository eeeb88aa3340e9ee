"""Training curves out of the ``metrics.csv`` that Lightning's CSVLogger writes."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nequip_like.errors import DataError
from nequip_like.report.parity import COLOURS
from nequip_like.report.units import FORCES, PER_ATOM_ENERGY, STRESS
from nequip_like.whole_files import written_whole

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class _Panel:
    """One panel: which columns it shows, and in which unit."""

    title: str
    pattern: str
    factor: float = 1.0


_LARGEST = 1e100  # matplotlib overflows on the way to the largest numbers
_VALIDATION = r"(?:val\d+_epoch)"
_PANELS = (
    _Panel("training loss", r"train_loss_epoch/weighted_sum"),
    _Panel("validation: weighted sum", rf"{_VALIDATION}/weighted_sum"),
    _Panel(f"forces RMSE ({FORCES.unit})", rf"{_VALIDATION}/forces_rmse", FORCES.factor),
    _Panel(f"energy RMSE ({PER_ATOM_ENERGY.unit})", rf"{_VALIDATION}/per_atom_energy_rmse", PER_ATOM_ENERGY.factor),
    _Panel(f"stress RMSE ({STRESS.unit})", rf"{_VALIDATION}/stress_rmse", STRESS.factor),
)


def read_curves(path: str | Path) -> dict[str, Curve]:
    """Read all columns of a CSVLogger file as curves over epochs.

    Args:
        path: The ``metrics.csv``.

    Returns:
        ``{column: [(epoch, value), ...]}``, the last value of each epoch below 1e100. ``epoch`` counts from 0.

    Raises:
        DataError: If the file cannot be read or has no column ``epoch``.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}", "give the metrics.csv of a training run") from error
    if rows and "epoch" not in rows[0]:
        raise DataError(f"{path} has no column 'epoch'", "give the metrics.csv of a training run")
    curves: dict[str, dict[float, float]] = {}
    for row in rows:
        epoch = _number(row.get("epoch"))
        row.pop(None, None)  # cells beyond the last column
        for column, text in row.items():
            value = _number(text)
            if epoch is not None and value is not None and column not in ("epoch", "step"):
                curves.setdefault(column, {})[epoch] = value
    return {column: sorted(points.items()) for column, points in curves.items()}


def plot_curves(metrics_csv: str | Path, png: str | Path) -> bool:
    """Draw loss and validation metrics over epochs; a panel without data is left out.

    Args:
        metrics_csv: The ``metrics.csv`` of a run.
        png: The image to write.

    Returns:
        Whether there was anything to draw. If not, no image is written.

    Raises:
        DataError: If the table cannot be read.
        OutputError: If the image cannot be written.
    """
    curves = read_curves(metrics_csv)
    drawn = [(panel, _matching(curves, panel.pattern)) for panel in _PANELS]
    drawn = [(panel, chosen) for panel, chosen in drawn if chosen]
    if not drawn:
        return False
    figure = Figure(figsize=(4.2 * len(drawn), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (panel, chosen) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        _draw(axes, panel, chosen)
    with written_whole(png) as partial:
        figure.savefig(partial, dpi=150)
    return True


def _matching(curves: Mapping[str, Curve], pattern: str) -> dict[str, Curve]:
    return {column: curve for column, curve in curves.items() if re.fullmatch(pattern, column)}


def _draw(axes: Axes, panel: _Panel, curves: Mapping[str, Curve]) -> None:
    for i, (column, curve) in enumerate(curves.items()):
        epochs, values = zip(*curve, strict=True)
        name = column.partition("/")[0].removesuffix("_epoch").replace("_", " ")
        marker = "o" if len(curve) == 1 else ""
        axes.plot(
            epochs, [panel.factor * value for value in values],
            color=COLOURS[i % len(COLOURS)], linewidth=1.4, marker=marker, label=name,
        )  # fmt: skip
    axes.set(xlabel="epoch", title=panel.title)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    shown = [panel.factor * value for curve in curves.values() for _, value in curve]
    if min(shown) > 0 and max(shown) > 10 * min(shown):
        axes.set_yscale("log")
    axes.grid(color="#e6e6e6", linewidth=0.6, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if abs(value) < _LARGEST else None
