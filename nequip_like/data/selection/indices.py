"""Frames that are chosen by their numbers: a list in the config, or a JSON file with one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nequip_like.errors import ConfigError, DataError
from nequip_like.whole_files import path_of

_ADVICE = "give numbers of frames, counted from 0: [0, 5, 3], or a JSON file with such a list"


def read_indices(entry: Any, key: str) -> tuple[int, ...] | None:
    """The numbers of an entry of a config.

    Args:
        entry: A list, the name of a JSON file with one, or None.
        key: Its key, for messages.

    Returns:
        The numbers in their order; None if there is no entry.

    Raises:
        ConfigError: If it is something else, or a number stands twice.
        DataError: If the file is not there, or is no JSON.

    Example:
        >>> read_indices([5, 0, 3], "train.indices")
        (5, 0, 3)
        >>> read_indices([1, 1], "train.indices")
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: train.indices has the number 1 twice
          -> give numbers of frames, counted from 0: [0, 5, 3], or a JSON file with such a list
    """
    if entry is None:
        return None
    name = key
    if isinstance(entry, str | Path):
        name, entry = f"{key}: {entry}", _read_file(path_of(entry))
    if not isinstance(entry, Sequence) or isinstance(entry, str) or not len(entry):
        raise ConfigError(f"{name} is no list of numbers", _ADVICE)
    for number in entry:
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ConfigError(f"{name} has {number!r}, which is no number of a frame", _ADVICE)
    numbers = tuple(entry)
    if len(set(numbers)) < len(numbers):
        twice = next(number for i, number in enumerate(numbers) if number in numbers[:i])
        raise ConfigError(f"{name} has the number {twice} twice", _ADVICE)
    return numbers


def check_indices(indices: Sequence[int], frames: int, title: str) -> None:
    """Refuse numbers of frames that there are not.

    Raises:
        DataError: With the largest of them.
    """
    if (largest := max(indices)) >= frames:
        raise DataError(f"{title}: indices name frame {largest}, but there are {frames} frames", _ADVICE)


def _read_file(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path.absolute()}: {error.strerror or error}", _ADVICE) from error
    except ValueError as error:
        raise DataError(f"{path.absolute()} is no JSON file: {error}", _ADVICE) from error
