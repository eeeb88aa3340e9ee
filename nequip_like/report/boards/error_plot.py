"""How large errors are: for each size the share of errors that are larger, of energies, forces by species, stress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nequip_like.report.page.compared_set import ComparedSet
from nequip_like.report.pictures import COLOURS, draw_light_grid, save_figure
from nequip_like.report.units import FORCES, PER_ATOM_ENERGY, STRESS_GPA, Shown

_PANEL = (4.2, 3.4)  # inches
_MOST_POINTS = 2000  # of a curve


def plot_errors(sets: Sequence[ComparedSet], path: str | Path) -> Path | None:
    """Draw the shares of errors that are larger than each size, on logarithmic axes, a row of panels for each set.

    Args:
        sets: The data sets.
        path: The image; its suffix chooses the format.

    Returns:
        The image; None if nothing has a label.

    Raises:
        OutputError: If it cannot be written.
    """
    rows = [(compared, _list_panels(compared)) for compared in sets]
    rows = [(compared, panels) for compared, panels in rows if panels]
    if not rows:
        return None
    columns = max(len(panels) for _, panels in rows)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes_row, (compared, panels) in zip(grid, rows, strict=True):
        for axes, (quantity, errors) in zip(axes_row, panels, strict=False):
            _draw_shares(axes, quantity, errors)
        for axes in axes_row[len(panels) :]:
            axes.set_axis_off()
        axes_row[0].set_title(compared.name, loc="left", fontweight="bold", parse_math=False)
    return save_figure(figure, path)[0]


def _list_panels(compared: ComparedSet) -> list[tuple[Shown, dict[str, np.ndarray]]]:
    energies, stress = compared.energies.select(), compared.stress.select()
    by_quantity = {
        PER_ATOM_ENERGY: {"": (energies.predictions - energies.labels) * PER_ATOM_ENERGY.factor},
        FORCES: {
            symbol: (pair.predictions - pair.labels) * FORCES.factor
            for symbol, pair in compared.select_forces().items()
        },
        STRESS_GPA: {"": stress.predictions - stress.labels},
    }
    return [(q, errors) for q, errors in by_quantity.items() if any(len(values) for values in errors.values())]


def _draw_shares(axes: Axes, quantity: Shown, errors: Mapping[str, np.ndarray]) -> None:
    for i, (name, values) in enumerate(errors.items()):
        sizes = np.sort(np.abs(values))
        shares = 1.0 - np.arange(len(sizes)) / len(sizes)
        indices = np.unique(np.linspace(0, len(sizes) - 1, min(len(sizes), _MOST_POINTS)).astype(int))
        axes.plot(sizes[indices], shares[indices], color=COLOURS[i % len(COLOURS)], linewidth=1.5, label=name)
    if any((np.abs(values) > 0).any() for values in errors.values()):
        axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"error of the {quantity.label} ({quantity.unit})")
    axes.set_ylabel("share that is larger")
    draw_light_grid(axes)
    if len(errors) > 1:
        axes.legend(frameon=False)
