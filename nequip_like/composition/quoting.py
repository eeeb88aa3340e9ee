"""Values of overrides that are paths, quoted for Hydra, whose grammar has few letters: no umlauts, ``~`` or ``=``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from nequip_like.whole_files import path_of

_KEY = re.compile(r"\+{0,2}[A-Za-z_][\w.@/-]*")
_MEANT = frozenset("[]{}()'\"$\\,")  # who writes these may mean a list, a mapping, a quoted text, or several values


def quote_values(arguments: Sequence[str]) -> list[str]:
    """The command line with quotes where a value is the name of a file, or cannot be read and is but a word.

    ``data.train=~/Größe.xyz`` becomes ``data.train="~/Größe.xyz"``. All else stays as it is.

    Args:
        arguments: The command line.
    """
    several = "--multirun" in arguments or "-m" in arguments
    return [_quote_value(argument, several) for argument in arguments]


def _quote_value(argument: str, several: bool) -> str:
    key, _, value = argument.partition("=")
    if not value or value[0] in "'\"" or not _KEY.fullmatch(key):
        return argument
    path = path_of(value)
    if _is_readable(argument) and not ("," in value and not several and os.path.exists(path)):
        return argument
    in_folder = "/" in value and os.path.isdir(path.parent)  # a file or folder that is there, or will be
    return f"{key}={quote_text(value)}" if in_folder or os.path.exists(path) or not _MEANT & set(value) else argument


def _is_readable(argument: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True


def quote_text(value: str) -> str:
    """A text between double quotes: backslashes count double before a quote, and nothing is looked up."""
    value = re.sub(r'(\\*)"', r'\1\1\\"', value)
    value = re.sub(r"(\\*)$", r"\1\1", value)
    return '"' + value.replace("${", "\\${") + '"'
