"""What was found in data, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from nequip_like.data.inspection.audit import Audit
from nequip_like.data.inspection.checks.table import Verdict
from nequip_like.data.inspection.histograms import Histogram
from nequip_like.report.audit_tables import list_audit_tables
from nequip_like.report.pictures import COLOURS, GREY
from nequip_like.whole_files import written_whole

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 0.5em 0 1.5em; } th, td { text-align: left; padding: 0.2em 0.8em; }
th { border-bottom: 1px solid #999; } tr:nth-child(even) td { background: #f6f6f6; } td { vertical-align: top; }
.ok { color: #00704f; } .look { color: #9a6700; font-weight: bold; } .wrong { color: #b00020; font-weight: bold; }
.advice, .facts { color: #555; white-space: pre-line; } figure { display: inline-block; margin: 0.5em 1em 1em 0; }
figcaption, summary { font-size: 0.9em; color: #555; }
"""
PageTable = tuple[str, Sequence[str], Sequence[Sequence[str]]]
_WIDTH, _HEIGHT, _AXIS = 400, 150, 18
_MOST_FRAMES = 500  # that are listed for a verdict


def write_audit_page(audit: Audit, path: str | Path, further: Sequence[PageTable] = ()) -> None:
    """Write the page: verdicts first, then distributions, tables and facts. It holds its pictures, as SVG.

    Args:
        audit: What was found.
        path: The file.
        further: Tables that follow the verdicts: title, columns and rows.

    Raises:
        OutputError: If it cannot be written.
    """
    with written_whole(path) as partial:
        partial.write_text("".join(_write_page(audit, further)), encoding="utf-8")


def _write_page(audit: Audit, further: Sequence[PageTable]) -> Iterator[str]:
    title = f"Data: {', '.join(list(audit.files)[:3])}"
    yield f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    yield f"<style>{_STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n<h2>Verdicts</h2>\n<table>"
    yield "<tr><th>check</th><th>verdict</th><th>what was found</th></tr>\n"
    for verdict in audit.verdicts:
        yield f'<tr><td>{verdict.check}</td><td class="{verdict.level}">{verdict.level}</td><td>'
        yield f"{_describe_verdict(verdict, audit)}</td></tr>\n"
    yield "</table>\n"
    for table in further:
        yield from _write_table(*table)
    yield "<h2>Distributions</h2>\n"
    for histogram in audit.histograms:
        yield f"<figure>{draw_histogram(histogram)}<figcaption>{escape(histogram.title)}</figcaption></figure>\n"
    for table in list_audit_tables(audit):
        yield from _write_table(*table)
    yield "<h2>facts</h2>\n<table>"
    for name, value in audit.facts.rows():
        yield f'<tr><td>{escape(name)}</td><td class="facts">{escape(value)}</td></tr>\n'
    yield f"</table>\n<p>Neighbours within {audit.cutoff:g} Å.</p></body></html>\n"


def _write_table(heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"<h2>{escape(heading)}</h2>\n<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in columns)}</tr>\n"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n"
    yield "</table>\n"


def _describe_verdict(verdict: Verdict, audit: Audit) -> str:
    text = "<br>".join(map(escape, verdict.sentences))
    if verdict.advice:
        text += f'<br><span class="advice">→ {escape(verdict.advice)}</span>'
    if verdict.frames:
        names = "<br>".join(escape(audit.origins[i]) for i in verdict.frames[:_MOST_FRAMES])
        text += f"<details><summary>{len(verdict.frames)} frames</summary>{names}</details>"
    return text


def draw_histogram(histogram: Histogram) -> str:
    """A histogram as SVG, with the range and the largest number of values in a bin.

    Args:
        histogram: What is drawn.

    Example:
        >>> print(draw_histogram(Histogram("x", "", (0.0, 1.0, 2.0), (1, 3))).count("<rect"))
        2
    """
    most, width = max(histogram.counts), _WIDTH / len(histogram.counts)
    bars = []
    for i, count in enumerate(histogram.counts):
        height = count / most * (_HEIGHT - _AXIS - 14)
        top = _HEIGHT - _AXIS - height
        low, high = histogram.edges[i], histogram.edges[i + 1]
        bars.append(
            f'<rect x="{i * width:.1f}" y="{top:.1f}" width="{max(width - 1, 0.5):.1f}" height="{height:.1f}" '
            f'fill="{COLOURS[0]}"><title>{low:.4g} to {high:.4g}: {count}</title></rect>'
        )
    base, style = _HEIGHT - 4, f'font-size="11" fill="{GREY}"'
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{escape(histogram.title)}">{"".join(bars)}'
        f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT - _AXIS}" y2="{_HEIGHT - _AXIS}" stroke="{GREY}"/>'
        f'<text x="0" y="{base}" {style}>{histogram.edges[0]:.4g}</text>'
        f'<text x="{_WIDTH}" y="{base}" text-anchor="end" {style}>{histogram.edges[-1]:.4g}</text>'
        f'<text x="0" y="11" {style}>up to {most}</text></svg>'
    )
