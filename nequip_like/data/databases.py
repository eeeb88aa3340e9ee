"""ASE databases: do their arrays hold as many numbers as they declare?

ASE makes an array of the declared shape before it looks at the numbers, and repeats a single number as often as it
takes: a few bytes could fill the memory.
"""

from __future__ import annotations

import math
import re
import sqlite3
from pathlib import Path

from nequip_like.errors import DataError

_ARRAY = re.compile(r'"__(?:complex_)?ndarray__"\s*:\s*\[\s*\[([\d\s,]*)\]')


def check_arrays(path: Path) -> None:
    """Check the text of a database before ASE reads it.

    Raises:
        DataError: If an array declares more numbers than its text can hold.
        sqlite3.Error: If the file is no database.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        for number, row in enumerate(connection.execute("SELECT * FROM systems")):
            for text in row:
                if isinstance(text, str) and (match := _overfull(text)):
                    raise DataError(
                        f"{path} row {number}: an array is declared as [{match[1].strip()}], but its text is shorter",
                        "write the database again",
                    )
    finally:
        connection.close()


def _overfull(text: str) -> re.Match[str] | None:
    """The first array of a JSON text that declares more numbers than the text has characters."""
    for match in _ARRAY.finditer(text):
        if math.prod(int(length[:18]) for length in match[1].split(",") if length.strip()) > len(text):
            return match
    return None
