"""Writes a model as a folder of artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import nequip_like
from nequip_like.artifacts.description import (
    describe_head,
    describe_io,
    describe_model,
    describe_normalizer,
    name_dtype,
)
from nequip_like.data.published import compute_checksum
from nequip_like.errors import ModelFileError
from nequip_like.inference import model_file
from nequip_like.inference.loading import carry_card, load_any
from nequip_like.inference.manifest import BACKEND, MANIFEST, SCHEMA_VERSION
from nequip_like.model.potential import Potential
from nequip_like.whole_files import output_errors, path_of, written_whole

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def write_artifacts(
    model: Potential | str | Path,
    folder: str | Path,
    *,
    card: Mapping[str, Any] | None = None,
    source: str | Path | None = None,
) -> Path:
    """Write a model as ``model.safetensors``, ``model.json`` and ``manifest.json``.

    The manifest is written last: as long as the others are not whole, the one before says that they are not its own.

    Args:
        model: A potential, or a model file, a checkpoint or a run folder; what is told of it is kept.
        folder: Where to write; made if it is not there. Artifacts that are there are replaced.
        card: What else to tell: ``metrics``, ``licence``, ``provenance``, ``notes``; JSON values only.
        source: The file that a potential in memory was read from.

    Returns:
        The manifest.

    Raises:
        ModelFileError: If the model cannot be read, or the card holds what JSON has not.
        OutputError: If a file cannot be written.

    Example:
        >>> from nequip_like.artifacts import read_artifacts
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"r_max": 3.0, "num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> manifest = write_artifacts(NequIPGNNModel(type_names=["H", "O"], **tiny), "artifacts")
        >>> sorted(file.name for file in manifest.parent.iterdir())
        ['manifest.json', 'model.json', 'model.safetensors']
        >>> read_artifacts("artifacts").type_names
        ['H', 'O']
    """
    potential, told, file = _read(model, source)
    origin = None if file is None else _describe_file(file)  # before it is replaced, if it stands there
    told |= dict(card or {})
    target = path_of(folder)
    with output_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    model_file.save(potential, target / WEIGHTS, told)
    # As the file has it, where numbers that are not finite are null.
    told = {key: value for key, value in model_file.read_card(target / WEIGHTS).items() if key in told}
    _write_json(target / DESCRIPTION, describe_model(potential))
    config = potential.config
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "backend": BACKEND,
        "backend_version": nequip_like.__version__,
        "source": origin,
        "weights": {
            "path": WEIGHTS,
            "format": "safetensors",
            "sha256": compute_checksum(target / WEIGHTS),
            "dtype": name_dtype(potential),
        },
        "model": {"path": DESCRIPTION, "sha256": compute_checksum(target / DESCRIPTION)},
        "rebuildable": True,
        "io": describe_io(potential),
        "config": {
            "family": config.get("family"),
            "type_names": list(potential.type_names),
            "cutoff": potential.cutoff,
        },
        "head": describe_head(potential),
        "normalizer": describe_normalizer(potential),
        "versions": {"nequip_like": nequip_like.__version__, "torch": str(torch.__version__)},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **{key: told[key] for key in ("metrics", "licence", "provenance", "notes") if key in told},
    }
    _write_json(target / MANIFEST, content)
    return target / MANIFEST


def _describe_file(file: Path) -> dict[str, Any] | None:
    """Name, format and SHA-256 of the file that a model stood in; None of a folder."""
    if not file.is_file():
        return None
    return {"path": file.name, "format": file.suffix.lstrip("."), "sha256": compute_checksum(file)}


def _read(model: Potential | str | Path, source: str | Path | None) -> tuple[Potential, dict[str, Any], Path | None]:
    """The potential, what is told of it, and the file that it stood in."""
    if isinstance(model, Potential):
        return model, {}, None if source is None else path_of(source)
    potential, card = load_any(model)
    return potential, carry_card(card), Path(card["path"])


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise ModelFileError(f"{path}: the model has numbers that are not finite", "train it again") from error
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
