"""The history of a run, out of its ``metrics.csv``: curves of all that was logged, and which belong together."""

from __future__ import annotations

import csv
import math
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nequip_like.errors import DataError
from nequip_like.report.units import FORCES, PER_ATOM_ENERGY, STRESS

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class CurvePanel:
    """One panel: what it shows of training and validation, and in which unit."""

    label: str
    validation: str = ""
    training: tuple[str, ...] = ()  # the first that was logged is shown; of NAME_mse the root
    column_pattern: str = ""  # a pattern of columns that are neither
    factor: float = 1.0


def _make_error_panel(quantity: str, name: str, unit: str, factor: float) -> CurvePanel:
    training = tuple(f"train_{kind}_epoch/{name}_{metric}" for metric in ("rmse", "mse") for kind in ("metric", "loss"))
    return CurvePanel(f"{quantity} RMSE ({unit})", f"{name}_rmse", training, factor=factor)


LARGEST_DRAWN = 1e100  # matplotlib overflows on the way to the largest numbers
_PANELS = (
    CurvePanel("weighted sum (arb. units)", "weighted_sum", ("train_loss_epoch/weighted_sum",)),
    _make_error_panel("force", "forces", FORCES.unit, FORCES.factor),
    _make_error_panel("energy", "per_atom_energy", PER_ATOM_ENERGY.unit, PER_ATOM_ENERGY.factor),
    _make_error_panel("stress", "stress", STRESS.unit, STRESS.factor),
    CurvePanel("learning rate", column_pattern=r"learning_rate(/.*)?|lr-.*"),
)
VALIDATION_NAME = re.compile(r"(val\d+(?:_raw)?)_epoch/(.*)")


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


def list_panels(curves: Mapping[str, Curve]) -> list[tuple[CurvePanel, dict[str, Curve]]]:
    """Panels that have something to show, with their curves by what a legend calls them, in the unit of the panel.

    Args:
        curves: As :func:`read_curves` gives them.

    Returns:
        Empty if nothing but learning rates was logged.
    """
    panels = [(panel, _select_curves(curves, panel)) for panel in _PANELS]
    panels = [(panel, of_panel) for panel, of_panel in panels if of_panel]
    return panels if any(panel.validation for panel, _ in panels) else []


def _select_curves(curves: Mapping[str, Curve], panel: CurvePanel) -> dict[str, Curve]:
    """Curves of a panel by what the legend calls them, in the unit of the panel."""
    selected: dict[str, Curve] = {}
    several = any(column.startswith("val1_") for column in curves)
    for column in panel.training:
        if column in curves and "training" not in selected:
            root = column.endswith("_mse")
            selected["training"] = [(x, math.sqrt(max(y, 0.0)) if root else y) for x, y in curves[column]]
    for column, curve in sorted(curves.items()):
        match = VALIDATION_NAME.fullmatch(column)
        if match and match[2] == panel.validation:
            selected[_set_name(match[1], several)] = curve
        elif panel.column_pattern and re.fullmatch(panel.column_pattern, column):
            selected[column.partition("/")[2] or column] = curve
    return {name: [(x, panel.factor * y) for x, y in curve] for name, curve in selected.items()}


def _set_name(prefix: str, several: bool) -> str:
    """``validation 1`` of val1, ``validation`` of the only one; ``validation, raw weights`` of val0_raw."""
    number, _, raw = prefix.removeprefix("val").partition("_")
    return "validation" + (f" {number}" if several else "") + (", raw weights" if raw else "")


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
    return value if abs(value) < LARGEST_DRAWN else None
