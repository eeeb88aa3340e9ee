"""The parity plot: predictions against labels, one row of panels for each data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nequip_like.data import fields
from nequip_like.data.graph import volumes
from nequip_like.inference.evaluation import Evaluation
from nequip_like.report.pictures import COLOURS, GREY, draw_light_grid, save
from nequip_like.report.tables import format_number
from nequip_like.report.units import FORCES, GPA, PER_ATOM_ENERGY, STRESS_GPA, Shown

_MANY_POINTS = 5000
# From the unit of an axis to that of the tables.
_TO_TABLE = {PER_ATOM_ENERGY: PER_ATOM_ENERGY.factor, FORCES: FORCES.factor, STRESS_GPA: 1.0}
_TEXT = 12  # of a panel that is 4.2 inches wide: three of them are readable across a page


@dataclass(frozen=True)
class _Panel:
    """What one panel shows."""

    display: Shown
    quantity: str
    unit: str
    groups: dict[str, tuple[np.ndarray, np.ndarray]]  # name of the group: labels, predictions
    note: str = ""


def plot_parity(
    evaluations: Mapping[str, Evaluation], path: str | Path, formats: Sequence[str] | None = None
) -> list[Path]:
    """Draw predictions against labels: energies per atom, forces by species, stress, whatever has labels.

    Energies are shown relative to the mean label of their data set. Each panel has equal axes, the line of perfect
    agreement, the RMSE, and a histogram of the errors.

    Args:
        evaluations: One row of panels for each.
        path: The image; its suffix chooses the format.
        formats: Formats in the place of the suffix, a file for each.

    Returns:
        The images.

    Raises:
        OutputError: If the file cannot be written.
    """
    rows = {name: _make_panels(evaluation) for name, evaluation in evaluations.items()}
    columns = max(1, *(len(panels) for panels in rows.values()))
    figure = Figure(figsize=(4.2 * columns, 4.0 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes_row, (name, panels) in zip(grid, rows.items(), strict=True):
        for axes, panel in zip(axes_row, panels, strict=False):
            _draw(axes, panel)
        for axes in axes_row[len(panels) :]:
            axes.set_axis_off()
        axes_row[0].set_title(name, loc="left", fontweight="bold", fontsize=_TEXT, parse_math=False)
    return save(figure, path, formats)


def _make_panels(evaluation: Evaluation) -> list[_Panel]:
    panels = []
    dataset = evaluation.dataset
    if fields.TOTAL_ENERGY in evaluation.compared:
        labels, predictions = evaluation.pairs(fields.TOTAL_ENERGY)
        atoms = torch.tensor([[len(frame[fields.POSITIONS])] for frame in dataset.frames])
        labels, predictions = labels / atoms, predictions / atoms
        mean = labels[~labels.isnan()].mean()
        mean_text = f"{float(mean):.4f}".replace("-", "−")
        note = f"zero is {mean_text} eV/atom,\nthe mean label"
        panels.append(
            _Panel(
                PER_ATOM_ENERGY, "energy", "eV/atom", {"": _select_labelled(labels - mean, predictions - mean)}, note
            )
        )
    if fields.FORCES in evaluation.compared:
        labels, predictions = evaluation.pairs(fields.FORCES)
        types = torch.cat([frame[fields.ATOM_TYPES] for frame in dataset.frames])
        groups = {
            name: _select_labelled(labels[types == index], predictions[types == index])
            for index, name in enumerate(dataset.type_names)
        }
        panels.append(_Panel(FORCES, "force component", "eV/Å", groups))
    if fields.STRESS in evaluation.compared:
        has_cell = torch.cat([volumes(frame) for frame in dataset.frames]) > 0
        labels, predictions = evaluation.pairs(fields.STRESS)
        pair = labels[has_cell] * GPA, predictions[has_cell] * GPA
        panels.append(_Panel(STRESS_GPA, "stress component", "GPa", {"": _select_labelled(*pair)}))
    return panels


def _select_labelled(labels: torch.Tensor, predictions: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Components that have a label."""
    labelled = ~labels.isnan()
    return labels[labelled].numpy(), predictions[labelled].numpy()


def _draw(axes: Axes, panel: _Panel) -> None:
    groups = {name: pair for name, pair in panel.groups.items() if len(pair[0])}
    labels = np.concatenate([pair[0] for pair in groups.values()])
    predictions = np.concatenate([pair[1] for pair in groups.values()])
    low, high = _find_limits(labels, predictions)
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, zorder=3)
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(groups))]
    of_point = np.repeat(np.arange(len(groups)), [len(x) for x, _ in groups.values()])
    order = np.random.default_rng(0).permutation(len(labels))  # no group on top of the others
    size, alpha = (8.0, 0.6) if len(labels) < _MANY_POINTS else (3.0, 0.35)
    point_colours = np.array(colours)[of_point[order]]
    axes.scatter(
        labels[order], predictions[order], s=size, c=point_colours, alpha=alpha, linewidths=0, rasterized=True, zorder=2
    )
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.set_xlabel(f"labelled {panel.quantity} ({panel.unit})", fontsize=_TEXT)
    axes.set_ylabel(f"predicted {panel.quantity} ({panel.unit})", fontsize=_TEXT)
    axes.tick_params(labelsize=_TEXT - 1)
    axes.set_aspect("equal")
    axes.locator_params(nbins=5)
    draw_light_grid(axes)
    words = [_format_errors(panel, labels, predictions), *([panel.note] if panel.note else [])]
    axes.text(0.03, 0.98, "\n".join(words), transform=axes.transAxes, va="top", fontsize=_TEXT - 2)
    if len(groups) > 1:
        for colour, name in zip(colours, groups, strict=True):
            axes.plot([], [], "o", color=colour, markersize=5, label=name)
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, 0.88), frameon=False, fontsize=_TEXT - 2, handletextpad=0.1)
    _draw_histogram(axes, panel, predictions - labels)


def _format_errors(panel: _Panel, labels: np.ndarray, predictions: np.ndarray) -> str:
    """RMSE and MAE of the points drawn, in the units of the tables."""
    error = (predictions - labels) * _TO_TABLE[panel.display]
    rmse, mae = float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error)))
    return f"RMSE {format_number(rmse)} {panel.display.unit}\nMAE {format_number(mae)} {panel.display.unit}"


def _draw_histogram(axes: Axes, panel: _Panel, errors: np.ndarray) -> None:
    """Distribution of the errors, in the unit of the tables, in the corner where no point can be of a good model."""
    errors = errors * _TO_TABLE[panel.display]
    span = float(np.quantile(np.abs(errors), 0.99))
    if len(errors) < 10 or span == 0:
        return
    inset = axes.inset_axes((0.66, 0.08, 0.32, 0.22))
    inset.hist(errors, bins=int(np.clip(np.sqrt(len(errors)), 9, 41)), range=(-span, span), color=GREY)
    inset.set_yticks([])
    rounded = f"{float(f'{span:.2g}'):g}"
    inset.set_xticks([-span, 0.0, span], [f"−{rounded}", "0", rounded], fontsize=_TEXT - 4)
    inset.set_title(f"error ({panel.display.unit})", fontsize=_TEXT - 4, pad=2)
    inset.spines[["top", "right", "left"]].set_visible(False)
    inset.patch.set_alpha(0.7)


def _find_limits(labels: np.ndarray, predictions: np.ndarray) -> tuple[float, float]:
    low = float(min(labels.min(), predictions.min()))
    high = float(max(labels.max(), predictions.max()))
    margin = 0.05 * (high - low) or max(abs(low) * 0.05, 1e-3)
    return low - margin, high + margin
