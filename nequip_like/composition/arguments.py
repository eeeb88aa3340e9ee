"""A command line as it is typed, made into what Hydra reads: paths, quotes, the order of options."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser

from nequip_like.composition.hydra_compose import extract_key, packaged
from nequip_like.composition.quoting import quote_values
from nequip_like.errors import ConfigError, closest_hint
from nequip_like.whole_files import path_of
from nequip_like.workflow.config.key_places import place_hint

_OPTIONS = ("--check", "--debug", "--migrate", "--one-of-several", "--plot-schedule")


def translate_arguments(arguments: Sequence[str]) -> list[str]:
    """The command line for Hydra: config files by their path, ``~``, letters that need quotes, overrides anywhere.

    Args:
        arguments: The command line as it was typed.

    Raises:
        ConfigError: If there is no such config file.
    """
    return move_overrides_last(
        quote_values(
            [_expand_home(argument) for argument in _resolve_config_path(_translate_config_file(list(arguments)))]
        )
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line as Hydra will understand it.

    Raises:
        ConfigError: For an option that does not exist, or that would run code out of a file.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        command_line, unknown = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ConfigError(str(error), "give the config alone: nequip-train config.yaml; see --help") from error
    unknown_options = [name for name in (*unknown, *command_line.overrides) if name.startswith("-")]
    if unknown_options:
        options = [option for action in parser._actions for option in action.option_strings] + list(_OPTIONS)
        option = unknown_options[0].partition("=")[0]
        # As options of many programs are written: --max_epochs 5
        key_hint = place_hint(option.lstrip("-").replace("-", "_"), packaged())
        hint = f"{key_hint}write it without dashes, KEY=VALUE; " if key_hint else closest_hint(option, options)
        raise ConfigError(f"there is no option {unknown_options[0]}", f"{hint}see --help")
    for override in command_line.overrides:
        if override and not extract_key(override).strip():
            raise ConfigError(f"'{override}' names no key", "write key=value, +key=value or ~key")
    for option, is_given in (("--resolve", command_line.resolve), ("--package KEY", command_line.package)):
        if is_given and not command_line.cfg:
            raise ConfigError(f"{option.split()[0]} goes with --cfg only", f"write --cfg job {option}, or leave it out")
    if command_line.experimental_rerun is not None:
        raise ConfigError(
            "--experimental-rerun reads a pickle, which can run code", "run the config.yaml of that folder instead"
        )
    return command_line


def move_overrides_last(arguments: Sequence[str]) -> list[str]:
    """The same command line with its overrides behind its options.

    Hydra's parser takes overrides from one place only: of ``a=1 --multirun b=2`` it would not know ``b=2``.

    Args:
        arguments: The command line.
    """
    actions = {option: action for action in get_args_parser()._actions for option in action.option_strings}
    parts: dict[str, list[str]] = {"options": [], "overrides": [], "without value": []}
    takes = None
    for i, argument in enumerate(arguments):
        following = arguments[i + 1] if i + 1 < len(arguments) else ""
        action = actions.get(argument)
        if takes is not None:
            kind, takes = "options", None
        elif action is not None and action.nargs == "?" and following not in (action.choices or ()):
            kind = "without value"  # it would take the override that follows
        else:
            kind = "options" if argument.startswith("-") else "overrides"
            takes = action if action is not None and action.nargs != 0 else None
        parts[kind].append(argument)
    return [argument for part in parts.values() for argument in part]


def _translate_config_file(arguments: list[str]) -> list[str]:
    """Turn a leading ``path/config.yaml`` into Hydra's ``--config-path`` and ``--config-name``."""
    for i, argument in enumerate(arguments):
        names_file = not argument.startswith("-") and argument.endswith((".yaml", ".yml"))
        names_file = names_file and ("=" not in argument or Path(argument).is_file())
        follows_option = i > 0 and arguments[i - 1] in ("-cn", "--config-name", "-cp", "--config-path", "-cd")
        if names_file and not follows_option:
            path = path_of(argument).absolute()
            if not path.is_file():
                hint = closest_hint(path.stem, [file.stem for file in path.parent.glob("*.yaml")])
                raise ConfigError(f"there is no config file {path}", f"{hint}give the path of a YAML file")
            remaining = arguments[:i] + arguments[i + 1 :]
            return ["--config-path", str(path.parent), "--config-name", path.name, *remaining]
    return arguments


def _resolve_config_path(arguments: list[str]) -> list[str]:
    """Let a relative ``--config-path`` begin at the current folder, where Hydra would begin at this file."""
    result = list(arguments)
    for i, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option not in ("-cp", "--config-path"):
            continue
        if equals:
            result[i] = f"{option}={_make_absolute(value)}"
        elif i + 1 < len(arguments):
            result[i + 1] = _make_absolute(arguments[i + 1])
    return result


def _expand_home(argument: str) -> str:
    """Put the home folder in the place of ``~`` in ``key=~/file``: Hydra's grammar has no ``~``."""
    return (
        re.sub(r"(?<=[=,\[{:\s])~(?=/)", str(Path.home()), argument)
        if "=~" in argument or "~/" in argument
        else argument
    )


def _make_absolute(folder: str) -> str:
    return folder if "://" in folder else str(path_of(folder).absolute())
