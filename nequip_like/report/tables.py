"""Tables of an evaluation for the terminal: errors with their units, and the worst frames."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nequip_like.data import fields
from nequip_like.inference.evaluation import COLUMNS, Evaluation
from nequip_like.report.units import ENERGY, FORCES, PER_ATOM_ENERGY, SHOWN, STRESS, Shown
from nequip_like.summaries import print_line

_BY_GROUP = (PER_ATOM_ENERGY, FORCES, STRESS)


def evaluation_table(name: str, evaluation: Evaluation) -> Table:
    """Errors on a data set: a row for each quantity, with that of a model that knows nothing, and for each species."""
    dataset = evaluation.dataset
    frames, atoms = len(dataset), int(dataset.table.atoms.sum())
    table = Table(title=Text(f"{name}: {frames} frames, {atoms} atoms"), title_justify="left")
    table.add_column("error of")
    table.add_column("unit")
    for heading, _ in COLUMNS:
        table.add_column(heading, justify="right")
    for quantity in SHOWN:
        _add_row(table, quantity.label, quantity, "", evaluation.metrics)
        if quantity is not ENERGY:
            _add_row(table, "  baseline", quantity, "", evaluation.baseline)
        if quantity is FORCES:
            for species in dataset.type_names:
                _add_row(table, f"  on {species}", quantity, f"_{species}", evaluation.metrics)
    return table


def group_table(name: str, evaluation: Evaluation) -> Table | None:
    """Errors of each group of frames, if there are groups: MAE and RMSE of what is compared, energies per atom."""
    groups = evaluation.groups
    if groups is None:
        return None
    quantities = [
        quantity
        for quantity in _BY_GROUP
        if any(f"{quantity.metric}_rmse" in values for values in groups.metrics.values())
    ]
    columns = [(quantity, heading, short) for quantity in quantities for heading, short in COLUMNS[:2]]
    table = Table(title=Text(f"{name} by {groups.key}"), title_justify="left")
    table.add_column(Text(groups.key))
    table.add_column("frames", justify="right")
    for quantity, heading, _ in columns:
        table.add_column(f"{quantity.label}\n{heading}, {quantity.unit}", justify="right")
    for group, frames in groups.frames.items():
        values = [
            (groups.metrics[group].get(f"{quantity.metric}_{short}"), quantity.factor) for quantity, _, short in columns
        ]
        cells = ["" if value is None else format_number(value * factor) for value, factor in values]
        table.add_row(Text(group), str(frames), *cells)
    return table


def worst_lines(name: str, evaluation: Evaluation) -> list[str]:
    """The frames with the largest errors, worst first, under a heading. Lines, because paths are long."""
    if not evaluation.worst:
        return []
    quantity = evaluation.worst[0].quantity
    display = next(display for display in (FORCES, PER_ATOM_ENERGY, STRESS) if display.metric == quantity)
    kind = "absolute error" if display is PER_ATOM_ENERGY else "RMSE"
    heading = f"{name}: worst frames, {kind} of the {display.label} in {display.unit}"
    return [
        heading,
        *(f"{format_number(frame.error * display.factor):>9}  {frame.origin}" for frame in evaluation.worst),
    ]


def print_evaluations(evaluations: Mapping[str, Evaluation], console: Console | None = None) -> None:
    """Print the tables of all data sets, with remarks and the worst frames."""
    console = console or Console()
    for name, evaluation in evaluations.items():
        console.print(evaluation_table(name, evaluation))
        if (groups := group_table(name, evaluation)) is not None:
            console.print(groups)
        for line in (*remarks(evaluation), *worst_lines(name, evaluation), ""):
            print_line(console, line)


def format_number(value: float) -> str:
    """Four significant digits, without an exponent where that is readable.

    Example:
        >>> format_number(0.123456), format_number(1234.5), format_number(2.5e-7)
        ('0.1235', '1234', '2.500e-07')
    """
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3e}"
    digits = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def _add_row(table: Table, label: str, quantity: Shown, suffix: str, metrics: Mapping[str, float]) -> None:
    values = [metrics.get(f"{quantity.metric}_{short}{suffix}") for _, short in COLUMNS]
    if any(value is not None for value in values):
        cells = ["" if value is None else format_number(value * quantity.factor) for value in values]
        table.add_row(label, quantity.unit, *cells)


def remarks(evaluation: Evaluation) -> list[str]:
    """How large the forces are, which tells how good an error is; and what could not be compared."""
    lines = []
    rmse = evaluation.metrics.get("forces_rmse")
    if rmse is not None:
        labels, _ = evaluation.pairs(fields.FORCES)
        rms = float(labels[~torch.isnan(labels)].square().mean().sqrt())
        if rms > 0:
            share = f"{100 * rmse / rms:.2f} %"
            lines.append(
                f"RMS of the forces {format_number(rms * FORCES.factor)} {FORCES.unit}; the RMSE is {share} of it"
            )
    counts = evaluation.dataset.labels
    periodic = bool(evaluation.dataset.table.periodic.any())
    for label in (fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS):
        if label not in evaluation.compared:
            if label != fields.STRESS or periodic:
                lines.append(f"{label}: {'not predicted' if label in counts else 'no labels'}")
        elif counts[label] < len(evaluation.dataset):
            lines.append(f"{label}: {counts[label]} of {len(evaluation.dataset)} frames have labels")
    return lines
