"""Verdicts on a model as a table for the terminal, and below it what to do."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nequip_like.summaries import print_line
from nequip_like.workflow.checks.outcome.verdicts import Verdicts

_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}


def print_verdicts(verdicts: Verdicts, console: Console | None = None) -> None:
    """Print the table, then a line of each verdict that is not ``pass``, with what to do.

    Args:
        verdicts: What the checks say.
        console: Where to print; the terminal by default.
    """
    console = console or Console()
    table = Table(title=Text(verdicts.model), title_justify="left")
    for name in ("check", "of", "verdict"):
        table.add_column(name)
    for name in ("number", "limit"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    for verdict in verdicts:
        cells = (Text(verdict.check), Text(verdict.of), Text(verdict.level, style=_STYLES[verdict.level]))
        table.add_row(*cells, verdict.number, verdict.bound, Text(verdict.unit))
    console.print(table)
    for level in ("fail", "warn", "skipped"):
        for verdict in verdicts:
            if verdict.level == level:
                title = f"{verdict.check} ({verdict.of})" if verdict.of else verdict.check
                print_line(console, f"{level}: {title}: {verdict.text}")
                if verdict.advice:
                    print_line(console, f"  -> {verdict.advice}")
    counts = ", ".join(f"{count} {level}" for level, count in verdicts.summary().items() if isinstance(count, int))
    print_line(console, f"verdict: {verdicts.level} ({counts})")
