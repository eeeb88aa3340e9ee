"""Values of a config that may be anything: each in the type that is needed, or an error that names its key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nequip_like.errors import ConfigError, closest_hint


def parse_mapping(key: str, value: Any) -> dict[str, Any]:
    """A mapping; nothing is an empty one.

    Raises:
        ConfigError: If it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} is {value!r}", "give a mapping: {name: value}")
    return dict(value)


def parse_list(key: str, value: Any) -> list[Any]:
    """A list; nothing is an empty one.

    Raises:
        ConfigError: If it is something else.
    """
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{key} is {value!r}", "give a list: [first, second]")
    return list(value)


def parse_names(key: str, value: Any) -> list[str]:
    """A list of names; nothing is an empty one.

    Raises:
        ConfigError: If it is something else.
    """
    names = parse_list(key, value)
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"{key} is {value!r}", "give a list of names, such as [H, C, O]; write a name like NO as 'NO'"
        )
    return names


def parse_whole_number(key: str, value: Any, smallest: int = 0) -> int:
    """A whole number.

    Raises:
        ConfigError: If it is something else, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
        raise ConfigError(f"{key} is {value!r}", f"give a whole number from {smallest} up")
    return value


def parse_length(key: str, value: Any) -> float:
    """A length above zero.

    Raises:
        ConfigError: If it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigError(f"{key} is {value!r}", "give a length above 0, in Angstrom")
    return float(value)


def check_keys(owner: str, keys: Iterable[str], options: Sequence[str], kind: str = "key") -> None:
    """Refuse a key that nothing reads.

    Args:
        owner: What has the keys, for messages.
        keys: The keys.
        options: Those that are read; `_target_` may be among them.
        kind: What they are called, for messages.

    Raises:
        ConfigError: If there is such a key.
    """
    for key in keys:
        if key not in options:
            listing = ", ".join(option for option in options if option != "_target_")
            raise ConfigError(
                f"{owner} has the unknown {kind} '{key}'", f"{closest_hint(key, options)}known are {listing}"
            )


def check_same_types(owner: str, types: Any, type_names: Sequence[str]) -> None:
    """Refuse another list of types than the model's; nothing stands for the model's.

    Raises:
        ConfigError: If they differ.
    """
    names = parse_names(f"the list of types of {owner}", types)
    if names and names != list(type_names):
        raise ConfigError(
            f"{owner} has the types {', '.join(names)}, the model {', '.join(type_names)}",
            "give both the same list, for example by ${model_type_names}",
        )
