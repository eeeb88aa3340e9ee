"""Reads a model that stands in a folder of artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from nequip_like.artifacts.description import describe_io, describe_model
from nequip_like.errors import ModelFileError
from nequip_like.inference import model_file
from nequip_like.inference.manifest import Manifest, read_json_object, read_manifest
from nequip_like.model.families import Families
from nequip_like.model.potential import Potential

_COMPARED = ("family", "type_names", "cutoff", "dtype")


def read_artifacts(
    folder_or_manifest: str | Path, device: str | torch.device = "cpu", families: Families | None = None
) -> Potential:
    """Read a potential from artifacts; nothing that they hold is run.

    Args:
        folder_or_manifest: The folder, or the ``manifest.json`` in it.
        device: Where to put it; ``auto`` takes a GPU if there is one.
        families: As for :func:`~nequip_like.inference.model_file.read_model`.

    Returns:
        The potential, in evaluation mode.

    Raises:
        ModelFileError: If there is no manifest, its files are missing or are not those that it was written with, or
            they contradict each other.
        ConfigError: If there is no such device, or ``families`` is no mapping or has a name that is built in.
    """
    manifest = read_manifest(folder_or_manifest)
    potential = model_file.read_model(manifest.weights, device, families)
    check_description(manifest, potential)
    return potential


def check_description(manifest: Manifest, potential: Potential) -> None:
    """Compare what a manifest and its ``model.json`` say with the model that is there.

    Raises:
        ModelFileError: Naming the file and the first entry that is otherwise.
    """
    described = describe_model(potential)
    told = [
        (manifest.model, read_json_object(manifest.model), {key: described[key] for key in _COMPARED}),
        (manifest.path, manifest.content.get("config"), {key: described[key] for key in _COMPARED}),
        (manifest.path, manifest.content.get("io"), describe_io(potential)),
    ]
    for file, values, expected in told:
        for key, value in values.items() if isinstance(values, Mapping) else ():
            if key in expected and value != expected[key]:
                raise ModelFileError(
                    f"{file} says that {key} is {str(value)[:80]}, but the model in {manifest.weights.name} has "
                    f"{expected[key]}",
                    "write the artifacts again",
                )
