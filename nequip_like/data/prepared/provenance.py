"""Where the frames of a prepared set come from: files by name, size and content, so that a change is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def describe_source(path: Path) -> dict[str, Any]:
    """Name, size, time of change and hash of the content of a file."""
    state = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": str(path.absolute()), "size": state.st_size, "changed": state.st_mtime_ns, "sha256": digest}


def find_changed_source(sources: Sequence[Mapping[str, Any]]) -> str | None:
    """The first source whose content is another one now; None if there is none.

    A source that is not there any more, or on another machine, has not changed. The content is only read where the time
    of change differs and the size does not.
    """
    for source in sources:
        path = Path(source["path"])
        try:
            state = path.stat()
            if (state.st_size, state.st_mtime_ns) == (source["size"], source["changed"]):
                continue
            if state.st_size != source["size"] or describe_source(path)["sha256"] != source["sha256"]:
                return str(path)
        except OSError:  # not there, or not ours to read: nobody can train on it by mistake
            continue
    return None
