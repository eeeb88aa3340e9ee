"""What the user has settled by overrides, which is then not chosen."""

from __future__ import annotations

from collections.abc import Sequence

from nequip_like.composition.hydra_compose import extract_key
from nequip_like.errors import ConfigError

OF_RATE = frozenset(
    ("optimizer", "training_module", "training_module.optimizer", "training_module.optimizer.lr")
)  # with one of these no rate is tried
# Keys that this command sets itself, and how it is told.
_OWN = {
    "budget": "give the time by --minutes",
    "output_dir": "give the folder by --output",
    "hydra.run.dir": "give the folder by --output",
    "data.train": "give the files as arguments: nequip-auto train.xyz",
    "run": "it trains and tests; for single tasks take nequip-train",
    "resume": "go on with the config of its folder: nequip-train FOLDER/config.yaml resume=auto",
    "ckpt_path": "go on with nequip-train",
}


def read_pinned(overrides: Sequence[str]) -> set[str]:
    """Keys that overrides set, and what the groups among them hold.

    Raises:
        ConfigError: If one is the command's own.

    Example:
        >>> sorted(read_pinned(["optimizer=soap", "+data.train_size=100"]))
        ['data.train_size', 'optimizer', 'training_module.optimizer']
        >>> read_pinned(["budget=2min"])
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: budget is not for nequip-auto to be told
          -> give the time by --minutes
    """
    keys = {extract_key(override) for override in overrides}
    if own := [key for key in keys if key in _OWN]:
        raise ConfigError(f"{own[0]} is not for nequip-auto to be told", _OWN[own[0]])
    return keys | {f"training_module.{key}" for key in keys & {"optimizer", "lr_scheduler"}}
