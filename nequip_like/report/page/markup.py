"""HTML of a report: every text that comes from outside is escaped here, and nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

_CLASS = ' class="number"'
# No script and no address of anything: the page is the same wherever it is opened.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { --ink: #1d2329; --quiet: #5a6570; --line: #d9dee3; --wash: #f5f7f9; --accent: #0072B2; }
* { box-sizing: border-box; }
body { font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; color: var(--ink);
  max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .7rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; overflow-wrap: anywhere; }
p { margin: .4rem 0; max-width: 60rem; } .quiet { color: var(--quiet); }
nav { margin: 1rem 0 0; } nav a { margin-right: 1rem; white-space: nowrap; } a { color: var(--accent); }
.scroll { overflow-x: auto; margin: .4rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--quiet); font-weight: 600; font-size: .88em; vertical-align: bottom; }
td { white-space: pre; }
td.number, th.number { text-align: right; }
table.facts td { white-space: pre-line; overflow-wrap: anywhere; }
table.facts td:first-child { color: var(--quiet); white-space: nowrap; }
tr.best td { font-weight: 600; }
.plots { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; }
figure { margin: 0; flex: 0 1 340px; min-width: 0; } figcaption { font-size: .85rem; color: var(--quiet); }
svg { max-width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; fill: #333; }
pre, code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--wash); padding: .8rem 1rem; overflow-x: auto; margin: .4rem 0 1rem; }
.command { white-space: pre-wrap; overflow-wrap: anywhere; }
.warning { border-left: 4px solid #d98c00; background: #fff8ea; padding: .4rem .8rem; margin: .4rem 0;
  overflow-wrap: anywhere; white-space: pre-line; max-width: 60rem; }
summary { cursor: pointer; color: var(--accent); }
@media (max-width: 600px) { body { padding: 1rem .75rem 3rem; font-size: 14px; } th, td { padding-right: .6rem; } }
@media print { details > * { display: block; } nav { display: none; } }
"""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What is shown.
        exact: The same with all its digits, which a pointer on the cell shows.
        number: Whether it stands to the right, below the others.
    """

    text: str
    exact: str = ""
    number: bool = True


TableRow = Sequence[str | Cell]


def write_page(title: str, sections: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: Its title, as plain text.
        sections: HTML.
    """
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
    )
    return head + "\n".join(sections) + "\n</body></html>\n"


def write_table(columns: Sequence[str], rows: Iterable[TableRow], best: int | None = None) -> str:
    """A table, which scrolls by itself where it is wider than the page.

    Args:
        columns: Headings; the columns of numbers are those whose cells say so.
        rows: Cells; text stands to the left.
        best: Number of a row that is marked.
    """
    rows = list(rows)
    numbers = {i for row in rows for i, cell in enumerate(row) if isinstance(cell, Cell) and cell.number}
    head = "".join(f"<th{_CLASS if i in numbers else ''}>{escape(name)}</th>" for i, name in enumerate(columns))
    body = "".join(
        f"<tr{' class=best' if i == best else ''}>{''.join(map(_write_cell, row))}</tr>\n" for i, row in enumerate(rows)
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _write_cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    title = f' title="{escape(cell.exact)}"' if cell.exact else ""
    return f"<td{_CLASS if cell.number else ''}{title}>{escape(cell.text)}</td>"


def write_facts(facts: Iterable[tuple[str, str]]) -> str:
    """A table of names and values, without those that are empty.

    Args:
        facts: Names and values, as plain text.
    """
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>\n" for name, value in facts if value)
    return f'<div class="scroll"><table class="facts"><tbody>{rows}</tbody></table></div>' if rows else ""


def write_plots(figures: Iterable[tuple[str, str]]) -> str:
    """Plots beside each other, as many as there is room for.

    Args:
        figures: The SVG of each, and what stands below it as plain text.
    """
    return (
        '<div class="plots">'
        + "\n".join(f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for svg, caption in figures)
        + "</div>"
    )


def write_heading(text: str, level: int = 2, anchor: str = "") -> str:
    """A heading.

    Args:
        text: Plain text.
        level: 2 for sections, 3 below them.
        anchor: Name that a link leads to: letters.
    """
    mark = f' id="{escape(anchor)}"' if anchor else ""
    return f"<h{level}{mark}>{escape(text)}</h{level}>"


def write_paragraph(text: str, kind: str = "") -> str:
    """A paragraph.

    Args:
        text: Plain text.
        kind: ``quiet``, ``warning``, or nothing.
    """
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def write_code(text: str, kind: str = "") -> str:
    """Text as it stands in a file or a terminal.

    Args:
        text: Plain text.
        kind: ``command`` breaks its lines.
    """
    return f"<pre{f' class={kind}' if kind else ''}>{escape(text)}</pre>"


def write_details(summary: str, content: str) -> str:
    """What is shown when it is asked for.

    Args:
        summary: Plain text that is always shown.
        content: HTML.
    """
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
