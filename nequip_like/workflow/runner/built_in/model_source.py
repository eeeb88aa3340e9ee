"""The model that a run begins with, or is about: a file, a folder, artifacts, and weights in place of theirs."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nequip_like.artifacts.reading import check_description
from nequip_like.errors import ConfigError, ModelFileError, first_line
from nequip_like.inference import model_file
from nequip_like.inference.loading import carry_card, find_model, load_any
from nequip_like.inference.manifest import read_manifest
from nequip_like.model.families import Families
from nequip_like.model.potential import Potential
from nequip_like.workflow.resume import find_newest
from nequip_like.workflow.runner.requests import RunRequest

_STATES = (".pt", ".pth")  # plain tensors by name
_STATE_KEYS = ("model_state_dict", "state_dict")
BEGIN_FILE = "begins_with.safetensors"  # in the run's folder: a manifest's model with other weights


def locate_model(request: RunRequest) -> Path:
    """Where the model of a run is: ``model_in``, the manifest, or the run's own folder."""
    model = request.model
    return model.get("path") or model.get("manifest") or request.run_dir


def check_model_is_there(request: RunRequest) -> None:
    """Refuse a place without a model; the model is not read yet.

    Raises:
        ModelFileError: Naming the place.
    """
    find_model(locate_model(request))


def load_model(request: RunRequest, families: Families | None = None) -> tuple[Potential, dict[str, Any]]:
    """Load the model of a run.

    Returns:
        The potential, on the CPU, and what its file tells.

    Raises:
        ModelFileError: If it cannot be read, or weights do not fit.
    """
    weights = request.model.get("weights")
    if weights is None:
        return load_any(locate_model(request), families=families)
    manifest = read_manifest(request.model["manifest"])
    potential, card = load_any(manifest.path, families=families)
    check_description(manifest, potential)
    if weights.suffix in _STATES:
        told: dict[str, Any] = {}
        state = _read_state(weights)
    else:
        other, told = load_any(weights, families=families)
        check_description(manifest, other)
        state = other.state_dict()
    _put_weights(potential, state, weights)
    # Metrics and the like are those of the weights, not of the manifest.
    return potential, {**{key: card[key] for key in ("config", "type_names", "cutoff")}, **told, "path": str(weights)}


def locate_source(request: RunRequest, families: Families | None = None) -> Path:
    """A file or folder with the model that a fine-tuning begins with; with other weights one is written."""
    if "weights" not in request.model:
        return locate_model(request)
    potential, card = load_model(request, families)
    file = request.run_dir / BEGIN_FILE
    model_file.save(potential, file, carry_card(card))
    return file


def locate_checkpoint(request: RunRequest) -> Path:
    """The checkpoint that a run goes on from: a file, or the newest of a run's folder.

    Raises:
        ConfigError: If there is none: a model file or artifacts have weights only.
        ModelFileError: If checkpoints are there, and none can be read.
    """
    place = locate_model(request)
    if place.suffix == ".ckpt" and not place.is_dir():
        return place
    folder = place if place.is_dir() and "manifest" not in request.model else place.parent
    # Artifacts lie in the folder of their run.
    for candidate in (folder, folder.parent) if folder.name == "artifacts" else (folder,):
        if (resumption := find_newest(candidate / "checkpoints")) is not None:
            return resumption.path
    raise ConfigError(
        f"task: resume finds no checkpoint in {folder}",
        "give model_in: RUN/checkpoints/last.ckpt, or the folder RUN; with weights alone, task: finetune begins anew",
    )


def _read_state(file: Path) -> Mapping[str, torch.Tensor]:
    """Tensors by name, of a file of torch that holds nothing else; nothing in it is run."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFileError(f"cannot read {file}: {error.strerror or error}", "check the path") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelFileError(
            f"{file} holds no plain tensors: {first_line(error)}", "give a state_dict, or a model.safetensors"
        ) from error
    for key in _STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelFileError(f"{file} is no mapping from names to tensors", "give a state_dict of the manifest's model")
    return content


def _put_weights(potential: Potential, state: Mapping[str, torch.Tensor], file: Path) -> None:
    own = potential.state_dict()
    advice = "give weights of the model that the manifest describes"
    if missing := sorted(own.keys() - state.keys()):
        raise ModelFileError(f"{file} lacks {len(missing)} tensors of the model, first {missing[0]}", advice)
    if further := sorted(state.keys() - own.keys()):
        raise ModelFileError(f"{file} has {len(further)} tensors that the model lacks, first {further[0]}", advice)
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)}, but the model's is {tuple(own[name].shape)}"
            raise ModelFileError(f"{file}: {name} has the shape {shapes}", advice)
    potential.load_state_dict(dict(state))
