"""Folders that are named after the time: two that begin within one second get different ones."""

from __future__ import annotations

from pathlib import Path

from nequip_like.whole_files import output_errors


def make_new(path: Path) -> Path:
    """Make a folder that was not there: the one asked for, or else ``NAME-2``, ``NAME-3``, ...

    Making a folder is one step of the file system, so no two commands get the same one, on whatever machines.

    Args:
        path: The name asked for.

    Returns:
        The folder that was made.

    Raises:
        OutputError: If it cannot be made.
    """
    number, candidate = 1, path
    with output_errors(path.absolute()):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                candidate.mkdir()
            except FileExistsError:
                number += 1
                candidate = path.with_name(f"{path.name}-{number}")
            else:
                return candidate
