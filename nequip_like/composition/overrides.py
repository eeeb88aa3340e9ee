"""What overrides on the command line mean, where Hydra cannot apply them as they are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nequip_like.arguments import shown
from nequip_like.errors import ConfigError, closest_hint
from nequip_like.workflow.config.key_places import place_hint

_REFERENCE = re.compile(r"\$\{(\.*)([\w.]+)\}")
# How to do without what a group gives, for groups that a run can do without.
_LEFT_OUT = {
    "callbacks": "; to leave one out, write ~callbacks.progress_bar",
    "logger": "; for none, write ~logger ~callbacks.learning_rate",
    "lr_scheduler": "; for none, write training_module.lr_scheduler=null",
}
# How to get a named node that a group has a config for.
_ADDED = {"callbacks": "callbacks=[default,{}]", "logger": "logger={}"}
# Mappings whose keys the user chooses.
_OF_NAMES = ("data.val", "data.test", "data.key_mapping", "data.units")


def insert_nulls(overrides: Sequence[str], config: DictConfig, is_group: Callable[[str], bool]) -> list[str]:
    """The overrides, with ``++key=null`` before each that puts a list in place of a mapping, or the other way round.

    Hydra merges a list or a mapping into what is there, which has to be of the same kind.

    Args:
        overrides: The overrides.
        config: The config without those that cannot be merged.
        is_group: Whether a key chooses from a group of configs.
    """
    result = []
    for text, override in zip(overrides, parse_overrides(overrides), strict=True):
        key = override.key_or_group
        is_change = not (override.is_add() or override.is_force_add() or override.is_delete())
        if is_change and _is_of_another_kind(override, find_node(config, key)) and not is_group(key):
            # Hydra's sweeper keeps one override of each key; with ++ it is another to it.
            result.append(f"++{key}=null")
        result.append(text)
    return result


def check_choices(overrides: Sequence[str], options_of: Callable[[str], Sequence[str]]) -> None:
    """Refuse what is no name where an option of a group of configs is chosen.

    Args:
        overrides: The overrides.
        options_of: Names of the options of a group; empty if there is no such group.

    Raises:
        ConfigError: Naming the override, and what there is to choose from.
    """
    for text, override in zip(overrides, parse_overrides(overrides), strict=True):
        group, value = override.key_or_group, override.value()
        if override.is_delete() and value is None:
            continue
        values = value.list if isinstance(value, ChoiceSweep) else [value]
        if all(map(_can_be_choice, values)) or not (options := options_of(group)):
            continue
        none = _LEFT_OUT.get(group, "") if None in values else ""
        raise ConfigError(
            f"'{text}' chooses no config: {group} is a group, whose configs are chosen by name",
            f"write {group}=NAME, there are {', '.join(options)}{none}",
        )


def _can_be_choice(value: Any) -> bool:
    """Whether a value is a name, or several; Hydra merges a mapping into what is chosen."""
    if isinstance(value, list):
        return not any(isinstance(name, int | float | list | Mapping) or name is None for name in value)
    return not (isinstance(value, int | float) or value is None)


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """The overrides as Hydra understands them."""
    return OverridesParser.create().parse_overrides(list(overrides))


def find_node(config: DictConfig, key: str) -> Any:
    """What a dotted key leads to, with interpolations followed; None if it leads nowhere."""
    try:
        return OmegaConf.select(config, key, throw_on_missing=False)
    except OmegaConfBaseException:
        return None


def _is_of_another_kind(override: Override, node: Any) -> bool:
    value = override.value()
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    if isinstance(node, ListConfig):
        return any(isinstance(value, Mapping) for value in values)
    return isinstance(node, DictConfig) and any(isinstance(value, list) for value in values)


def check_kinds(file: Path, content: Any, defaults: Mapping[str, Any], above: str = "") -> None:
    """Refuse a list in a config file where the defaults have a mapping, and a mapping where they have a list.

    Args:
        file: The file, for messages.
        content: What is in it.
        defaults: The defaults as plain values.
        above: Key of both, with a dot behind it.

    Raises:
        ConfigError: Naming the key.
    """
    for name, default in defaults.items() if isinstance(content, Mapping) else ():
        entry, key = content.get(name), f"{above}{name}"
        if isinstance(entry, list) and isinstance(default, Mapping):
            names = isinstance(entry[0], str) if entry else False
            listing = ", ".join(map(str, entry))
            choice = f"; or, to choose configs, defaults: [train, {{override {key}: [{listing}]}}, _self_]"
            raise ConfigError(
                f"{key} is a list in {file}, and a mapping in the defaults",
                f"write a mapping, see nequip-train -cn train --cfg job{choice if names else ''}",
            )
        if isinstance(entry, Mapping) and isinstance(default, list):
            raise ConfigError(f"{key} is a mapping in {file}, and a list in the defaults", "write a list")
        if isinstance(default, Mapping):
            check_kinds(file, entry, default, f"{key}.")


def explain_missing_key(
    key: str,
    config: DictConfig | None,
    groups: Collection[str],
    value: Any = None,
    options_of: Callable[[str], Sequence[str]] = lambda group: (),
) -> ConfigError:
    """The error for an override of a key that is not there.

    Args:
        key: The key as it was written.
        config: The config without this override; None if it cannot be composed.
        groups: Names of groups of configs.
        value: What the key was given: a key within it may be the one that is not there.
        options_of: Names of the options of a group; empty if there is no such group.
    """
    if config is None:
        return ConfigError(f"there is no '{key}' to change", "see --cfg job")
    if "/" in key and _is_there(config, dotted := key.replace("/", ".")):
        return ConfigError(f"there is no '{key}' to change", f"write {dotted}=...")
    key = ".".join([key, *_find_unknown(value, find_node(config, key))])
    message = f"there is no '{key}' to change"
    resolved = resolve_key(key, config)
    if resolved != key:
        prefix = key.removesuffix(resolved[resolved.rindex(".") :])
        message += f": {prefix} stands for {resolved.rpartition('.')[0]} here"
        if _is_there(config, resolved):
            return ConfigError(message, f"write {resolved}=...")
    parent = resolved.rpartition(".")[0]
    if parent and not _is_there(config, parent):
        group, _, option = parent.rpartition(".")
        if group in _ADDED and option in options_of(group):
            return ConfigError(f"{message}: the config has no '{parent}'", f"add it: {_ADDED[group].format(option)}")
        hint = find_closest_parent(config, parent) or place_hint(
            resolved.rpartition(".")[2], convert_to_plain(config), resolved
        )
        return ConfigError(f"{message}: the config has no '{parent}'", f"{hint}see --cfg job")
    return ConfigError(message, _find_advice(resolved, config, groups, value))


def _find_advice(key: str, config: DictConfig, groups: Collection[str], value: Any) -> str:
    parent, _, name = key.rpartition(".")
    node = find_node(config, parent) if parent else config
    if not isinstance(node, DictConfig):
        is_null = f": write {parent}={{{name}: ...}}" if node is None else ", which has no keys"
        return f"{parent} is {shown(convert_to_plain(node))}{is_null}"
    names = [str(entry) for entry in node if str(entry) != "hydra"]
    if parent in _OF_NAMES:
        return (
            f"there are {', '.join(names)}; write +{key}=... to add it, or {parent}=null before {parent}={{...}} to "
            "replace them all"
        )
    if "_target_" in node and _takes(node["_target_"], name):
        return f"{node['_target_']} takes it: write +{key}={_format_value(value)}"
    values = convert_to_plain(config)
    hint = (
        place_hint(name, values, key)
        or closest_hint(name, [*names, *(() if parent else groups)])
        or ("" if parent else place_hint(name, values, key, exactly=False))
    ).strip()
    if not hint and "_target_" in node:
        return f"if {node['_target_']} takes it, write +{key}=..."
    return hint or f"there are {', '.join(names)}"


def _format_value(value: Any) -> str:
    """A number or a word as it was typed; dots for what may need quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    is_plain = isinstance(value, int | float) or (isinstance(value, str) and value.isalnum())
    return str(value) if is_plain else "..."


