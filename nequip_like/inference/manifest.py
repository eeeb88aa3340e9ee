"""The manifest of a folder of artifacts: which files a model consists of, and what they are, with their SHA-256.

``manifest.json`` stands beside the files that it names, by paths relative to its folder:

- ``schema_version``: ``v1``; ``backend``: ``nequip_like``; ``backend_version``;
- ``weights``: ``path``, ``format`` (``safetensors``), ``sha256``, ``dtype``;
- ``model``: ``path`` and ``sha256`` of ``model.json``, which describes the model in words and numbers;
- ``config``, ``io``, ``head``, ``normalizer``, ``source``, ``provenance``, ...: see :mod:`nequip_like.artifacts`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nequip_like.data.published import compute_checksum
from nequip_like.errors import ModelFileError
from nequip_like.summaries import Summarized
from nequip_like.whole_files import path_of

MANIFEST = "manifest.json"
SCHEMA_VERSION = "v1"
BACKEND = "nequip_like"
_LARGEST = 1 << 24  # bytes of a manifest
_AGAIN = "write the artifacts again: nequip-model convert MODEL --to artifacts --output FOLDER"


@dataclass(frozen=True, repr=False)
class Manifest(Summarized):
    """A manifest whose files are there and are those that it was written with.

    Attributes:
        path: The manifest.
        content: All of it.
        weights: The model file.
        model: The description of the model.
    """

    path: Path
    content: Mapping[str, Any]
    weights: Path
    model: Path

    def summary(self) -> dict[str, Any]:
        """Where it is, and the files that it names."""
        return {"path": str(self.path), "weights": self.weights.name, "model": self.model.name}


def find_manifest(path: Path) -> Path | None:
    """The manifest that a path means: the file itself, or that of a folder; None if it means none.

    Example:
        >>> Path("artifacts").mkdir()
        >>> _ = Path("artifacts/manifest.json").write_text("{}")
        >>> find_manifest(Path("artifacts")).as_posix(), find_manifest(Path("model.safetensors"))
        ('artifacts/manifest.json', None)
    """
    if path.suffix == ".json" and path.is_file():
        return path
    inside = path / MANIFEST
    return inside if path.is_dir() and inside.is_file() else None


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest, and compare its files with the SHA-256 that they had.

    Args:
        path: ``manifest.json``, or its folder.

    Raises:
        ModelFileError: If there is none, it is damaged, of another schema or backend, names a file outside of its
            folder, or a file is missing or another one.
    """
    given = path_of(path)
    file = find_manifest(given)
    if file is None:
        raise ModelFileError(f"{given.absolute()} has no {MANIFEST}", "give a folder of artifacts")
    content = read_json_object(file)
    for key, expected in (("schema_version", SCHEMA_VERSION), ("backend", BACKEND)):
        if content.get(key) != expected:
            shown = content.get(key) if isinstance(content.get(key), str) else type(content.get(key)).__name__
            raise ModelFileError(
                f"{file}: its {key} is {shown}, and not {expected}",
                "give artifacts that nequip_like wrote; a newer version may have written these",
            )
    weights, model = (_check_file(file, content, key) for key in ("weights", "model"))
    if content["weights"].get("format") != "safetensors":
        raise ModelFileError(f"{file}: its weights are of no format that is read", "safetensors is")
    return Manifest(file, content, weights, model)


def read_json_object(file: Path) -> dict[str, Any]:
    """Read a manifest, or another JSON file of artifacts, as it is.

    Raises:
        ModelFileError: If it is too large, damaged, or no object.
    """
    try:
        if file.stat().st_size > _LARGEST:
            raise ModelFileError(f"{file} is too large for a file of artifacts", _AGAIN)
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFileError(f"cannot read {file}: {error.strerror or error}", "check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{file} is cut off or damaged: it is no JSON", _AGAIN) from error
    if not isinstance(content, dict):
        raise ModelFileError(f"{file} does not describe a model", _AGAIN)
    return content


def _check_file(file: Path, content: Mapping[str, Any], key: str) -> Path:
    """The file that an entry names, which has to be the one that it was."""
    entry = content.get(key)
    name, checksum = (entry.get("path"), entry.get("sha256")) if isinstance(entry, Mapping) else (None, None)
    if not isinstance(name, str) or not isinstance(checksum, str) or not re.fullmatch(r"[0-9a-f]{64}", checksum):
        raise ModelFileError(f"{file} does not name its {key} by path and sha256", _AGAIN)
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
        raise ModelFileError(f"{file}: its {key} is {name!r}, which is no file of its folder", _AGAIN)
    target = file.parent / name
    try:
        inside = target.resolve().is_relative_to(file.parent.resolve())
        there = target.is_file()
        same = inside and there and compute_checksum(target) == checksum
    except (OSError, RuntimeError) as error:
        raise ModelFileError(f"{file}: its {key} cannot be read: {name!r}", "check the folder") from error
    if not inside:
        raise ModelFileError(f"{file}: its {key} is {name!r}, which leads out of its folder", _AGAIN)
    if not there:
        raise ModelFileError(f"{file}: its {key} is {name!r}, which is not there", "copy the whole folder")
    if not same:
        raise ModelFileError(
            f"{target} is not the file that {file.name} was written with: its SHA-256 is another",
            "copy the whole folder again, or write the artifacts again",
        )
    return target
