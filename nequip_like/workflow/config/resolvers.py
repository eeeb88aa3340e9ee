"""Resolvers: the few functions that a config may call."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from omegaconf import ListConfig, OmegaConf

from nequip_like.data.published import CATALOG, cache_folder, folder_of
from nequip_like.errors import ConfigError


def int_mul(a: Any, b: Any) -> int:
    """Product of two whole numbers from 0 up: ``${int_mul:${trainer.max_epochs},2}``.

    Raises:
        ConfigError: If one is something else.
    """
    return _check_whole_number(a, "int_mul") * _check_whole_number(b, "int_mul")


def int_div(a: Any, b: Any) -> int:
    """Quotient of two whole numbers from 0 up, which must be whole itself.

    Raises:
        ConfigError: If one is something else, or there is a remainder.
    """
    dividend, divisor = _check_whole_number(a, "int_div"), _check_whole_number(b, "int_div")
    if divisor == 0 or dividend % divisor:
        raise ConfigError(f"${{int_div:{dividend},{divisor}}} is no whole number", "change one of the two numbers")
    return dividend // divisor


def concat_lists(head: Any, tail: Any) -> list[Any]:
    """Both lists, one after the other.

    Raises:
        ConfigError: If one is no list.
    """
    return [*_check_list(head, "concat_lists"), *_check_list(tail, "concat_lists")]


def list_to_identity_dict(entries: Any) -> dict[Any, Any]:
    """``[H, C]`` as ``{H: H, C: C}``.

    Raises:
        ConfigError: If it is no list.
    """
    return {entry: entry for entry in _check_list(entries, "list_to_identity_dict")}


def list_to_constant_dict(entries: Any, value: Any) -> dict[Any, Any]:
    """``[H, C]`` and ``1.0`` as ``{H: 1.0, C: 1.0}``.

    Raises:
        ConfigError: If the first is no list.
    """
    return dict.fromkeys(_check_list(entries, "list_to_constant_dict"), value)


def _check_whole_number(value: Any, name: str) -> int:
    if isinstance(value, str) and value.strip().isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"${{{name}:...}} got {value!r}", "it takes whole numbers from 0 up")
    return value


def _check_list(value: Any, name: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple | ListConfig):
        raise ConfigError(f"${{{name}:...}} got {value!r}", "it takes a list, or a reference to one")
    return list(value)


def _make_refusal(name: str, advice: str) -> Callable[..., NoReturn]:
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
    "big_dataset_stats": _make_refusal(
        "big_dataset_stats",
        "use ${training_data_stats:NAME}, which is computed from your training data, or give numbers",
    ),
    "type_names_from_package": _make_refusal("type_names_from_package", "write the species: [H, C, O]"),
    "cutoff_radius_from_package": _make_refusal("cutoff_radius_from_package", "write the radius in Angstrom"),
}


def register_resolvers() -> None:
    """Make the package's resolvers known to OmegaConf; may be called any number of times.

    - ``${tutorial_data:ethanol/train.xyz}``: path of a bundled data file.
    - ``${published_data:3bpa}``: folder of a published data set, downloaded if need be.
    - ``${training_data_stats:NAME}``: see :func:`nequip_like.workflow.setup.register_statistics`.
    - Small functions such as ``${int_mul:2,3}``: see :mod:`nequip_like.workflow.config.resolvers`.

    Statistics of an earlier run in this process are forgotten: a config that is composed next, the next job of a
    multirun, would take values of the earlier data into its mappings.
    """
    for name, function in {**FUNCTIONS, **REFUSED}.items():
        OmegaConf.register_new_resolver(name, function, replace=True)
    OmegaConf.register_new_resolver("tutorial_data", tutorial_data, replace=True)
    OmegaConf.register_new_resolver("published_data", lambda name: str(folder_of(name)), replace=True)
    OmegaConf.register_new_resolver("training_data_stats", _refuse_statistic, replace=True)


def leave_statistics() -> None:
    """Let ``${training_data_stats:NAME}`` stand for itself, for a config that is only printed."""
    OmegaConf.register_new_resolver(
        "training_data_stats", lambda name: f"${{training_data_stats:{name}}}", replace=True
    )


class NotYetKnownError(ConfigError):
    """A value was asked for that only the training data will give.

    Args:
        name: Name of the statistic.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"${{training_data_stats:{name}}} was asked for before the training data was read",
            "use it in the sections model and training_module only",
        )


@contextmanager
def before_data() -> Iterator[None]:
    """Let resolvers neither read nor download anything; statistics raise :class:`NotYetKnownError`."""
    register_resolvers()
    OmegaConf.register_new_resolver("published_data", _find_cached_folder, replace=True)
    try:
        yield
    finally:
        register_resolvers()


def _find_cached_folder(name: str) -> str:
    """Find the folder where a published set is, or will be once it is downloaded."""
    return str(cache_folder() / name if name in CATALOG else folder_of(name))


def tutorial_data(name: str) -> str:
    """Path of a bundled data file, such as ``ethanol/train.xyz``.

    Raises:
        ConfigError: If there is no such file.
    """
    root = importlib.resources.files("nequip_like.tutorial_data")
    path = root.joinpath(*name.split("/"))
    if not path.is_file():
        sets = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("_"))
        raise ConfigError(f"there is no bundled data file '{name}'", f"bundled sets are {', '.join(sets)}")
    return str(path)


def _refuse_statistic(name: str) -> str:
    raise NotYetKnownError(name)