def _takes(target: Any, name: str) -> bool:
    """Whether what a ``_target_`` names is known to take an argument; the user's own code is not imported for it."""
    # Imports torch and lightning, which a command without this mistake does not need so early.
    from nequip_like.workflow.config.signatures import arguments_of
    from nequip_like.workflow.config.trust import OWN, look_up, within

    try:
        target_object = look_up("", target)
    except ConfigError:
        return False
    return name in arguments_of(target_object, lambda module: within(module, (OWN,))).annotations


def convert_to_plain(node: Any, *, resolve: bool = False) -> Any:
    """A node as plain values, with interpolations as they are written or, with ``resolve``, in their values."""
    return OmegaConf.to_container(node, resolve=resolve) if OmegaConf.is_config(node) else node


def resolve_key(key: str, config: DictConfig) -> str:
    """The key itself, or where a section above it, which is an interpolation such as ``${model}``, leads to."""
    node, parts = convert_to_plain(config), key.split(".")
    for i, part in enumerate(parts[:-1]):
        node = node.get(part) if isinstance(node, Mapping) else None
        if isinstance(node, str) and (match := _REFERENCE.fullmatch(node)):
            above = parts[: i + 1 - len(match[1])] if match[1] else []  # one dot is the section that it stands in
            return resolve_key(".".join([*above, match[2], *parts[i + 1 :]]), config)
    return key


def _is_there(config: DictConfig, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    node = find_node(config, parent) if parent else config
    return isinstance(node, DictConfig) and name in node


def _find_unknown(value: Any, node: Any) -> list[str]:
    """Path to the first key of a mapping, or of several that vary, which the config's own does not have."""
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    for mapping in values if isinstance(node, DictConfig) else ():
        for name, inner in mapping.items() if isinstance(mapping, Mapping) else ():
            if name not in node:
                return [str(name)]
            if inner_path := _find_unknown(inner, find_node(node, str(name))):
                return [str(name), *inner_path]
    return []


def find_closest_parent(config: DictConfig, parent: str) -> str:
    """Begin of an advice: the section that is most like one that is not there."""
    above, _, name = parent.rpartition(".")
    node = find_node(config, above) if above else config
    return closest_hint(name, [str(entry) for entry in node]) if isinstance(node, DictConfig) else ""
