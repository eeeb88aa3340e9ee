"""Verdicts on a model as files: a page that a browser shows, its plots as a picture, and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path

from nequip_like.report.page.markup import (
    Cell,
    write_facts,
    write_heading,
    write_page,
    write_paragraph,
    write_plots,
    write_table,
)
from nequip_like.report.page.plots import choose_colours, draw_curves
from nequip_like.report.pictures import COLOURS, draw_light_grid, save_figure
from nequip_like.whole_files import path_of, written_whole
from nequip_like.workflow.checks.outcome.verdicts import COLUMNS_OF_VERDICTS, CheckPlot, Verdicts

PAGE_FILE = "check.html"
PICTURE_FILE = "check.png"
JSON_FILE = "check.json"
_COLUMNS = 3  # plots beside each other


def write_verdicts(verdicts: Verdicts, folder: str | Path) -> list[Path]:
    """Write the page, the plots and the JSON into a folder.

    Args:
        verdicts: What the checks say.
        folder: Where; made if it is not there.

    Returns:
        The files; no picture where nothing was measured that has a curve.

    Raises:
        OutputError: If a file cannot be written.
    """
    folder = path_of(folder)
    page = folder / PAGE_FILE
    with written_whole(page) as partial:
        partial.write_text(write_page(f"Checks of {verdicts.model}", _write_sections(verdicts)), encoding="utf-8")
    write_json(verdicts, folder / JSON_FILE)
    pictures = plot_checks(verdicts, folder / PICTURE_FILE) if verdicts.plots else []
    return [page, folder / JSON_FILE, *pictures]


def format_json(verdicts: Verdicts) -> str:
    """The verdicts as JSON text."""
    return json.dumps(verdicts.as_json(), indent=1, ensure_ascii=False, allow_nan=False)


def write_json(verdicts: Verdicts, path: str | Path) -> None:
    """Write the verdicts as JSON.

    Raises:
        OutputError: If the file cannot be written.
    """
    with written_whole(path) as partial:
        partial.write_text(format_json(verdicts) + "\n", encoding="utf-8")


def plot_checks(verdicts: Verdicts, path: str | Path) -> list[Path]:
    """Draw all curves beside each other.

    Args:
        verdicts: What the checks say, with at least one plot.
        path: The picture; its suffix tells the format.

    Raises:
        OutputError: If it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(verdicts.plots) // _COLUMNS)
    figure = Figure(figsize=(5.0 * _COLUMNS, 3.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, plot in zip(panels, verdicts.plots, strict=False):
        for i, (name, curve) in enumerate(plot.curves.items()):
            axes.plot(*zip(*curve, strict=True), color=COLOURS[i % len(COLOURS)], label=name)
        axes.set_title(f"{plot.check}: {plot.title}", loc="left", parse_math=False)
        axes.set_xlabel(plot.x_label)
        axes.set_ylabel(plot.y_label)
        if len(plot.curves) > 1:
            axes.legend(frameon=False, fontsize="small")
        draw_light_grid(axes)
    for axes in panels[len(verdicts.plots) :]:
        axes.set_axis_off()
    return save_figure(figure, path)


def _write_sections(verdicts: Verdicts) -> Iterator[str]:
    yield f"<header><h1>Checks of {escape(verdicts.model)}: {verdicts.level}</h1></header>"
    for verdict in verdicts:
        if verdict.level in ("fail", "warn"):
            name = f"{verdict.check} ({verdict.of})" if verdict.of else verdict.check
            yield write_paragraph(f"{verdict.level}: {name}: {verdict.text}\n→ {verdict.advice}", "warning")
    yield write_heading("Verdicts")
    yield write_table(
        COLUMNS_OF_VERDICTS[:-1],
        [
            (
                verdict.check,
                verdict.of,
                verdict.level,
                Cell(verdict.number, "" if verdict.value is None else repr(verdict.value)),
                Cell(verdict.bound, "" if verdict.limit is None else repr(verdict.limit)),
                verdict.unit,
            )
            for verdict in verdicts
        ],
    )
    yield write_heading("What was found")
    yield write_facts((f"{verdict.check} {verdict.of}".strip(), verdict.text) for verdict in verdicts)
    if verdicts.plots:
        yield write_heading("Curves")
        yield write_plots((_draw_plot(plot), f"{plot.check}: {plot.title}") for plot in verdicts.plots)
    yield write_heading("Model, data and settings")
    yield write_facts(verdicts.facts.items())


def _draw_plot(plot: CheckPlot) -> str:
    colours = choose_colours(list(plot.curves))
    return draw_curves(plot.curves, plot.y_label, colours=colours, x_label=plot.x_label)
