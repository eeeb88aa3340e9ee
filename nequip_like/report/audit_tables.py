"""What was found in data, as tables for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nequip_like.data.inspection.audit import Audit
from nequip_like.data.inspection.checks.findings import LEVELS
from nequip_like.data.inspection.outliers import STATISTIC
from nequip_like.data.inspection.report import inspection_table

STYLES = {"ok": "green", "look": "yellow", "wrong": "bold red"}
_MOST_ROWS = 12


def print_audit(audit: Audit, console: Console | None = None) -> None:
    """Print facts, distributions, and the verdict of each check with its advice, the verdicts last.

    Args:
        audit: What was found.
        console: Where to print; the terminal by default.
    """
    console = console or Console()
    console.print(inspection_table([audit.facts]))
    for title, columns, rows in list_audit_tables(audit):
        table = Table(title=title, title_justify="left")
        for i, column in enumerate(columns):
            table.add_column(column, justify="right" if i else "left")
        for row in rows[:_MOST_ROWS]:
            table.add_row(*map(escape, row))
        console.print(table)
        if len(rows) > _MOST_ROWS:
            console.print(f"  and {len(rows) - _MOST_ROWS} more, which --html and --json have", highlight=False)
    console.print(_draw_histograms(audit))
    console.print(_tabulate_verdicts(audit))
    counts = Counter(verdict.level for verdict in audit.verdicts)
    line = ", ".join(f"{counts[level]} {level}" for level in reversed(LEVELS))
    console.print(f"{line}; of {audit.facts.frames} frames", highlight=False)


def list_audit_tables(audit: Audit) -> Iterator[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    """Tables of what was found, without the verdicts: title, columns and rows as text.

    Args:
        audit: What was found.
    """
    if len(audit.files) > 1:
        yield "files", ("file", "frames"), [(file, str(count)) for file, count in audit.files.items()]
    energies = {} if audit.references is None else audit.references.reference.energies
    yield (
        "species",
        ("species", "frames", "atoms", "fitted energy, eV"),
        [
            (species.symbol, str(species.frames), str(species.atoms), _format_energy(energies.get(species.symbol)))
            for species in audit.coverage
        ],
    )
    if audit.pairs:
        yield (
            "closest atoms",
            ("species", "distance, Å", "of the sum of covalent radii", "frame"),
            [
                ("-".join(pair.species), f"{pair.distance:.3f}", f"{pair.ratio:.2f}", audit.origins[pair.frame])
                for pair in audit.pairs
            ],
        )
    if audit.outliers:
        yield (
            f"outliers ({STATISTIC})",
            ("value", "", "score", "frame"),
            [
                (outlier.quantity, f"{outlier.value:.4g}", f"{outlier.score:.0f}", audit.origins[outlier.frame])
                for outlier in audit.outliers
            ],
        )


def _format_energy(energy: float | None) -> str:
    return "-" if energy is None else f"{energy:.4f}"


def _draw_histograms(audit: Audit) -> Table:
    table = Table(title="distributions", title_justify="left")
    for column in ("value", "from", "", "to"):
        table.add_column(column, no_wrap=column == "")
    for histogram in audit.histograms:
        low, high = histogram.edges[0], histogram.edges[-1]
        table.add_row(histogram.title, f"{low:.4g}", histogram.draw_bars(), f"{high:.4g}")
    return table


def _tabulate_verdicts(audit: Audit) -> Table:
    table = Table(title="verdicts", title_justify="left")
    for column in ("check", "verdict", "what was found"):
        table.add_column(column)
    for verdict in audit.verdicts:
        style = STYLES[verdict.level]
        advice = f"\n→ {verdict.advice}" if verdict.advice else ""
        table.add_row(verdict.check, f"[{style}]{verdict.level}[/{style}]", escape(verdict.text + advice))
    return table
