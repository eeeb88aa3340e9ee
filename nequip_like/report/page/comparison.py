"""Several runs beside each other: errors sorted, curves over each other, and where their configs differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nequip_like.errors import DataError, closest_hint
from nequip_like.inference.evaluation import COLUMNS
from nequip_like.report.history import Curve, list_panels
from nequip_like.report.page.markup import Cell, TableRow, write_heading, write_paragraph, write_plots, write_table
from nequip_like.report.page.plots import choose_colours, draw_bars, draw_curves
from nequip_like.report.page.run_content import RunContent
from nequip_like.report.page.sections import format_duration
from nequip_like.report.page.tested import write_number
from nequip_like.report.units import FORCES, PER_ATOM_ENERGY, STRESS, Shown

_QUANTITIES = (FORCES, PER_ATOM_ENERGY, STRESS)  # by what is looked at first
# Keys that differ between any two runs, and those of a section that another one repeats.
_SAID_ELSEWHERE = ("output_dir", "training_module.model.")


def write_comparison(runs: Sequence[RunContent], error: str = "") -> Iterator[str]:
    """The page: what is compared, the table, a bar for each run, curves, and different settings.

    Args:
        runs: The runs.
        error: As for :func:`nequip_like.report.page.report_file.compare_runs`.

    Raises:
        DataError: If no run has the error.
    """
    names = name_runs([run.folder for run in runs])
    error = error or choose_error(runs)
    _check_error(runs, error)
    order = sorted(
        range(len(runs)), key=lambda i: (find_error(runs[i], error) is None, find_error(runs[i], error) or 0)
    )
    ranked = [(names[i], runs[i]) for i in order]
    yield f"<header><h1>{len(runs)} runs</h1></header>"
    if error:
        test_set, metric = split_error(error)
        quantity = _find_quantity(metric)
        yield write_paragraph(f"Sorted by {metric} on {test_set}; the smallest is the best.", "quiet")
    yield _write_ranking(ranked, error)
    if error and quantity is not None:
        bars = {name: value * quantity.factor for name, run in ranked if (value := find_error(run, error)) is not None}
        yield write_plots([(draw_bars(bars, f"{metric} on {test_set} ({quantity.unit})"), "")])
    yield from _write_curves(ranked)
    yield from _write_differences(ranked)
    for name, run in ranked:
        for session in run.sessions:
            if session.get("command"):
                yield write_paragraph(f"{name}: {session['command']}", "quiet")


def name_runs(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that tell folders apart.

    Example:
        >>> name_runs([Path("/a/first/run"), Path("/a/second/run")]), name_runs([Path("/a/first"), Path("/a/second")])
        (['first/run', 'second/run'], ['first', 'second'])
    """
    for parts in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-parts:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [f"{folder.name} ({i})" for i, folder in enumerate(folders)]


def choose_error(runs: Sequence[RunContent]) -> str:
    """The error that runs are sorted by where nobody says which: ``SET/METRIC``; empty if there is none.

    Args:
        runs: The runs.
    """
    for quantity in _QUANTITIES:
        for run in runs:
            for test_set, values in run.metrics.items():
                if values.get(f"{quantity.metric}_rmse") is not None:
                    return f"{test_set}/{quantity.metric}_rmse"
    return ""


def find_error(run: RunContent, error: str) -> float | None:
    """The value of an error in a run; None without it.

    Args:
        run: The run.
        error: ``SET/METRIC``.
    """
    test_set, metric = split_error(error)
    value = run.metrics.get(test_set, {}).get(metric)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def split_error(error: str) -> tuple[str, str]:
    """The set and the metric of ``SET/METRIC``.

    Example:
        >>> split_error("data/test/forces_rmse")
        ('data/test', 'forces_rmse')
    """
    test_set, _, metric = error.rpartition("/")
    return test_set, metric


def _check_error(runs: Sequence[RunContent], error: str) -> None:
    if not error or any(find_error(run, error) is not None for run in runs):
        return
    available = dict.fromkeys(
        f"{test_set}/{name}"
        for run in runs
        for test_set, values in run.metrics.items()
        for name, value in values.items()
        if isinstance(value, int | float)
    )
    listing = ", ".join([name for name in available if name.endswith("_rmse")][:8])
    raise DataError(f"no run has the error '{error}'", f"{closest_hint(error, available)}there are {listing or 'none'}")


def _find_quantity(metric: str) -> Shown | None:
    return next((q for q in _QUANTITIES if metric.startswith(f"{q.metric}_")), None)


def _write_ranking(ranked: Sequence[tuple[str, RunContent]], error: str) -> str:
    sets = dict.fromkeys(name for _, run in ranked for name in run.metrics)
    columns = [
        (test_set, quantity, heading, short)
        for test_set in sets
        for quantity in (PER_ATOM_ENERGY, FORCES, STRESS)
        for heading, short in COLUMNS[:2]
        if any(f"{quantity.metric}_{short}" in run.metrics.get(test_set, {}) for _, run in ranked)
    ]
    rows: list[TableRow] = []
    for name, run in ranked:
        best = run.best
        numbers = [write_number(run.metrics.get(s, {}), f"{q.metric}_{short}", q) for s, q, _, short in columns]
        seconds = sum(session.get("seconds") or 0.0 for session in run.sessions)
        rows.append(
            [
                name,
                *numbers,
                Cell("" if best.get("epoch") is None else str(best["epoch"])),
                Cell(f"{run.record['model']['parameters']:,}" if "parameters" in run.record.get("model", {}) else ""),
                Cell(format_duration(seconds) if seconds else ""),
            ]
        )
    headings = [f"{s}: {q.label} {heading}, {q.unit}" for s, q, heading, _ in columns]
    best_row = 0 if error else None
    return write_table(("run", *headings, "best epoch", "parameters", "time"), rows, best_row)


def _write_curves(ranked: Sequence[tuple[str, RunContent]]) -> Iterator[str]:
    """Curves of validation of all runs; those of training are in each run's own report."""
    colours = choose_colours([name for name, _ in ranked])
    panels: dict[str, dict[str, Curve]] = {}
    for name, run in ranked:
        for panel, curves in list_panels(run.curves):
            curve_name = next((c for c in curves if c.startswith("validation") or not panel.validation), None)
            points = [] if curve_name is None else [(x, y) for x, y in curves[curve_name] if math.isfinite(y)]
            if points:
                panels.setdefault(panel.label, {})[name] = points
    if panels:
        yield write_heading("Validation")
        yield write_plots([(draw_curves(curves, label, colours=colours), "") for label, curves in panels.items()])


def _write_differences(ranked: Sequence[tuple[str, RunContent]]) -> Iterator[str]:
    flat = [dict(_flatten(run.config)) for _, run in ranked]
    keys = dict.fromkeys(key for values in flat for key in values)
    folders = [str(run.folder) for _, run in ranked]
    different = [
        key
        for key in keys
        if not key.startswith(_SAID_ELSEWHERE)
        and len({str(values.get(key)).replace(folder, "") for values, folder in zip(flat, folders, strict=True)}) > 1
    ]
    if different:
        yield write_heading("Where the configurations differ")
        rows = [[key, *(_format_entry(values, key) for values in flat)] for key in different]
        yield write_table(("key", *(name for name, _ in ranked)), rows)


def _format_entry(values: Mapping[str, Any], key: str) -> str:
    return str(values[key]) if key in values else "–"


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, entry in value.items():
            yield from _flatten(entry, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
