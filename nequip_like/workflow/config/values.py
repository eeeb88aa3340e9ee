"""The values of a config before the data are read: what only the data will tell is left open."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nequip_like.arguments import NOT_KNOWN_YET
from nequip_like.errors import ConfigError, NequipLikeError, closest_hint, first_line
from nequip_like.workflow.config.resolvers import FUNCTIONS, NotYetKnownError, before_data

_RESOLVERS = ("tutorial_data", "published_data", "training_data_stats", "oc.env", "oc.select", "hydra", *FUNCTIONS)
_SPECIES = "chemical_species"
# What the run needs before, or for, reading the data.
_BEFORE_DATA = ("data", "run", "output_dir", "ckpt_path", "resume", "finetune", "trusted_packages")


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
        raise ConfigError(f"{full_key} is not given", "the config needs a value in place of ???")
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
