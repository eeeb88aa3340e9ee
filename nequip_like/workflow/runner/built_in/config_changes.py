"""What a run changes of the package's config, and what all configs of Lightning's trainer have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nequip_like.errors import ConfigError


@dataclass
class ConfigChanges:
    """What a run changes of the package's config.

    Attributes:
        choices: Overrides that choose groups of configs.
        values: Values by their keys.
        notes: What the user should know: keys without effect here.
    """

    choices: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_override_key(argument: str) -> str:
    """The key that an entry of ``backend_args`` changes.

    Raises:
        ConfigError: If it is no override.

    Example:
        >>> read_override_key("+trainer.benchmark=true")
        'trainer.benchmark'
    """
    key, sign, _ = argument.lstrip("+~").partition("=")
    if argument.startswith("-") or not (sign or argument.startswith("~")):
        raise ConfigError(f"backend_args has '{argument}'", "give overrides, as nequip-train takes them: KEY=VALUE")
    return key


def describe_device(device: str) -> dict[str, Any]:
    """The device of a run as arguments of Lightning's trainer.

    There is one process for each run: another one would begin the whole queue again.

    Example:
        >>> describe_device("cuda:1")
        {'accelerator': 'gpu', 'devices': [1]}
    """
    name, _, number = device.partition(":")
    return {"accelerator": "gpu" if name == "cuda" else name, "devices": [int(number)] if number else 1}
