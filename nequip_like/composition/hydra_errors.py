"""Errors of Hydra, OmegaConf and YAML about a config, translated into one line and an advice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from nequip_like.composition.overrides import explain_missing_key, find_closest_parent, find_node, resolve_key
from nequip_like.errors import ConfigError, closest_hint, first_line

# What composing a config may raise because of what the user wrote.
CONFIG_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError, RecursionError, ValueError)

_FAILED = re.compile(
    r"(?:Could not override|Could not delete from config\.|An item is already at) '([^']+)'"
    r"|^Error merging override [+~]*([^=]+)="
)
_DEFAULTS = "see the list 'defaults' of the config"


def translate_error(
    error: BaseException,
    config: DictConfig | None = None,
    configs: Iterable[str] = (),
    groups: Iterable[str] = (),
    value: Any = None,
    options_of: Callable[[str], Sequence[str]] = lambda group: (),
) -> ConfigError:
    """The package's own error for one of Hydra's.

    Args:
        error: What Hydra, OmegaConf or YAML raised.
        config: The config without the override that failed, to look for what was meant.
        configs: Names of configs that could have been meant.
        groups: Names of groups that could have been meant.
        value: What the override that failed gives.
        options_of: Names of the options of a group; empty if there is no such group.
    """
    if isinstance(error, YAMLError):
        return translate_yaml_error(error)
    if isinstance(error, RecursionError):
        return ConfigError("a config takes in itself", _DEFAULTS)
    if isinstance(error, UnicodeDecodeError):
        return ConfigError("a config is not UTF-8 text", "save it as UTF-8")
    if isinstance(error, MissingConfigException):
        return _explain_missing_config(error, list(configs), options_of)
    if isinstance(error, OverrideParseException):
        return _explain_unreadable(error)
    if isinstance(error, ConfigCompositionException):
        return _explain_composition(error, config, list(groups), value, options_of)
    if match := re.search(r"invalid literal for int\(\) with base 10: '(.*)'", str(error)):
        return ConfigError(f"an override names '{match[1]}' of a list", "entries of a list have numbers, from 0 on")
    return ConfigError(_clean_message(first_line(error)), _DEFAULTS if "efaults" in str(error) else "see the config")


def translate_yaml_error(error: YAMLError, file: str | Path | None = None) -> ConfigError:
    """The error for a file that is no YAML, with its line."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return ConfigError(f"{file or 'a config'} is not YAML: {first_line(error)}", "see the file")
    mark = error.problem_mark
    problem = str(error.problem)
    if "\\t" in problem:
        advice = "indent with spaces: YAML knows no tabs"
    elif "duplicate key" in problem:
        advice = "give each key once"
    elif "mapping values" in problem:
        advice = "see the indentation, and put quotes around a text that has ': ' in it"
    else:
        advice = "see this line and the one before: brackets, quotes, indentation, a space after each colon"
    return ConfigError(f"{mark.name or file}, line {mark.line + 1}: {problem}", advice)


def _explain_unreadable(error: OverrideParseException) -> ConfigError:
    """The error for an override that cannot be parsed: often the shell has split it at a space."""
    override = str(error.override)
    value = override.partition("=")[2]
    for opened, closed in ("{}", "[]", "()"):
        if value.count(opened) > value.count(closed):
            return ConfigError(
                f"cannot read '{override}': it ends before its '{opened}' is closed",
                f"the shell splits at spaces: put quotes around the whole, '{override} ...{closed}'",
            )
        if override.count(closed) > override.count(opened):
            return ConfigError(
                f"cannot read '{override}': its '{closed}' closes nothing",
                f"the shell splits at spaces: put quotes around the whole, 'key={opened}... {override}'",
            )
    key, equals, _ = override.partition("=")
    if not equals or key.endswith(" ") or value.startswith(" "):
        name, typed = (key.strip(), value.strip()) if key.strip()[:1].isalpha() else ("key", key)
        return ConfigError(
            f"cannot read '{override}': it is not of the form key=value",
            f"write it as one word, without spaces around the =: {name}={typed or 'value'}",
        )
    if re.fullmatch(r"[+~]*\w+([:/.]\w+)+", key) and ":" in key:
        return ConfigError(f"cannot read '{override}': the key has a ':'", f"write {override.replace(':', '.', 1)}")
    return ConfigError(
        f"cannot read '{override}': {_find_reason(error)}",
        "write key=value, with quotes around what has spaces, commas, brackets or =: 'key=\"a, b\"'",
    )


def _explain_missing_config(
    error: MissingConfigException, configs: list[str], options_of: Callable[[str], Sequence[str]]
) -> ConfigError:
    """The error for a config, or an option of a group, that does not exist."""
    name = str(error.missing_cfg_file or "").removesuffix(".yaml")
    group, _, option = name.rpartition("/")
    # Hydra names the options where one is chosen, and not where several are.
    options = sorted(str(choice) for choice in error.options or options_of(group)) if group else []
    if options:
        ending = [choice for choice in options if choice.endswith(f"_{option}")]  # M for nequip_M
        hint = f"did you mean '{ending[0]}'? " if ending else closest_hint(option, options, any_case=True)
        return ConfigError(f"{group} has no option '{option}'", f"{hint}there are {', '.join(options)}")
    if group:
        return ConfigError(f"there is no config '{name}'", f"make the file {name}.yaml beside your config")
    if not name:
        return ConfigError(_clean_message(first_line(error)), "give the folder of the config: --config-path FOLDER")
    # In order of the alphabet: what a folder lists comes in another order on another file system.
    names = ", ".join(sorted(configs))
    return ConfigError(f"there is no config '{name}'", f"{closest_hint(name, configs)}there are {names}")


