"""What NequIP itself wrote of one of its models, in a process of its own: see ``peer_dump.py``."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nequip_like.compat.nequip_models.contents import NequIPContent
from nequip_like.compat.nequip_models.packages import SUFFIX
from nequip_like.compat.nequip_models.peer_dump import FORMAT, VERSION
from nequip_like.compat.nequip_models.peers import run_in_nequip
from nequip_like.errors import ModelFileError
from nequip_like.whole_files import temporary_folder


def dump_with_nequip(path: Path, python: str | Path, follow: Callable[[Path, Any], dict[str, Any]]) -> NequIPContent:
    """Have NequIP open a file of its own, which runs the code that is in it, and read what it wrote.

    Args:
        path: A checkpoint or package of NequIP's.
        python: An interpreter that has NequIP.
        follow: Finds what builds the model; see :func:`~nequip_like.compat.nequip_models.contents.follow_config`.

    Raises:
        ConfigError: If there is no such interpreter, or it has no NequIP.
        ModelFileError: If NequIP cannot open it.
    """
    with tempfile.TemporaryDirectory(dir=temporary_folder()) as folder:
        run_in_nequip(python, "peer_dump.py", [str(path.absolute()), folder], f"open {path}")
        return read_dump(Path(folder), path, follow)


def read_dump(folder: Path, path: Path, follow: Callable[[Path, Any], dict[str, Any]]) -> NequIPContent:
    """Read what ``peer_dump.py`` wrote; no pickle is opened.

    Args:
        folder: It has ``model.json`` and ``arrays.npz``.
        path: The file that was opened, for messages.
        follow: As for :func:`dump_with_nequip`.

    Raises:
        ModelFileError: If it is no such folder, or damaged.
    """
    try:
        content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
            arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    except (OSError, ValueError, TypeError, EOFError, KeyError, RecursionError, zipfile.BadZipFile) as error:
        raise ModelFileError(f"{folder} has no dump of a NequIP model: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise ModelFileError(f"{folder} has no dump of a NequIP model of version {VERSION}")
    module = content.get("training_module")
    model = follow(path, module)
    model |= {"do_derivatives": bool(content.get("do_derivatives", True))}
    facts = {key: content[key] for key in ("epoch", "step", "versions") if key in content}
    facts |= {
        "kind": "package" if path.name.endswith(SUFFIX) else "checkpoint",
        "weights": "ema" if isinstance(module, dict) and "EMA" in str(module.get("_target_")) else "raw",
    }
    grouped = _group(arrays)
    return NequIPContent(
        path,
        model,
        grouped.get("state", {}).get("", {}),
        facts,
        grouped.get("structure", {}),
        grouped.get("predicted", {}),
    )


def _group(arrays: dict[str, Tensor]) -> dict[str, dict[str, dict[str, Tensor]]]:
    """``state|NAME``, ``structure|OF|FIELD`` and ``predicted|OF|FIELD`` by kind, structure and name."""
    grouped: dict[str, dict[str, dict[str, Tensor]]] = {}
    for name, value in arrays.items():
        kind, _, rest = name.partition("|")
        structure, _, key = rest.rpartition("|")
        grouped.setdefault(kind, {}).setdefault(structure, {})[key] = value
    return grouped
