"""Outputs of programs: where each of several joined outputs begins, and its frames, as far as they are finished.

ASE's readers read the header of an output once, stop at what they do not know, and leave out an unfinished structure
without a word. Each part of a file is therefore read by itself, and what begins in the text is counted.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ase import Atoms
from ase.io.formats import ioformats

from nequip_like.data.io.file_formats import Format
from nequip_like.data.io.output_steps import divide_steps, find_excited_states
from nequip_like.data.io.structure_files import fix_structure
from nequip_like.errors import DataError

_LABELS = {"energy", "free_energy", "energies", "forces", "stress", "stresses"}  # ASE's names


class NamedBytes(io.BytesIO):
    """Bytes with the name of a file that is not there: readers look for other files beside the one they read."""

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(content)
        self.name = str(path.absolute() / path.name)


@dataclass(frozen=True)
class Part:
    """One of the outputs that stand in a file.

    Attributes:
        content: Its bytes.
        line: Number of its first line in the file, counted from 1.
    """

    content: bytes
    line: int


def split_parts(content: bytes, form: Format) -> list[Part]:
    """The outputs that a file holds, one after the other.

    Args:
        content: The whole file, with one kind of line end.
        form: Its format.
    """
    if form.start is None:
        return [Part(content, 1)]
    begins = [match.start() for match in form.start.finditer(content)]
    edges = [0, *begins[1:], len(content)]  # what stands before the first header belongs to it
    return [Part(content[first:last], content.count(b"\n", 0, first) + 1) for first, last in pairwise(edges)]


def check_part(part: Part, form: Format, path: Path) -> None:
    """Refuse a part in which the species are named twice.

    Raises:
        DataError: Naming the line of the second header.
    """
    if form.species is None:
        return
    headers = [match.start() for match in form.species.finditer(part.content)]
    if len(headers) > 1:
        line = part.line + part.content.count(b"\n", 0, headers[1])
        raise DataError(
            f"{path}: a second header stands in line {line}, in the middle of an output: atoms may be others there",
            "split the file there, and give both files",
        )


def drop_unfinished_line(content: bytes) -> bytes:
    """The content without a last line that has no end: a number in it may have lost its digits."""
    return content[: content.rfind(b"\n") + 1]


def find_open_line(content: bytes, path: Path) -> str | None:
    """A note on a file of rows whose last one has no end; many editors write none, and so does a copy that stopped."""
    if not content or content[-1:].isspace():
        return None
    line = content.count(b"\n") + 1
    return f"{path}: its last line, {line}, has no end: if the file was cut off, the last number may be wrong"


def find_unconverged(part: Part, form: Format, frames: range, path: Path) -> list[str]:
    """A note on calculations that say themselves that they did not converge.

    Args:
        part: The output.
        form: Its format.
        frames: The frames of the file that were read from it.
        path: The file, for messages.
    """
    matches = [] if form.unconverged is None else list(form.unconverged.finditer(part.content))
    if not matches:
        return []
    begins = [] if form.structure is None else [match.start() for match in form.structure.finditer(part.content)]
    steps = {sum(begin <= match.start() for begin in begins) - 1 for match in matches}
    certain = len(begins) == len(frames) and min(steps) >= 0
    where = f"frame {', '.join(str(frames[step]) for step in sorted(steps))}, " if certain else ""
    line = part.line + part.content.count(b"\n", 0, matches[0].start())
    text = matches[0][0].decode("ascii", "replace").strip()
    return [f"{path}: not converged ({where}line {line}: {text!r}); the labels may be wrong there"]


def drop_filled_in_results(atoms: Atoms, form: Format) -> None:
    """Drop what ASE's reader filled in: results that the format cannot hold."""
    if form.labels is None or atoms.calc is None:
        return
    for name in _LABELS - set(form.labels):
        atoms.calc.results.pop(name, None)


def has_labels(atoms: Atoms, form: Format) -> bool:
    """Whether there is anything beside the structure."""
    results = {} if atoms.calc is None else atoms.calc.results
    return any(results.get(name) is not None for name in form.labels or ())


def find_last_structure(content: bytes, form: Format) -> int | None:
    """Where the last structure of an output that was stopped begins, if others stand before it."""
    if not form.output or form.structure is None or (form.end is not None and form.end.search(content)):
        return None
    begins = [match.start() for match in form.structure.finditer(content)]
    return begins[-1] if len(begins) > 1 else None


def find_unfinished(part: Part, form: Format, read: int, path: Path) -> str | None:
    """Compare the structures that were read with those that begin in the text.

    Args:
        part: The output.
        form: Its format.
        read: Structures that were read.
        path: The file, for messages.

    Returns:
        A note on structures that were left out, or None.

    Raises:
        DataError: If structures are missing from a file that is no output of a running program.
    """
    if form.end is not None and form.end.search(part.content):
        return None
    if form.structure is None:
        cut = form.end is not None and read > 0
        part_name = f"{path}: the output that begins in line {part.line}"
        return f"{part_name} has no end; its last structure may lack labels" if cut else None
    begins = [match.start() for match in form.structure.finditer(part.content)]
    missing = len(begins) - read
    if missing <= 0:
        return None
    line = part.line + part.content.count(b"\n", 0, begins[read])
    if not form.output:
        raise DataError(
            f"{path}: {len(begins)} structures begin in it, but only {read} can be read",
            f"look at line {line} and above it; split a file that was joined from several",
        )
    if missing == 1:
        return f"{path}: the last structure, which begins in line {line}, is unfinished and left out"
    return f"{path}: {missing} of the {len(begins)} structures that begin in it have no result and are left out"


def read_part(part: Part, form: Format, path: Path, notes: list[str]) -> list[Atoms]:
    """The frames of one output.

    Args:
        part: The output.
        form: Its format.
        path: The file, for messages.
        notes: Remarks on the output are added to these.

    Raises:
        DataError: If its species are named twice, or structures are missing from a file that is no output.
    """
    check_part(part, form, path)
    content = drop_unfinished_line(part.content) if form.output and form.name != "vasp-xml" else part.content
    try:
        images = list(read_content(content, form, path))
    except Exception:  # ASE raises anything; a program that was stopped leaves a structure that no reader can read
        begun = find_last_structure(content, form)
        if begun is None:
            raise
        images = list(read_content(content[:begun], form, path))
    frames = []
    for atoms in images:
        fix_structure(atoms, content, form.name, f"{path}: the structure that begins in line {part.line}")
        drop_filled_in_results(atoms, form)
        if not form.output or has_labels(atoms, form):
            frames.append(atoms)
    if form.name == "gaussian-out":
        notes.extend(find_excited_states(content, path))
    if note := find_unfinished(part, form, len(frames), path):
        notes.append(note)
    elif bare := len(images) - len(frames):
        notes.append(
            f"{path}: {bare} structures without any label are left out, as of a calculation that did not converge"
        )
    return frames


def read_content(content: bytes, form: Format, path: Path) -> Iterator[Atoms]:
    """Read one output with ASE's reader."""
    reader = ioformats[form.name]
    source = NamedBytes(divide_steps(content, form.name), path)
    file = source if reader.isbinary else io.TextIOWrapper(source, encoding="utf-8", errors="replace")
    yield from reader.read(file) if reader.single else reader.read(file, slice(None))
