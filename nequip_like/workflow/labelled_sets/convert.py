"""Files of any format that is read become one file, with labels in eV and Angstrom under well-known names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from nequip_like.data.inspection.report import labels_text
from nequip_like.data.io.readers import read
from nequip_like.data.io.reading import Reading
from nequip_like.data.selection.repair import Repairs
from nequip_like.data.tables.frame_table import tabulate
from nequip_like.report.labelled_files import check_new_file, write_labelled
from nequip_like.summaries import print_line


def convert_files(
    sources: Sequence[str | Path],
    output: str | Path,
    *,
    key_mapping: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    repair: str | Path | None = None,
    console: Console | None = None,
) -> Reading:
    """Read files and write all their frames to one.

    Args:
        sources: Files or patterns, in order.
        output: A new file: ``.xyz``, ``.extxyz``, ``.traj`` or ``.db``.
        key_mapping: ``{name in the files: label}``.
        units: Units of the files.
        repair: A file that says which frames are left out or labelled anew.
        console: Where to print; the terminal by default.

    Returns:
        What was read, and is written.

    Raises:
        ConfigError: If names or units cannot be understood.
        DataError: If a file cannot be read, frames hold what the output cannot, or one has changed since the repairs
            were written.
        OutputError: If the output is there already, is of another format, or cannot be written.
    """
    console = console or Console()
    target = check_new_file(output)
    reading = read(list(sources), key_mapping=key_mapping, units=units)
    print_notes(reading.notes, console)
    if repair is not None:
        repairs = Repairs(repair)
        reading, count = repairs.apply(reading)
        print_notes([*count.sentences, *repairs.check_whole()], console)
    report_written(target, reading, write_labelled(reading, target), console)
    return reading


def print_notes(notes: Sequence[str], console: Console) -> None:
    """Print what a user should know of a reading.

    Args:
        notes: Sentences.
        console: Where to print.
    """
    for note in notes:
        print_line(console, f"warning: {note}")


def report_written(path: Path, reading: Reading, left_out: Sequence[str], console: Console) -> None:
    """Print what a file has become.

    Args:
        path: The file.
        reading: Its frames.
        left_out: Names of what is not in it.
        console: Where to print.
    """
    labels = labels_text(tabulate(reading.frames).count_labels(), len(reading))
    lost = f"; left out: {', '.join(left_out)}" if left_out else ""
    text = f"written: {path}, {len(reading)} frames, {labels}{lost}"
    print_line(console, text)
