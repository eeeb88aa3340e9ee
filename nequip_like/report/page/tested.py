"""What a report says of the test sets: errors, plots, what they depend on, and the frames with the largest ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nequip_like.inference.evaluation import COLUMNS
from nequip_like.report.page.compared_set import ComparedSet
from nequip_like.report.page.markup import Cell, TableRow, write_heading, write_paragraph, write_plots, write_table
from nequip_like.report.page.plots import MOST_POINTS, draw_bars, draw_errors, draw_parity
from nequip_like.report.page.run_content import RunContent
from nequip_like.report.tables import format_number
from nequip_like.report.units import FORCES, PER_ATOM_ENERGY, SHOWN, STRESS, STRESS_GPA, Shown

_OWN_UNITS = {"total_energy": "eV", "per_atom_energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³"}
_COMPARED = (PER_ATOM_ENERGY, FORCES, STRESS)


def write_tests(run: RunContent) -> Iterator[str]:
    """The sections of all test sets.

    Args:
        run: The run.
    """
    for i, name in enumerate(run.metrics):
        compared = next((entry for entry in run.sets if entry.name == name), None)
        size = "" if compared is None else f": {len(compared.origins):,} frames, {len(compared.symbols):,} atoms"
        yield write_heading(f"Test set {name}{size}", anchor=f"test{i}")
        yield write_errors(run.metrics[name])
        if compared is not None:
            yield from _write_plots(compared)
        yield from _write_species(run.metrics[name], compared)
        if compared is not None:
            yield from _write_force_ranges(compared)
        yield from _write_groups(run.metrics[name])
        if compared is not None:
            yield from _write_worst(compared)


def write_errors(metrics: Mapping[str, Any]) -> str:
    """The errors of each quantity: MAE, RMSE and the largest.

    Args:
        metrics: Values by name, eV and Angstrom, as in ``metrics.json``.
    """
    rows: list[TableRow] = []
    for quantity in SHOWN:
        cells = [write_number(metrics, f"{quantity.metric}_{short}", quantity) for _, short in COLUMNS]
        if any(cell.text for cell in cells):
            rows.append([quantity.label, quantity.unit, *cells])
    return write_table(("error of", "unit", *(heading for heading, _ in COLUMNS)), rows)


def write_number(metrics: Mapping[str, Any], name: str, quantity: Shown) -> Cell:
    """A metric in the unit in which it is shown, with all digits of its own behind it.

    Args:
        metrics: Values by name, eV and Angstrom.
        name: The metric.
        quantity: What it is of.
    """
    value = metrics.get(name)
    if value is None:  # JSON has no NaN: what is not finite is null
        return Cell("not finite" if name in metrics else "")
    return Cell(format_number(value * quantity.factor), f"{value!r} {_OWN_UNITS[quantity.metric]}")


def _write_plots(compared: ComparedSet) -> Iterator[str]:
    figures = []
    energies = compared.energies.select()
    if len(energies.labels):
        mean = float(energies.labels.mean())
        pair = (energies.labels - mean, energies.predictions - mean)
        note = f"zero is the mean label, {mean:.4f} eV/atom".replace("-", "−")
        figures.append((draw_parity({"": pair}, "energy per atom", "eV/atom"), note))
    forces = compared.select_forces()
    if forces:
        count = sum(len(pair.labels) for pair in forces.values())
        figures.append((draw_parity(forces, "force component", "eV/Å"), _describe_points(count)))
    stress = compared.stress.select()
    if len(stress.labels):
        figures.append(
            (
                draw_parity({"": stress}, "stress component", "GPa"),
                _describe_points(len(stress.labels), "; tension > 0"),
            )
        )
    if figures:
        yield write_plots(figures)
    figures = []
    if len(energies.labels):
        errors = (energies.predictions - energies.labels) * PER_ATOM_ENERGY.factor
        figures.append((draw_errors(errors, "energies", PER_ATOM_ENERGY.unit), _describe_errors(errors)))
    if forces:
        errors = np.concatenate([pair.predictions - pair.labels for pair in forces.values()]) * FORCES.factor
        figures.append((draw_errors(errors, "force components", FORCES.unit), _describe_errors(errors)))
    if len(stress.labels):
        errors = stress.predictions - stress.labels
        figures.append((draw_errors(errors, "stress", STRESS_GPA.unit), _describe_errors(errors)))
    if figures:
        yield write_plots(figures)


def _describe_points(count: int, note: str = "") -> str:
    if count <= MOST_POINTS:
        return f"{count:,} components{note}"
    return f"{MOST_POINTS:,} of {count:,} components, the largest errors among them{note}"


def _describe_errors(errors: np.ndarray) -> str:
    low, middle, high = np.quantile(np.abs(errors), (0.5, 0.95, 0.99)).tolist()
    return f"half are below {low:.3g}, 95 % below {middle:.3g}, 99 % below {high:.3g}"


def _write_species(metrics: Mapping[str, Any], compared: ComparedSet | None) -> Iterator[str]:
    prefix = f"{FORCES.metric}_mae_"
    species = [name.removeprefix(prefix) for name in metrics if name.startswith(prefix)]
    species = [symbol for symbol in species if metrics[prefix + symbol] is not None]
    if not species:
        return
    counts = {} if compared is None else {s: int((compared.symbols == s).sum()) for s in compared.species}
    rows: list[TableRow] = [
        [
            symbol,
            Cell(f"{counts[symbol]:,}" if symbol in counts else ""),
            *(write_number(metrics, f"{FORCES.metric}_{short}_{symbol}", FORCES) for _, short in COLUMNS),
        ]
        for symbol in species
    ]
    yield write_heading("Forces by species", 3)
    yield write_table(("species", "atoms", *(f"{heading}, {FORCES.unit}" for heading, _ in COLUMNS)), rows)
    if len(species) > 1:
        bars = {symbol: metrics[prefix + symbol] * FORCES.factor for symbol in species}
        yield write_plots([(draw_bars(bars, f"MAE of the forces ({FORCES.unit})"), "")])


def _write_force_ranges(compared: ComparedSet) -> Iterator[str]:
    ranges = compared.list_force_ranges()
    if not ranges:
        return
    rows: list[TableRow] = []
    for entry in ranges:
        limits = f"{entry.low:g} to {entry.high:g}" if math.isfinite(entry.high) else f"above {entry.low:g}"
        share = f"{entry.rmse / entry.rms:.1%}" if entry.rms > 0 else ""
        errors = [Cell(format_number(value * FORCES.factor), f"{value!r} eV/Å") for value in (entry.mae, entry.rmse)]
        rows.append([limits, Cell(f"{entry.atoms:,}"), *errors, Cell(share)])
    yield write_heading("Forces by their size", 3)
    columns = (
        "labelled force, eV/Å",
        "atoms",
        f"MAE, {FORCES.unit}",
        f"RMSE, {FORCES.unit}",
        "RMSE of the labels' RMS",
    )
    yield write_table(columns, rows)


def _write_groups(metrics: Mapping[str, Any]) -> Iterator[str]:
    groups = metrics.get("groups")
    if not isinstance(groups, Mapping):
        return
    for key, members in groups.items():
        quantities = [q for q in _COMPARED if any(f"{q.metric}_rmse" in values for values in members.values())]
        columns = [f"{q.label} {heading}, {q.unit}" for q in quantities for heading, _ in COLUMNS[:2]]
        rows: list[TableRow] = [
            [
                group,
                Cell(str(values.get("frames", ""))),
                *(write_number(values, f"{q.metric}_{short}", q) for q in quantities for _, short in COLUMNS[:2]),
            ]
            for group, values in members.items()
        ]
        yield write_heading(f"By {key}", 3)
        yield write_table((key, "frames", *columns), rows)


def _write_worst(compared: ComparedSet) -> Iterator[str]:
    worst = compared.list_worst()
    if not worst:
        return
    columns: list[tuple[str, str, float]] = [
        (f"energy, {PER_ATOM_ENERGY.unit}", "energy", PER_ATOM_ENERGY.factor),
        (f"forces RMSE, {FORCES.unit}", "forces", FORCES.factor),
        (f"largest force error, {FORCES.unit}", "largest_force", FORCES.factor),
        ("stress RMSE, GPa", "stress", 1.0),
    ]
    visible = [entry for entry in columns if any(not math.isnan(getattr(frame, entry[1])) for frame in worst)]
    rows: list[TableRow] = []
    for frame in worst:
        values = [(getattr(frame, name), factor) for _, name, factor in visible]
        numbers = ["" if math.isnan(value) else format_number(value * factor) for value, factor in values]
        rows.append([Cell(str(frame.index)), *map(Cell, numbers), Cell(frame.position), frame.file])
    yield write_heading("Frames with the largest errors", 3)
    yield write_table(("frame of the set", *(heading for heading, _, _ in visible), "index", "file"), rows)
    if any(frame.position for frame in worst):
        yield write_paragraph("index: position in the file, from 0; energies: predicted less labelled.", "quiet")
