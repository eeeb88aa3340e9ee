"""How results show themselves: one short line where they are printed, a table in a notebook. Never their tensors."""

from __future__ import annotations

import dataclasses
import html
import reprlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 6  # entries of a collection of words or numbers that are shown one by one


class Summarized:
    """Something with a short ``repr``, and a table where a notebook shows it.

    A dataclass that inherits it is declared with ``repr=False``.
    """

    def summary(self) -> dict[str, Any]:
        """What is shown: names and values; by default the fields of a dataclass."""
        if not dataclasses.is_dataclass(self):
            return {}
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __repr__(self) -> str:
        """The class and its summary, on one line."""
        values = ", ".join(f"{name}={short(value)}" for name, value in self.summary().items())
        return f"{type(self).__name__}({values})"

    def _repr_html_(self) -> str:
        """The summary as a table, for notebooks."""
        rows = [(name, short(value)) for name, value in self.summary().items()]
        return html_table(type(self).__name__, (), rows)


def print_line(console: Console, line: str) -> None:
    """Print a line as it is: brackets are no markup, numbers have no colours, and only the terminal breaks it.

    Args:
        console: Where to print.
        line: The line.
    """
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def short(value: Any) -> str:
    """A value in a few words: the shape of an array, the size of what is large, four digits of a number.

    Example:
        >>> import numpy
        >>> short(0.123456), short(numpy.zeros((2, 3))), short(list(range(100)))
        ('0.1235', 'ndarray(2, 3)', '100 entries')
    """
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str | Path):
        return str(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__}{tuple(value.shape)}"
    if isinstance(value, Mapping):
        entries = [f"{key}: {short(entry)}" for key, entry in value.items() if _is_plain(entry)]
        return _join_entries(value, entries, "{}", "entries")
    if isinstance(value, list | tuple | set | frozenset):
        return _join_entries(value, [short(entry) for entry in value if _is_plain(entry)], "[]", "entries")
    if dataclasses.is_dataclass(value) and not isinstance(value, Summarized):
        return type(value).__name__
    return reprlib.repr(value) if not isinstance(value, Summarized) else repr(value)


def _join_entries(value: Collection[Any], entries: Sequence[str], brackets: str, unit: str) -> str:
    """The entries one by one, where all are plain and few; else their number."""
    if len(entries) < len(value) or len(entries) > _SHOWN:
        return f"{len(value)} {unit}"
    return f"{brackets[0]}{', '.join(entries)}{brackets[1]}"


def _is_plain(entry: Any) -> bool:
    return entry is None or isinstance(entry, str | int | float | Path)


def html_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table for notebooks.

    Args:
        title: What stands above it.
        headings: One for each column, or none.
        rows: The cells as text; the first of each row is its name.
    """
    lines = [f"<table><caption>{html.escape(title)}</caption>"]
    if headings:
        lines.append(f"<tr>{''.join(f'<th>{html.escape(heading)}</th>' for heading in headings)}</tr>")
    for name, *cells in rows:
        values = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th style="text-align:left">{html.escape(name)}</th>{values}</tr>')
    return "".join([*lines, "</table>"])
