"""Small functions that a config may call, under the names that NequIP's configs use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from omegaconf import ListConfig

from nequip_like.errors import ConfigError


def int_mul(a: Any, b: Any) -> int:
    """Product of two whole numbers from 0 up: ``${int_mul:${trainer.max_epochs},2}``.

    Raises:
        ConfigError: If one is something else.
    """
    return _whole(a, "int_mul") * _whole(b, "int_mul")


def int_div(a: Any, b: Any) -> int:
    """Quotient of two whole numbers from 0 up, which must be whole itself.

    Raises:
        ConfigError: If one is something else, or there is a remainder.
    """
    dividend, divisor = _whole(a, "int_div"), _whole(b, "int_div")
    if divisor == 0 or dividend % divisor:
        raise ConfigError(f"${{int_div:{dividend},{divisor}}} is no whole number", "change one of the two numbers")
    return dividend // divisor


def concat_lists(first: Any, second: Any) -> list[Any]:
    """Both lists, one after the other.

    Raises:
        ConfigError: If one is no list.
    """
    return [*_listed(first, "concat_lists"), *_listed(second, "concat_lists")]


def list_to_identity_dict(entries: Any) -> dict[Any, Any]:
    """``[H, C]`` as ``{H: H, C: C}``.

    Raises:
        ConfigError: If it is no list.
    """
    return {entry: entry for entry in _listed(entries, "list_to_identity_dict")}


def list_to_constant_dict(entries: Any, value: Any) -> dict[Any, Any]:
    """``[H, C]`` and ``1.0`` as ``{H: 1.0, C: 1.0}``.

    Raises:
        ConfigError: If the first is no list.
    """
    return dict.fromkeys(_listed(entries, "list_to_constant_dict"), value)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, str) and value.strip().isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"${{{name}:...}} got {value!r}", "it takes whole numbers from 0 up")
    return value


def _listed(value: Any, name: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple | ListConfig):
        raise ConfigError(f"${{{name}:...}} got {value!r}", "it takes a list, or a reference to one")
    return list(value)


def _refused(name: str, advice: str) -> Callable[..., NoReturn]:
    def refuse(*arguments: Any) -> NoReturn:
        raise ConfigError(f"${{{name}:{','.join(map(str, arguments))}}} cannot be had here", advice)

    return refuse


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int_mul": int_mul,
    "int_div": int_div,
    "concat_lists": concat_lists,
    "list_to_identity_dict": list_to_identity_dict,
    "list_to_constant_dict": list_to_constant_dict,
}
# Functions of NequIP's that read files which are not here.
REFUSED: dict[str, Callable[..., NoReturn]] = {
    "big_dataset_stats": _refused(
        "big_dataset_stats",
        "use ${training_data_stats:NAME}, which is computed from your training data, or give numbers",
    ),
    "type_names_from_package": _refused("type_names_from_package", "write the species: [H, C, O]"),
    "cutoff_radius_from_package": _refused("cutoff_radius_from_package", "write the radius in Angstrom"),
}
