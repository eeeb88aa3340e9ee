"""Statements of C to text that a person can read: indented, and no longer than a screen is wide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_INDENT = "    "
_WIDTH = 120


def write_comment(text: str) -> str:
    """A line that says in words what the next ones do."""
    return f"/* {text} */"


def open_parallel_for(loop: str, schedule: str = "static", wait: bool = True) -> Iterator[str]:
    """Beginning of a loop that OpenMP shares among the threads; the caller writes the body and the closing brace.

    Args:
        loop: What stands in the loop's parentheses.
        schedule: OpenMP's word for who takes which turns.
        wait: Whether the threads wait for each other after the loop.
    """
    yield f"#pragma omp for schedule({schedule}){'' if wait else ' nowait'}"
    yield f"for ({loop}) {{"


def format_lines(lines: Iterable[str]) -> str:
    """Indent lines by their braces, and break the long ones.

    Args:
        lines: One statement each. A line that opens a block ends with its brace, and one that closes a block begins
            with it; braces of values, as in ``(V){0}``, stay within a line.

    >>> print(format_lines(["for (int i = 0; i < 3; i++) {", "x[i] = 0;", "}"]), end="")
    for (int i = 0; i < 3; i++) {
        x[i] = 0;
    }
    """
    depth, result, line_before = 0, [], "{"
    for line in lines:
        if line.startswith("}"):
            depth -= 1
        # A comment begins a piece, which an empty line sets apart.
        if line.startswith("/*") and not line_before.endswith("{") and not line_before.startswith("/*"):
            result.append("\n")
        result.append(_break_line(_INDENT * depth, line))
        if line.endswith("{"):
            depth += 1
        line_before = line
    return "".join(result)


def _break_line(indent: str, line: str) -> str:
    """The line with its end, on as many lines as it takes; directives are the only ones that must stay on one."""
    pieces: list[str] = []
    while len(indent) + len(line) > _WIDTH and not line.startswith("#"):
        # Between the items of a list, or else between the terms of a sum: where a reader looks for the next one.
        stop = _WIDTH - len(indent)
        end = line.rfind(", ", 0, stop) + 1 or line.rfind(" + ", 0, stop) + 2
        if end <= len(", "):
            break
        pieces.append(indent + line[:end].rstrip())
        line = line[end:].lstrip()
        if len(pieces) == 1:
            indent += _INDENT
    return "\n".join([*pieces, indent + line]) + "\n"


def open_threads() -> Iterator[str]:
    """A block that all threads run, from the first loop to the last: they are started once for a pass."""
    yield "#pragma omp parallel num_threads(net->threads)"
    yield "{"


def write_edge_loop(title: str, statement: str) -> Iterator[str]:
    """A loop over all edges, with a statement for edge ``e``."""
    yield write_comment(title)
    yield from open_parallel_for("int64_t e = 0; e < net->edges; e++")
    yield statement
    yield "}"


def cast_to_read(pointers: str) -> str:
    """An array of pointers, whose numbers are only read."""
    # C converts a pointer to const by itself, but not a pointer to pointers.
    return f"(const REAL *const *){pointers}"
