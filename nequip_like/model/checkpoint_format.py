"""Checkpoints: what training writes into them, and the one way in which they are written and read.

A checkpoint is what Lightning writes, with one more entry, :data:`CHECKPOINT_KEY`:

- ``format_version``;
- ``potential``: what builds the model, ``{"family": name, "arguments": {...}}``; ``uses_ema``: whether there are
  averaged weights; ``averaging``: their kind (ema, swa, None); ``evaluated``: which are exported (raw, averaged);
- ``config``, ``versions``, ``overrides``: where it comes from;
- ``metrics``: of the last validation; ``logged``: the last value of everything that was logged;
- ``validated``: whether the epoch had a validation; ``plateau``: the last epoch or step after which the schedule that
  follows a metric was stepped; ``plateau_waiting``: whether a value was logged since then, which older files do not
  tell; ``skipped_steps``: how many steps were left out because something was not finite; ``divergence``: how often
  the run went back to earlier weights, what its learning rate is multiplied by since, the recent range of its losses,
  and the last good weights unless they are those of the file; older files have none;
- ``base``: of a delta learning, to what labels were made differences;
- ``train_set``: a fingerprint of the training data; ``finetune``: what a fine-tuning began with;
- ``processes``: of each process, ``epoch_sums``, the sums and counts of the epoch's loss and metrics so far;
  ``gradients``, those of an accumulation that is not complete; ``random``, states of the random number generators. With
  them a resumed run is the run that was never stopped.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import nequip_like
from nequip_like.errors import ModelFileError
from nequip_like.model.tensor_pickling import tensor_pickle
from nequip_like.whole_files import path_of, written_whole

CHECKPOINT_KEY = "nequip_like"
CHECKPOINT_VERSION = 2


def write_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """Write a checkpoint whole or not at all: until it is on the disk, an older one of this name stays.

    Args:
        content: Tensors and plain values.
        path: Where the file shall be.

    Raises:
        OutputError: If it cannot be written.
    """
    # By way of memory: torch's own writer turns a full disk into an error that does not tell.
    buffer = io.BytesIO()
    torch.save(content, buffer, pickle_module=tensor_pickle)
    with written_whole(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Content of a checkpoint on the CPU, brought to the present format version.

    Only tensors and plain values are read (``weights_only=True``); a file with code in it is refused.

    Args:
        path: A ``.ckpt`` file that training wrote.

    Raises:
        ModelFileError: If the file is missing, damaged, holds code, was not written by this package, or is of a newer
            version.
    """
    path = path_of(path)
    if not path.is_file():
        raise ModelFileError(f"there is no checkpoint {path.absolute()}", "give a file ending in .ckpt")
    content = _load_content(path)
    upgrade(content, path)
    return dict(content)


def upgrade(content: Any, origin: Path | str = "the checkpoint") -> None:
    """Bring what was read from a checkpoint to the present format version, in place.

    Raises:
        ModelFileError: If it was not written by this package, or is of a newer version.
    """
    entry = content.get(CHECKPOINT_KEY) if isinstance(content, dict) else None
    if not isinstance(entry, dict) or not isinstance(content.get("state_dict"), Mapping):
        raise ModelFileError(
            f"{origin} is not a checkpoint of nequip_like",
            "give a .ckpt file of a training run; one of NequIP's is converted by nequip-model convert",
        )
    check_version(entry.get("format_version"), CHECKPOINT_VERSION, origin)
    for version in range(entry["format_version"], CHECKPOINT_VERSION):
        _UPGRADES[version](entry)
    # In place, because Lightning hands one dictionary to all hooks: the next one has to meet the new form as well.
    entry["format_version"] = CHECKPOINT_VERSION
    # Callbacks of earlier versions; the LossWeightSchedule in their place has no state.
    states = content.get("callbacks") or {}
    for key in [key for key in states if str(key).startswith("LinearLossCoefficientScheduler")]:
        del states[key]


def averaging_of(entry: Mapping[str, Any]) -> str | None:
    """The kind of average of the weights that a checkpoint holds, ``ema`` or ``swa``, or None.

    Args:
        entry: The entry of this package.
    """
    # Older files tell only whether there is an average; EMA was the only kind.
    kind = entry.get("averaging", "ema" if entry.get("uses_ema") else None)
    return None if kind is None else str(kind)


def evaluated_of(entry: Mapping[str, Any]) -> str:
    """Which weights of a checkpoint were evaluated and are to be used: ``raw`` or ``averaged``.

    Args:
        entry: The entry of this package.
    """
    # Older files do not tell, because whoever had an average could evaluate nothing else.
    return str(entry.get("evaluated", "averaged" if entry.get("uses_ema") else "raw"))


def check_version(version: object, newest: int, path: Path | str) -> None:
    """Refuse a file of a format that is newer than this version of the package.

    Raises:
        ModelFileError: If so, or if the file does not tell.
    """
    if not isinstance(version, int) or not 1 <= version <= newest:
        raise ModelFileError(
            f"{path} is of format version {version}; this nequip_like {nequip_like.__version__} reads versions 1 to "
            f"{newest}",
            "install a newer nequip_like",
        )


def _load_content(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about foreign files, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything, from KeyError to UnpicklingError, for a foreign file
        # One type of error for a file with code in it and for a damaged one: torch tells them apart by the text only.
        text = str(error).lower()
        if "unsupported global" in text or "unsupported class" in text:
            raise ModelFileError(
                f"{path} holds more than tensors and plain values, so loading it might run code; it was not read",
                "give a checkpoint that nequip_like wrote, or a model.safetensors",
            ) from error
        raise ModelFileError(
            f"{path} is no checkpoint, or is cut off or damaged: {type(error).__name__}",
            "give a .ckpt file of a training run, or a model.safetensors",
        ) from error


def _upgrade_from_1(entry: dict[str, Any]) -> None:
    """Version 1 held no random states and nothing of the epoch that it was written in."""
    # Without states of its processes a run goes on from the weights and the optimizer: with random numbers of its own,
    # and sums that begin anew in the middle of an epoch.
    entry |= {"logged": entry.get("metrics", {}), "validated": False, "plateau": 0, "skipped_steps": 0, "processes": []}


# From each version to the next.
_UPGRADES: dict[int, Callable[[dict[str, Any]], None]] = {1: _upgrade_from_1}
