"""Potentials out of training checkpoints, without the training's config and data.

The weights stand in the ``state_dict``, raw and, with EMA, averaged; see
:mod:`nequip_like.model.checkpoint_format` for the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nequip_like.inference.restore import restore
from nequip_like.model.checkpoint_format import CHECKPOINT_KEY, averaging_of, evaluated_of, read_checkpoint
from nequip_like.model.potential import Potential
from nequip_like.nn.lora import merged_state

RAW_PREFIX = "model."
EMA_PREFIX = "ema.module."


def load_checkpoint(path: str | Path) -> tuple[Potential, dict[str, Any]]:
    """Read the potential of a Lightning checkpoint: the weights that were evaluated in training, averaged or raw.

    Args:
        path: A ``.ckpt`` file that training wrote.

    Returns:
        The potential on the CPU, in evaluation mode, and a card: ``config``, ``type_names``, ``cutoff``, ``weights``
        ("ema", "swa" or "raw"), ``epoch`` and ``global_step``.

    Raises:
        ModelFileError: If the file is missing, damaged, holds code, or was not written by this package.
    """
    content = read_checkpoint(path)
    own, state = content[CHECKPOINT_KEY], content["state_dict"]
    averaged = evaluated_of(own) == "averaged"
    prefix = EMA_PREFIX if averaged else RAW_PREFIX
    tensors = {str(key).removeprefix(prefix): value for key, value in state.items() if str(key).startswith(prefix)}
    potential = restore(own.get("potential"), merged_state(tensors, str(path)), str(path))
    card = {
        "config": potential.config,
        "type_names": potential.type_names,
        "cutoff": potential.cutoff,
        "weights": averaging_of(own) if averaged else "raw",
        "epoch": content.get("epoch"),
        "global_step": content.get("global_step"),
    }
    return potential, card
