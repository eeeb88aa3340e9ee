"""Reads a run file: plain values only, of a bounded size, and nothing in it is ever looked up or called."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from nequip_like.errors import ConfigError, first_line
from nequip_like.workflow.config.yaml_size import check_yaml_size

_LARGEST = 1_000_000  # bytes
_DEEPEST = 20  # mappings and lists within each other
_MOST_RUNS = 10_000
_OPENING, _CLOSING = (yaml.MappingStartEvent, yaml.SequenceStartEvent), (yaml.MappingEndEvent, yaml.SequenceEndEvent)


def read_run_file(file: Path) -> list[dict[str, Any]]:
    """Read the runs of a file: one mapping, or the mappings of its list ``runs``.

    Args:
        file: The file.

    Returns:
        The runs as plain values, their keys not looked at yet.

    Raises:
        ConfigError: If it cannot be read, is no YAML, is too large or nested too deeply, has tags or references to
            values elsewhere, or holds something else than runs.
    """
    content = _load(_read_text(file), file)
    if isinstance(content, dict) and "runs" in content:
        if others := [key for key in content if key != "runs"]:
            raise ConfigError(
                f"{file} has '{others[0]}' beside runs", "give it in each run: YAML's anchors repeat what is the same"
            )
        runs = content["runs"]
        if not isinstance(runs, list) or not runs:
            raise ConfigError(f"runs of {file} is no list of runs", "write runs: and '- task: ...' below it")
        if len(runs) > _MOST_RUNS:
            raise ConfigError(f"{file} has {len(runs)} runs", f"give {_MOST_RUNS} at most, the others in another file")
    else:
        runs = [content]
    for number, run in enumerate(runs):
        where = str(file) if len(runs) == 1 else f"run {number} of {file}"
        if not isinstance(run, dict) or not run:
            raise ConfigError(f"{where} is no mapping", "write backend: nequip, task: train, run_dir: FOLDER")
        for text in list_texts(run):
            if "${" in text:
                raise ConfigError(
                    f"{where} has '{text}', which refers to something else", "write the value itself: no ${...} here"
                )
            if "\0" in text:
                raise ConfigError(f"{where} has a text with a NUL character", "leave it out")
    return runs


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ConfigError(f"{file} is larger than {_LARGEST // 1000} kB", "give a file of runs")
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file}, line {line}: not UTF-8 text", "save the file as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}", "give a file of runs: run.yaml") from error


def _load(text: str, file: Path) -> Any:
    try:
        _check_events(text, file)
        check_yaml_size(text, file)
        content = yaml.load(text, Loader=get_yaml_loader())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or first_line(error)
        raise ConfigError(f"{file}{line}: {problem}", "write it as YAML: key: value") from error
    except (ValueError, OverflowError, TypeError) as error:  # a number of 5,000 digits, a list as a key
        raise ConfigError(f"cannot read {file}: {first_line(error)}", "look at its numbers and keys") from error
    except RecursionError:
        raise ConfigError(f"{file} refers to itself", "write it without") from None
    _check_plain(content, file)
    return content


def _check_events(text: str, file: Path) -> None:
    """Refuse tags, several documents and deep nesting before anything is made of the text."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if getattr(event, "tag", None) is not None:
            line = event.start_mark.line + 1
            raise ConfigError(f"{file}, line {line}: the tag {event.tag}", "a run file has plain values only, no tags")
        depth += isinstance(event, _OPENING) - isinstance(event, _CLOSING)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > _DEEPEST:
            raise ConfigError(f"{file} is nested more than {_DEEPEST} deep", "write it with fewer brackets")
        if documents > 1:
            raise ConfigError(f"{file} has several documents (---)", "list the runs: runs: [...]")


def _check_plain(value: Any, file: Path) -> None:
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise ConfigError(f"{file} has the key {key!r}, which is no word", "put quotes around it")
            _check_plain(entry, file)
    elif isinstance(value, list):
        for entry in value:
            _check_plain(entry, file)
    elif value is not None and not isinstance(value, str | bool | int | float):
        raise ConfigError(f"{file} has {value!r}, a {type(value).__name__}", "put quotes around it")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{file} has {value!r}", "give finite numbers")


def list_texts(value: Any) -> Iterator[str]:
    """All texts in plain values, keys of mappings, too.

    Example:
        >>> list(list_texts({"a": ["b", 1, {"c": "d"}]}))
        ['a', 'b', 'c', 'd']
    """
    if isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from list_texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from list_texts(entry)
    elif isinstance(value, str):
        yield value
