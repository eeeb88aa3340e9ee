"""Values of a config that may be anything: each in the type that is needed, or an error that names its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nequip_like.errors import ConfigError


def mapping_of(where: str, value: Any) -> dict[str, Any]:
    """A mapping; nothing is an empty one.

    Raises:
        ConfigError: If it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {value!r}", "give a mapping: {name: value}")
    return dict(value)


def list_of(where: str, value: Any) -> list[Any]:
    """A list; nothing is an empty one.

    Raises:
        ConfigError: If it is something else.
    """
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{where} is {value!r}", "give a list: [first, second]")
    return list(value)


def names_of(where: str, value: Any) -> list[str]:
    """A list of names; nothing is an empty one.

    Raises:
        ConfigError: If it is something else.
    """
    names = list_of(where, value)
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"{where} is {value!r}", "give a list of names, such as [H, C, O]; write a name like NO as 'NO'"
        )
    return names


def whole_number(where: str, value: Any, smallest: int = 0) -> int:
    """A whole number.

    Raises:
        ConfigError: If it is something else, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
        raise ConfigError(f"{where} is {value!r}", f"give a whole number from {smallest} up")
    return value


def radius(where: str, value: Any) -> float:
    """A length above zero.

    Raises:
        ConfigError: If it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigError(f"{where} is {value!r}", "give a length above 0, in Angstrom")
    return float(value)


def check_same_types(where: str, given: Any, type_names: Sequence[str]) -> None:
    """Refuse another list of types than the model's; nothing stands for the model's.

    Raises:
        ConfigError: If they differ.
    """
    names = names_of(f"the list of types of {where}", given)
    if names and names != list(type_names):
        raise ConfigError(
            f"{where} has the types {', '.join(names)}, the model {', '.join(type_names)}",
            "give both the same list, for example by ${model_type_names}",
        )
