"""A potential from whatever a user has: a model file, a checkpoint, artifacts, or the folder of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nequip_like.errors import ModelFileError
from nequip_like.inference import model_file
from nequip_like.inference.manifest import MANIFEST, find_manifest, read_manifest
from nequip_like.inference.restore import restore
from nequip_like.model.checkpoint_format import CHECKPOINT_KEY, averaging_of, evaluated_of, read_checkpoint
from nequip_like.model.families import Families
from nequip_like.model.potential import Potential
from nequip_like.whole_files import path_of

RAW_PREFIX = "model."
EMA_PREFIX = "ema.module."


def load_checkpoint(
    path: str | Path, families: Families | None = None, device: str | torch.device = "cpu"
) -> tuple[Potential, dict[str, Any]]:
    """Read the potential of a Lightning checkpoint: the weights that were evaluated in training, averaged or raw.

    Args:
        path: A ``.ckpt`` file that training wrote.
        families: As for :func:`~nequip_like.inference.model_file.read_model`.
        device: Where to put it; ``auto`` takes a GPU if there is one.

    Returns:
        The potential, in evaluation mode, and a card: ``config``, ``type_names``, ``cutoff``, ``weights``
        ("ema", "swa" or "raw"), ``epoch``, ``global_step``, ``metrics`` (the last validation errors), and
        what a model file of the same run tells: ``provenance``, and ``base`` of a delta learning.

    Raises:
        ModelFileError: If the file is missing, damaged, holds code, or was not written by this package.
        ConfigError: If there is no such device, or ``families`` is no mapping or has a name that is built in.
    """
    content = read_checkpoint(path)
    entry, state = content[CHECKPOINT_KEY], content["state_dict"]
    averaged = evaluated_of(entry) == "averaged"
    prefix = EMA_PREFIX if averaged else RAW_PREFIX
    tensors = {str(key).removeprefix(prefix): value for key, value in state.items() if str(key).startswith(prefix)}
    potential = restore(entry.get("potential"), tensors, str(path), families, device)
    weights = averaging_of(entry) if averaged else "raw"
    told = {key: entry[key] for key in _OF_THE_RUN if key in entry}
    card = {
        "config": potential.config,
        "type_names": potential.type_names,
        "cutoff": potential.cutoff,
        "weights": weights,
        "epoch": content.get("epoch"),
        "global_step": content.get("global_step"),
        "metrics": dict(entry.get("metrics") or {}),
        "provenance": {
            **told,
            "epoch": content.get("epoch"),
            "step": content.get("global_step"),
            "weights": weights,
        },
    }
    if entry.get("base"):
        card["base"] = entry["base"]
    return potential, card


IN_RUN_FOLDER = ("model.safetensors", "checkpoints/best.ckpt", "checkpoints/last.ckpt")
_GIVE = "give a model file, a checkpoint or a run folder"
_NEQUIP_PACKAGE = ".nequip.zip"
_ARTIFACTS = "artifacts"  # of a run of the runner
# What a file fills in itself, and where it stands.
_FILLED_IN = (
    *("format", "format_version", "config", "type_names", "cutoff", "checksum", "uncertainty", "units", "path"),
    *("versions", "created"),
)
_OF_A_CHECKPOINT = ("weights", "epoch", "global_step")  # which its provenance has, too
_OF_THE_RUN = ("config", "overrides", "versions", "train_set", "finetune", "pretrain")
_ZIP = b"PK\x03\x04"  # how the files of torch.save begin


def find_model(path: str | Path) -> Path:
    """The file that holds the model: the path itself, or the first of :data:`IN_RUN_FOLDER` in a run folder.

    Of artifacts (their folder, or their ``manifest.json``) it is the file that the manifest names, whose SHA-256 is
    compared.

    Raises:
        ModelFileError: If there is none, or the files of artifacts are not those that they were.

    Example:
        The exported model is preferred to the best checkpoint:

        >>> Path("run/checkpoints").mkdir(parents=True)
        >>> for name in ("checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        ...     Path("run", name).touch()
        >>> find_model("run").as_posix()
        'run/checkpoints/best.ckpt'
        >>> Path("run/model.safetensors").touch()
        >>> find_model("run").as_posix()
        'run/model.safetensors'
    """
    if not isinstance(path, str | Path):
        raise ModelFileError(f"a {type(path).__name__} is no path of a model", _GIVE)
    path = path_of(path)
    if find_manifest(path) is not None:
        return read_manifest(path).weights
    if path.is_file():
        return path
    if not path.is_dir():
        raise ModelFileError(f"no such file or folder: {path.absolute()}", _GIVE)
    for name in IN_RUN_FOLDER:
        if (path / name).is_file():
            return path / name
        folder, _, last = name.rpartition("/")
        candidates = list((path / folder).glob(f"[!.]*_{last}")) if folder else []  # of a run with a run_name
        if candidates:
            return max(candidates, key=lambda file: file.stat().st_mtime_ns)
    if find_manifest(path / _ARTIFACTS) is not None:
        return read_manifest(path / _ARTIFACTS).weights
    raise ModelFileError(
        f"the folder {path.absolute()} has no model",
        f"a run folder has one of {', '.join(IN_RUN_FOLDER)}; a folder of artifacts has {MANIFEST}",
    )


def load(path: str | Path, device: str | torch.device = "cpu", families: Families | None = None) -> Potential:
    """Load a potential from a model file, a checkpoint, a run folder or artifacts.

    Args:
        path: As for :func:`load_any`.
        device: Where to put it; ``auto`` takes a GPU if there is one.
        families: As for :func:`load_any`.

    Returns:
        The potential, in evaluation mode.

    Raises:
        ModelFileError: If there is no such file, or it cannot be read.
        ConfigError: If there is no such device, or ``families`` is no mapping or has a name that is built in.
    """
    return load_any(path, device, families)[0]


def load_any(
    path: str | Path, device: str | torch.device = "cpu", families: Families | None = None
) -> tuple[Potential, dict[str, Any]]:
    """Load a potential from a model file, a checkpoint, a run folder or artifacts.

    Args:
        path: The file or folder. In a folder, the exported model is preferred to the best checkpoint, and that to the
            last. Of a checkpoint with EMA the averaged weights are taken. Of artifacts (their folder, or their
            ``manifest.json``) all files are compared with the SHA-256 that the manifest has of them.
        device: Where to put it; ``auto`` takes a GPU if there is one.
        families: As for :func:`~nequip_like.inference.model_file.read_model`.

    Returns:
        The potential, in evaluation mode, and its card: what the file tells about it, and ``path``, the file read.

    Raises:
        ModelFileError: If there is no such file, or it cannot be read.
        ConfigError: If there is no such device, or ``families`` is no mapping or has a name that is built in.
    """
    file = find_model(path)
    if file.name.endswith(_NEQUIP_PACKAGE):
        raise ModelFileError(
            f"{file} is a package of NequIP's", f"convert it: nequip-model convert {file} --output model.safetensors"
        )
    if file.suffix == ".ckpt" or _has_prefix(file, _ZIP):
        potential, card = load_checkpoint(file, families, device)
    else:
        card = model_file.read_card(file)
        potential = model_file.read_model(file, device, families)
    return potential, {**card, "path": str(file)}


def carry_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a new file of a model should tell of what the one before told: all but what the new one fills in itself.

    Args:
        card: As :func:`load_any` gives it.

    Example:
        >>> carry_card({"provenance": {"epoch": 3}, "licence": "MIT", "epoch": 3, "cutoff": 5.0, "path": "best.ckpt"})
        {'provenance': {'epoch': 3}, 'licence': 'MIT'}
    """
    return {key: value for key, value in card.items() if key not in (*_FILLED_IN, *_OF_A_CHECKPOINT)}


def name_base(card: Mapping[str, Any]) -> str:
    """To what the predictions of a model are differences (delta learning), in words; empty if they are whole energies.

    Example:
        >>> name_base({"base": {"kind": "calculator", "base": "gfn2", "id": "gfn2 1f2e"}})
        'the calculator gfn2'
        >>> name_base({"base": {"kind": "labels", "base": {"dft_energy": "total_energy"}}})
        'the labels dft_energy'
    """
    base = card.get("base")
    if not isinstance(base, Mapping):
        return ""
    names = base.get("base")
    return f"the {base.get('kind')} {', '.join(names) if isinstance(names, Mapping) else names}"


def _has_prefix(path: Path, prefix: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(prefix)) == prefix
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}", "check its permissions") from error