def find_failed_key(error: BaseException) -> str | None:
    """The key of the override that Hydra could not apply; None if the mistake is another."""
    match = _FAILED.search(str(error))
    return None if match is None else match[1] or match[2]


def _explain_composition(
    error: ConfigCompositionException,
    config: DictConfig | None,
    groups: list[str],
    value: Any,
    options_of: Callable[[str], Sequence[str]],
) -> ConfigError:
    text = str(error)
    if (key := find_failed_key(error)) is not None:
        if "Could not override" in text and "defaults list" not in text:
            return explain_missing_key(key, config, groups, value, options_of)
        return _explain_not_applied(key, error, config, groups)
    if match := re.search(r"Ambiguous value for argument '([^=]+)=(.*)'", text):
        decimal = f", or {match[2].replace(',', '.')} for a number" if re.fullmatch(r"0,\d+|\d+,0\d*", match[2]) else ""
        return ConfigError(
            f"'{match[1]}={match[2]}' may be a list or several values",
            f"write {match[1]}=[{match[2]}] for a list{decimal}, or add --multirun for one run with each",
        )
    if (choice_error := _explain_choice(text)) is not None:
        return choice_error
    if match := re.search(r"primary config '([^']+)' must be a DictConfig", text):
        return ConfigError(f"the config {match[1]} is no mapping", "begin it with defaults: [train, _self_]")
    if match := re.search(r"Key '([^']+)' (?:is )?not in (?:struct|'\w+')", text):
        return ConfigError(f"there is no key '{match[1]}' of Hydra's own", "see nequip-train --hydra-help")
    if isinstance(error.__cause__, YAMLError):
        return translate_yaml_error(error.__cause__)
    if match := re.search(r"In '([^']+)': \w+ raised while composing config:\s*(.*)", text):
        return ConfigError(
            f"{match[1]} does not fit to the defaults: {match[2]}",
            "what is a mapping there has to be a mapping here: see nequip-train -cn train --cfg job",
        )
    return ConfigError(_clean_message(first_line(error)), _DEFAULTS if "defaults" in text else "see the config")


def _explain_choice(text: str) -> ConfigError | None:
    """The error for an option of a group that is added to the one that is chosen; None if it is something else."""
    if match := re.search(r"Multiple values for (\S+)\. To override a value use '(.*)'", text):
        return ConfigError(
            f"the defaults give {match[1]} twice", f"write '{match[2]}'; on the command line {match[1]}=NAME"
        )
    if match := re.search(r"force-add of config groups is not supported: '\++([^']+)'", text):
        return ConfigError(f"++{match[1]} chooses a config, which is not added", f"write {match[1]}")
    if match := re.search(r"(\S+) appears more than once", text):
        return ConfigError(f"the defaults give {match[1]} twice", "take it out once, or write 'override' before it")
    return None


def _explain_not_applied(key: str, error: BaseException, config: DictConfig | None, groups: list[str]) -> ConfigError:
    """The error for an override whose key or group is not there, or is there already, or whose value does not fit."""
    text = str(error)
    if "defaults list" in text:
        return ConfigError(f"there is no '{key}' to change", f"{closest_hint(key, groups)}{_DEFAULTS}")
    if "Error merging" in text:
        reason = first_line(error.__cause__ or error)
        return ConfigError(f"cannot set '{key}': {reason}", f"see what {key.rpartition('.')[0] or key} is: --cfg job")
    if "already at" in text:
        return ConfigError(
            f"there is '{key}' already", f"leave out the +: {resolve_key(key, config) if config else key}=..."
        )
    message = f"there is no '{key}' to take out"
    parent, _, name = key.rpartition(".")
    node = config if not parent or config is None else find_node(config, parent)
    if parent and config is not None and node is None:
        return ConfigError(
            f"{message}: the config has no '{parent}'", f"{find_closest_parent(config, parent)}see --cfg job"
        )
    names = [str(entry) for entry in node if entry != "hydra"] if isinstance(node, DictConfig) else []
    choices = f"there are {', '.join(names)}" if names else "see --cfg job"
    return ConfigError(message, closest_hint(name, names).strip() or choices)


def _find_reason(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if not line.startswith(("Error parsing override", "See http"))]
    if not lines or "missing EQUAL" in lines[0]:
        return "it is not of the form key=value"
    if "LexerNoViableAlt" in lines[0]:
        return "it has a character that needs quotes"
    return re.sub(r"mismatched input '<EOF>'.*", "something is missing at its end", lines[0])


def _clean_message(message: str) -> str:
    return message.rstrip(".") or "the config cannot be composed"
