"""What an audit of labels found, as tables for the terminal and for pages."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nequip_like.data.selection.repair_file import ACTIONS
from nequip_like.summaries import print_line
from nequip_like.workflow.label_audit.run import LabelAudit
from nequip_like.workflow.label_audit.scores import NORMAL

_MOST_ROWS = 40


def print_label_audit(found: LabelAudit, console: Console | None = None) -> None:
    """Print the frames that stand out with what is proposed, groups of other levels, and contradictions.

    Args:
        found: What was found.
        console: Where to print; the terminal by default.
    """
    console = console or Console()
    title, columns, rows = tabulate_suspects(found)
    if rows:
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows[:_MOST_ROWS]:
            table.add_row(*map(escape, row))
        console.print(table)
        if len(rows) > _MOST_ROWS:
            console.print(f"  and {len(rows) - _MOST_ROWS} more, which --json and --repair have", highlight=False)
    for line in describe_label_audit(found):
        print_line(console, line)


def tabulate_suspects(found: LabelAudit) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    """Title, columns and rows of the frames that stand out."""
    rows: list[tuple[str, ...]] = [
        (found.origins[suspect.frame], suspect.kind, suspect.reason, ACTIONS[suspect.action])
        for suspect in found.suspects
    ]
    return "label audit", ("frame", "kind", "what was found", "proposed"), rows


def describe_label_audit(found: LabelAudit) -> list[str]:
    """Sentences on groups of frames, on pairs, and on how it was done."""
    lines = [level.describe() for level in found.levels]
    for pair in found.contradictions:
        lines.append(
            f"{found.origins[pair.first]} and {found.origins[pair.second]} are nearly the same structure, but their "
            f"labels differ by {1000 * pair.energy:.3g} meV/atom and {pair.force:.3g} eV/Å more than they should"
        )
    skipped = len(found.origins) - found.judged
    unjudged = f"; {skipped} frames without labels or neighbours were not judged" if skipped else ""
    lines.append(f"label audit: {len(found.suspects)} of {found.judged} frames stand out{unjudged}")
    typical = [
        f"{1000 * value:.3g} meV/atom" if name == "energy" else f"{value:.3g} eV/Å"
        for name, value in found.typical.items()
    ]
    lines.append(
        f"judged by {found.settings['models']} models of {found.settings['steps']} steps, each frame by two that had "
        f"not seen it; typical residuals {' and '.join(typical)}"
    )
    # Where most frames are typically difficult, these are the residuals that reach the limits.
    limits = {name: NORMAL * found.settings[f"{name}_limit"] * value for name, value in found.typical.items()}
    smallest = [
        f"of an energy below {1000 * limit:.3g} meV/atom" if name == "energy" else f"of a force below {limit:.3g} eV/Å"
        for name, limit in limits.items()
    ]
    lines.append(f"faults {' and '.join(smallest)} or so are not seen; with more steps smaller ones are")
    return lines
