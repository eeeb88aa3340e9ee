"""Where the frames of a prepared set come from: files by name, size and content, so that a change is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def describe_source(path: Path) -> dict[str, Any]:
    """Name, size, time of the last change and hash of the content of a file, or of all files of a folder."""
    digest = hashlib.sha256()
    for file in _list_files(path):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as content:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
    return {"path": str(path), "sha256": digest.hexdigest(), **_describe_state(path)}


def find_changed_source(sources: Sequence[Mapping[str, Any]]) -> str | None:
    """The first source whose content is another one now; None if there is none.

    A source that is not there any more, or on another machine, has not changed. The content is only read where the time
    of change differs and the size does not.
    """
    for source in sources:
        path = Path(source["path"])
        try:
            state = _describe_state(path)
            if state == {name: source[name] for name in state} or state["size"] is None:
                continue
            if state["size"] != source["size"] or describe_source(path)["sha256"] != source["sha256"]:
                return str(path)
        except OSError:  # not ours to read: nobody trains on it by mistake
            continue
    return None


def _describe_state(path: Path) -> dict[str, Any]:
    states = [file.stat() for file in _list_files(path)]
    if not states:
        return {"size": None, "changed": None}
    return {"size": sum(state.st_size for state in states), "changed": max(state.st_mtime_ns for state in states)}


def _list_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.is_file() else []
