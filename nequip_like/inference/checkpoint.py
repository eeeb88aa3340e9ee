"""Potentials out of training checkpoints, without the training's config and data.

The Lightning modules of this package put ``{"format_version": 1, "potential": config, "uses_ema": bool}`` under
:data:`CHECKPOINT_KEY`; the weights stand in the ``state_dict``, raw and, with EMA, averaged.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nequip_like.errors import ModelFileError
from nequip_like.inference.restore import check_version, restore
from nequip_like.model.checkpoint_format import CHECKPOINT_KEY, CHECKPOINT_VERSION
from nequip_like.model.potential import Potential

RAW_PREFIX = "model."
EMA_PREFIX = "ema.module."


def load_checkpoint(path: str | Path) -> tuple[Potential, dict[str, Any]]:
    """Read the potential of a Lightning checkpoint: the EMA weights if there are any, else the raw ones.

    Only tensors and plain values are read (``weights_only=True``); a file with code in it is refused.

    Args:
        path: A ``.ckpt`` file that training wrote.

    Returns:
        The potential on the CPU, in evaluation mode, and a card: ``config``, ``type_names``, ``cutoff``, ``weights``
        ("ema" or "raw"), ``epoch`` and ``global_step``.

    Raises:
        ModelFileError: If the file is missing, damaged, holds code, or was not written by this package.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"no such file: {path.absolute()}", "give a checkpoint of a training run")
    content = read_checkpoint(path)
    own = content.get(CHECKPOINT_KEY) if isinstance(content, Mapping) else None
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(own, Mapping) or not isinstance(state, Mapping):
        raise ModelFileError(f"{path} is not a checkpoint of nequip_like", "give a .ckpt file of a training run")
    check_version(own.get("format_version"), CHECKPOINT_VERSION, path)
    uses_ema = bool(own.get("uses_ema"))
    prefix = EMA_PREFIX if uses_ema else RAW_PREFIX
    tensors = {str(key).removeprefix(prefix): value for key, value in state.items() if str(key).startswith(prefix)}
    potential = restore(own.get("potential"), tensors, str(path))
    card = {
        "config": potential.config,
        "type_names": potential.type_names,
        "cutoff": potential.cutoff,
        "weights": "ema" if uses_ema else "raw",
        "epoch": content.get("epoch"),
        "global_step": content.get("global_step"),
    }
    return potential, card


def read_checkpoint(path: Path) -> Any:
    """Content of a checkpoint file, on the CPU: tensors and plain values only.

    Raises:
        ModelFileError: If the file holds anything else, or is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about foreign files, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything, from KeyError to UnpicklingError, for a foreign file
        text = str(error)
        if "Unsupported global" in text or "Unsupported class" in text:
            raise ModelFileError(
                f"{path} holds more than tensors and plain values, so loading it might run code; it was not read",
                "give a checkpoint that nequip_like wrote, or a model.safetensors",
            ) from error
        raise ModelFileError(
            f"{path} is no checkpoint, or is cut off or damaged: {type(error).__name__}",
            "give a .ckpt file of a training run, or a model.safetensors",
        ) from error
