"""Frames that are chosen by their numbers: a list in the config, or a JSON file with one, such as a run leaves.

A run writes ``{"train": [...], "val/NAME": [...]}``; a run of numbers that follow each other is one text, ``"3:17"``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nequip_like.errors import ConfigError, DataError
from nequip_like.whole_files import path_of, written_whole

_ADVICE = "give numbers of frames, counted from 0: [0, 5, 3], or a JSON file with such a list"
_LONGEST_RUN = 1_000_000_000  # frames
_RUN = re.compile(r"(\d{1,15}):(\d{1,15})")


def read_indices(entry: Any, key: str) -> tuple[int, ...] | None:
    """The numbers of an entry of a config.

    Args:
        entry: A list, the name of a JSON file with one, or None. Of a file that a run wrote, the part of the key.
        key: Its key, ``train.indices`` or ``val.NAME.indices``.

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
        if isinstance(entry, Mapping):
            entry = _find_part(entry, key, name)
    if not isinstance(entry, Sequence) or isinstance(entry, str) or not len(entry):
        raise ConfigError(f"{name} is no list of numbers", _ADVICE)
    listed: list[int] = []
    for number in entry:
        run = _RUN.fullmatch(number) if isinstance(number, str) else None
        if run is not None:
            first, end = int(run[1]), int(run[2])
            if not 0 < end - first <= _LONGEST_RUN:
                raise ConfigError(f"{name} has the run {number!r}, which is empty or too long", _ADVICE)
            listed.extend(range(first, end))
        elif isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ConfigError(f"{name} has {number!r}, which is no number of a frame", _ADVICE)
        else:
            listed.append(number)
    numbers = tuple(listed)
    if len(set(numbers)) < len(numbers):
        values, counts = np.unique(np.array(numbers), return_counts=True)
        twice = int(values[counts > 1][0])
        raise ConfigError(f"{name} has the number {twice} twice", _ADVICE)
    return numbers


def check_indices(indices: Sequence[int], frames: int, title: str) -> None:
    """Refuse numbers of frames that there are not.

    Raises:
        DataError: With the largest of them.
    """
    if (largest := max(indices)) >= frames:
        raise DataError(f"{title}: indices name frame {largest}, but there are {frames} frames", _ADVICE)


def write_runs(numbers: Sequence[int] | np.ndarray) -> list[int | str]:
    """Numbers as they stand in a file, those that follow each other as one text.

    Example:
        >>> write_runs([4, 0, 1, 2, 9])
        [4, '0:3', 9]
    """
    values = np.asarray(numbers, dtype=np.int64)
    begins = np.flatnonzero(np.diff(values, prepend=values[:1] - 2) != 1)
    ends = np.append(begins[1:], len(values))
    runs = zip(values[begins].tolist(), (ends - begins).tolist(), strict=True)
    return [first if length == 1 else f"{first}:{first + length}" for first, length in runs]


def write_parts(path: Path, parts: Mapping[str, Sequence[int | str]]) -> None:
    """Write the numbers of the parts of a run's split, for ``indices_path``."""
    lines = (f"{json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in parts.items())
    with written_whole(path) as partial:
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _find_part(parts: Mapping[str, Any], key: str, name: str) -> Any:
    """The numbers of a part of a run's split: of ``val.hot.indices`` those of ``val/hot``, or the only ones of val."""
    section, *names = key.split(".")[:-1]
    title = "/".join((section, *names))
    found = [part for part in parts if part in (title, f"{section}/{section}")] or [
        part for part in parts if not names and part.startswith(f"{section}/")
    ]
    if len(found) != 1:
        raise ConfigError(f"{name} has no numbers for {title}, but for {', '.join(parts) or 'nothing'}", _ADVICE)
    return parts[found[0]]


def _read_file(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path.absolute()}: {error.strerror or error}", _ADVICE) from error
    except ValueError as error:
        raise DataError(f"{path.absolute()} is no JSON file: {error}", _ADVICE) from error
