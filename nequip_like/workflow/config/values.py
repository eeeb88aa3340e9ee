"""The values of a config: the functions that interpolations may call, and what only the data will tell."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nequip_like.arguments import NOT_KNOWN_YET
from nequip_like.data.published import CATALOG, cache_folder, folder_of
from nequip_like.errors import ConfigError, NequipLikeError, closest_hint, first_line

# --- functions


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
    - Small functions such as ``${int_mul:2,3}``: see :mod:`nequip_like.workflow.config.values`.

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


# --- values before the data

_RESOLVERS = ("tutorial_data", "published_data", "training_data_stats", "oc.env", "oc.select", "hydra", *FUNCTIONS)
_SPECIES = "chemical_species"
# What the run needs before, or for, reading the data.
_BEFORE_DATA = ("data", "run", "output_dir", "budget", "ckpt_path", "resume", "finetune", "trusted_packages")


def values_before_data(config: DictConfig) -> dict[str, Any]:
    """All values of a config, with its interpolations resolved, without reading or downloading anything.

    What comes from the training data (``${training_data_stats:...}``, and species if they are ``auto``) is
    :data:`~nequip_like.arguments.NOT_KNOWN_YET`.

    Raises:
        ConfigError: If a value is missing, or an interpolation leads nowhere; the message names the key.
    """
    config = config.copy()
    if not OmegaConf.is_interpolation(config, "chemical_species") and config.get("chemical_species") == "auto":
        config.chemical_species = f"${{training_data_stats:{_SPECIES}}}"
    try:
        with before_data():
            values: dict[str, Any] = _resolve_node(config, config, "")
    except RecursionError:
        raise ConfigError(
            "a value of the config contains itself", "look for an interpolation that names its own section"
        ) from None
    return values


def _resolve_node(root: DictConfig, node: Any, full_key: str) -> Any:
    if isinstance(node, DictConfig):
        return {key: _resolve_value(root, node, key, f"{full_key}.{key!s}" if full_key else str(key)) for key in node}
    entries = range(len(node)) if isinstance(node, ListConfig) else ()
    return [_resolve_value(root, node, i, f"{full_key}[{i}]") for i in entries]


def _resolve_value(root: DictConfig, node: Container, key: Any, full_key: str) -> Any:
    if OmegaConf.is_missing(node, key):
        advice = f"write it in the config in place of ???, or behind the command: {full_key}=VALUE"
        raise ConfigError(f"{full_key} is not given", advice)
    try:
        value = node[key]
    except OmegaConfBaseException as error:
        package_error = own_error(error)
        early = re.split(r"[.\[]", full_key)[0] in _BEFORE_DATA
        if isinstance(package_error, NotYetKnownError) and (package_error.name == _SPECIES or not early):
            return NOT_KNOWN_YET
        if package_error is not None:
            raise ConfigError(f"{full_key}: {package_error.message}", package_error.advice) from None
        raise _describe_unresolved(root, full_key, error) from error
    return _resolve_node(root, value, full_key) if isinstance(value, Container) else value


def _describe_unresolved(root: DictConfig, full_key: str, error: OmegaConfBaseException) -> ConfigError:
    message = first_line(error)
    if match := re.search(r"Interpolation key '(.+)' not found", message):
        return ConfigError(
            f"{full_key} refers to '{match[1]}', which is not in the config", _find_closest_key(root, match[1])
        )
    if match := re.search(r"Unsupported interpolation type (\S+)", message):
        hint = closest_hint(match[1], _RESOLVERS)
        return ConfigError(
            f"{full_key} asks for ${{{match[1]}:...}}, which does not exist",
            hint.strip() or f"there are {', '.join(_RESOLVERS)}",
        )
    if "Recursive interpolation" in message or "Interpolation to parent node" in message:
        return ConfigError(f"{full_key} refers to itself", "name another key")
    return ConfigError(f"{full_key}: {message}", "see what stands between ${ and }")


def _find_closest_key(root: DictConfig, key: str) -> str:
    """Find the key nearest to a dotted one that does not exist, and write the advice."""
    parent, _, name = key.strip(".").rpartition(".")
    node = OmegaConf.select(root, parent, throw_on_resolution_failure=False) if parent else root
    siblings = [str(entry) for entry in node] if isinstance(node, DictConfig) else []
    hint = closest_hint(name, siblings)
    return f"{hint}add the key, or name another" if hint else "add the key, or name another"


def own_error(error: BaseException) -> NequipLikeError | None:
    """The error of a resolver of ours, which OmegaConf wraps in one of its own."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, NequipLikeError):
        inner = inner.__cause__ or inner.__context__
    return inner


def is_known(value: Any) -> bool:
    """Whether nothing of a value is left to the data."""
    if isinstance(value, Mapping):
        return all(is_known(entry) for entry in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(is_known(entry) for entry in value)
    return value is not NOT_KNOWN_YET


def require_known(section_key: str, section: Mapping[str, Any]) -> None:
    """Refuse a section that is needed before the data are read, and leaves something to them.

    Args:
        section_key: Its key.
        section: Its values.

    Raises:
        ConfigError: Naming the key.

    Example:
        >>> require_known("report", {"format": NOT_KNOWN_YET})
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: report.format is known only when the data are read, which is too late for it
          -> write the value itself
    """
    for key, value in section.items():
        if not is_known(value):
            raise ConfigError(
                f"{section_key}.{key} is known only when the data are read, which is too late for it",
                "write the value itself",
            )
