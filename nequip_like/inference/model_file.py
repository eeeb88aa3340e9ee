"""The model file: one ``.safetensors`` file with the weights, and a JSON card in its header.

It loads with no training data and no config. It holds data, never code: nothing is unpickled, and nothing that the
file names is imported.

The card stands under one key of the header's metadata, :data:`CARD_KEY`:

- ``format``, ``format_version``: what the file is;
- ``config``: what builds the model, ``{"family": name, "arguments": {...}}``;
- ``type_names``, ``cutoff`` (Angstrom), ``units``: what it takes and gives;
- ``checksum``: SHA-256 of the weights;
- ``uncertainty``: how that of the energies was calibrated, where the file has one; of a committee, what the spreads
  of its members are multiplied by;
- ``versions``, ``created``: what wrote it, and when (UTC);
- whatever else the writer gave: ``metrics``, ``licence``, ``provenance``, ...
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

import nequip_like
from nequip_like.errors import ModelFileError
from nequip_like.inference.device import resolve_device
from nequip_like.inference.restore import restore
from nequip_like.model.checkpoint_format import check_version
from nequip_like.model.committee import CommitteePotential, SpreadCalibration
from nequip_like.model.families import Families
from nequip_like.model.last_layer import Calibration, LastLayerUncertainty
from nequip_like.model.potential import Potential
from nequip_like.nn.lora import merged_state
from nequip_like.whole_files import path_of, written_whole

CARD_KEY = "nequip_like"
FORMAT = "nequip_like/potential"
FORMAT_VERSION = 2
_WITHOUT_UNCERTAINTY = 1  # of files that earlier versions read, too
_UNCERTAINTY_ROOT = "uncertainty.root"  # beside the names of the weights, of which none begins so
_FIXED = ("format", "format_version", "config", "type_names", "cutoff", "checksum", "uncertainty")


def save(potential: Potential, path: str | Path, card: Mapping[str, Any] | None = None) -> None:
    """Write a potential to one file, whole or not at all.

    Args:
        potential: The potential; its weights are written as they are.
        path: The file, usually ``model.safetensors``. Its folder is made if it is not there.
        card: What else to tell: ``metrics``, ``licence``, ``provenance``, ...; JSON values only. Numbers that are not
            finite become null. ``units``, ``versions`` and ``created`` replace the default entries.

    Raises:
        ModelFileError: If the card holds something else than JSON or an entry that the file itself fills in.
        OutputError: If the file cannot be written.

    Example:
        What is loaded predicts what was saved, without a config and without data:

        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"r_max": 3.0, "num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> save(NequIPGNNModel(type_names=["H", "O"], **tiny), "model.safetensors", {"licence": "CC-BY-4.0"})
        >>> read_model("model.safetensors").type_names, read_card("model.safetensors")["licence"]
        (['H', 'O'], 'CC-BY-4.0')
    """
    path = path_of(path)
    state = merged_state(potential.state_dict())
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    if reserved := [key for key in _FIXED if key in (card or {})]:
        raise ModelFileError(f"the card of {path} has the entry '{reserved[0]}'", "leave it out, the file fills it in")
    if potential.uncertainty is not None:
        tensors[_UNCERTAINTY_ROOT] = potential.uncertainty.root.cpu().contiguous().clone()
    described = potential.describe_uncertainty()
    content = {
        "format": FORMAT,
        "format_version": _WITHOUT_UNCERTAINTY if described is None else FORMAT_VERSION,
        "config": potential.config,
        "type_names": potential.type_names,
        "cutoff": potential.cutoff,
        "checksum": hash_weights(tensors),
        **({} if described is None else {"uncertainty": described}),
        "units": potential.units,
        "versions": {"nequip_like": nequip_like.__version__, "torch": str(torch.__version__)},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **(card or {}),
    }
    header = {CARD_KEY: json.dumps(_convert_to_json_values(content, "card", path), allow_nan=False), "format": "pt"}
    with written_whole(path) as partial:
        # Not save_file, which maps the file to memory: on a full disk that ends the process.
        partial.write_bytes(safetensors.torch.save(tensors, metadata=header))


def read_model(path: str | Path, device: str | torch.device = "cpu", families: Families | None = None) -> Potential:
    """Read a potential from a model file.

    Args:
        path: A file that :func:`save` wrote.
        device: Where to put it; ``auto`` takes a GPU if there is one.
        families: Builders of model families by name, ``{"pair": PairModel}``, where the model is of a family that is
            neither built in nor of an installed package.

    Returns:
        The potential, in evaluation mode; its parameters do not require gradients.

    Raises:
        ModelFileError: If the file is missing, is no model file, is damaged, or is of a newer format.
        ConfigError: If there is no such device, or ``families`` is no mapping or has a name that is built in.
    """
    path = path_of(path)
    card = read_card(path)
    with _reading(path), safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    checksum = hash_weights(tensors)
    root = tensors.pop(_UNCERTAINTY_ROOT, None)
    potential = restore(card.get("config"), tensors, str(path), families, device)
    if card.get("type_names") != potential.type_names or card.get("cutoff") != potential.cutoff:
        raise ModelFileError(f"{path}: species or cutoff of its card are not those of its model", "export it again")
    # A copy that broke off may have the right length, and zeros in place of weights. Early files have no checksum.
    if card.get("checksum", checksum) != checksum:
        raise ModelFileError(f"{path}: its weights are not those that were written, it is damaged", "copy it again")
    if root is not None:
        potential.uncertainty = _restore_uncertainty(root, card.get("uncertainty"), path).to(resolve_device(device))
    if isinstance(potential, CommitteePotential) and card.get("uncertainty") is not None:
        potential.calibration = _restore_calibration(card["uncertainty"], path)
    return potential


def _restore_calibration(description: Any, path: Path) -> SpreadCalibration:
    try:
        calibration = SpreadCalibration(**description)
        finite = all(math.isfinite(scale) and scale > 0 for scale in calibration.scales.values())
    except (TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} does not describe its calibration: {error}", "save it again") from error
    if not finite:
        raise ModelFileError(f"{path}: it is calibrated by {dict(calibration.scales)}", "save it again")
    return calibration


def _restore_uncertainty(root: Tensor, description: Any, path: Path) -> LastLayerUncertainty:
    try:
        calibration = Calibration(**description)
    except TypeError as error:
        raise ModelFileError(f"{path} does not describe its uncertainty: {error}", "export it again") from error
    if root.ndim != 2 or root.dtype != torch.float64:
        raise ModelFileError(f"{path}: its uncertainty is {tuple(root.shape)} {root.dtype}", "export it again")
    return LastLayerUncertainty(root, calibration)


def hash_weights(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors on the CPU: names, types, shapes and values.

    Example:
        >>> hash_weights({"a": torch.zeros(2)})[:8], hash_weights({"a": torch.tensor([0.0, 1e-30])})[:8]
        ('da53f451', '5a5bb3e6')
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_card(path: str | Path) -> dict[str, Any]:
    """Read the card of a model file; the weights are not read.

    Raises:
        ModelFileError: If the file is missing, is no model file, is damaged, or is of a newer format.
    """
    path = path_of(path)
    if not path.is_file():
        raise ModelFileError(f"no such file: {path.absolute()}", "give a model.safetensors that nequip_like wrote")
    with _reading(path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    try:
        card = json.loads(metadata.get(CARD_KEY, "null"))
    except (ValueError, RecursionError):
        card = None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelFileError(
            f"{path} is a safetensors file, but not a model file of nequip_like",
            "give a model.safetensors that nequip_like wrote",
        )
    check_version(card.get("format_version"), FORMAT_VERSION, path)
    return card


class _reading:  # noqa: N801 (reads as a statement)
    """Turns what the library raises while reading a file into one kind of error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, SafetensorError | OSError | ValueError):
            raise ModelFileError(
                f"{self.path} is no safetensors file, or is cut off or damaged: {' '.join(str(error).split())}",
                "copy or export it again; checkpoints (.ckpt) and run folders can be given too",
            ) from error


def _convert_to_json_values(value: Any, key: str, path: Path) -> Any:
    """Turn a value into what JSON has: dicts, lists, and null for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(name): _convert_to_json_values(entry, f"{key}.{name}", path) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_convert_to_json_values(entry, f"{key}[{i}]", path) for i, entry in enumerate(value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    raise ModelFileError(
        f"{key} of {path} is a {type(value).__name__}, which a file's header cannot hold",
        "give numbers, strings, lists and mappings",
    )
