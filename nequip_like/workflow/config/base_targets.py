"""The base of a delta learning, as a config names it: a model file or a calculator of ASE."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nequip_like.data.labels.base_targets import KINDS, BaseTargets
from nequip_like.errors import ConfigError
from nequip_like.inference.loading import find_model
from nequip_like.whole_files import path_of
from nequip_like.workflow.pretrain.teachers import build_teacher, check_teacher, describe_teacher

CACHE_FILE = "base_labels.npz"
_KEY = "data.base_targets"


def names_base(entry: Any) -> bool:
    """Whether the entry ``data.base_targets`` names a model or calculator, not names in the files."""
    return isinstance(entry, Mapping) and bool(set(KINDS) & set(entry))


def check_base(entry: Any, trusted: Sequence[str]) -> None:
    """Refuse a base that cannot be had, before any data are read.

    Args:
        entry: ``data.base_targets``.
        trusted: The user's packages.

    Raises:
        ConfigError: If it cannot be understood, or there is no such model or calculator.
    """
    if not names_base(entry):
        BaseTargets.read(entry)
        return
    kind, base = _read_entry(entry)
    if kind == "model" and not (isinstance(base, str | Path) and path_of(base).exists()):
        raise ConfigError(f"{_KEY}.model: there is no file {base}", "give the path of a model")
    check_teacher(base, trusted, f"{_KEY}.{kind}")


def build_base(entry: Any, trusted: Sequence[str], folder: Path, keeps: bool = True) -> BaseTargets:
    """Build the base of an entry that names a model or calculator.

    Args:
        entry: ``data.base_targets``.
        trusted: The user's packages.
        folder: Where its labels are kept: a run that goes on does not compute them again.
        keeps: Whether this process writes them.

    Raises:
        ConfigError: If it cannot be built.
    """
    kind, base = _read_entry(entry)
    calculator = build_teacher(base, trusted, (), f"{_KEY}.{kind}").calculator
    return BaseTargets(calculator=calculator, title=_describe(base), cache=folder / CACHE_FILE, keeps=keeps)


def describe_base(entry: Any) -> dict[str, Any]:
    """What the card of a model says of its base.

    Args:
        entry: ``data.base_targets``; not None.
    """
    if names_base(entry):
        kind, base = _read_entry(entry)
        return {"kind": kind, "base": base if kind == "calculator" else str(base), "id": _describe(base)}
    return {"kind": "labels", "base": dict(entry)}


def _read_entry(entry: Mapping[str, Any]) -> tuple[str, Any]:
    if len(entry) > 1:
        raise ConfigError(f"{_KEY} has the keys {', '.join(map(str, entry))}", f"give one of {', '.join(KINDS)} alone")
    return next(iter(entry.items()))


def _describe(base: Any) -> str:
    """Name of the base, and a sum by which another one of this name is told from it."""
    name = describe_teacher(base)
    path = find_model(name) if isinstance(base, str) and path_of(name).exists() else None
    content = json.dumps(base, sort_keys=True, default=str).encode() if path is None else path.read_bytes()
    return f"{name if path is None else path.name} {hashlib.sha256(content).hexdigest()[:12]}"
