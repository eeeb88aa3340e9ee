"""What the files of a run folder say of the run: the report is made of them, when the run ends or at any time later."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from nequip_like.errors import DataError, first_line
from nequip_like.inference.evaluation import Evaluation
from nequip_like.report.history import Curve, read_curves
from nequip_like.report.page.compared_set import ComparedSet, compare_evaluation, read_compared_sets
from nequip_like.whole_files import path_of

RECORD_FILE = "run.json"
REPORT_FILE = "report.html"
_CONFIG, _HISTORY, _METRICS, _PREDICTIONS = "config.yaml", "metrics.csv", "metrics.json", "predictions.extxyz"
_OVERRIDES = re.compile(r"# overrides: (.*)")


def group_validation_errors(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Errors of validation sets, by set and by name.

    Args:
        metrics: Values as they were logged; others than those of validations are left out.

    Example:
        >>> group_validation_errors({"val0_epoch/forces_rmse": 0.3, "test0_epoch/forces_rmse": 0.4})
        {'val0': {'forces_rmse': 0.3}}
    """
    sets: dict[str, dict[str, Any]] = {}
    for name, value in metrics.items():
        prefix, _, metric = name.partition("_epoch/")
        if metric and prefix.startswith("val"):
            sets.setdefault(prefix, {})[metric] = value
    return sets


@dataclass(frozen=True)
class RunContent:
    """What a run folder holds; each part is empty where its file is not there.

    Attributes:
        folder: The folder.
        config_text: ``config.yaml``, the resolved config with its comments.
        config: The same as values.
        record: ``run.json``: commands, times, machines, data, the best epoch.
        curves: ``metrics.csv``: points (epoch, value) by column.
        metrics: ``metrics.json``: errors by test set, eV and Angstrom.
        sets: The test sets, labels beside predictions.
    """

    folder: Path
    config_text: str
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    curves: Mapping[str, Curve]
    metrics: Mapping[str, Mapping[str, Any]]
    sets: Sequence[ComparedSet]

    @property
    def sessions(self) -> list[Mapping[str, Any]]:
        """The commands that the run was made by: one, and another for each time that it was gone on with."""
        return list(self.record.get("sessions", ()))

    @property
    def best(self) -> Mapping[str, Any]:
        """The weights that were kept: ``monitored``, ``value``, ``epoch``, ``step``, ``metrics``."""
        best: Mapping[str, Any] = self.record.get("best") or {}
        return best

    @cached_property
    def overrides(self) -> str:
        """What the command line changed, as one line."""
        match = next(filter(None, map(_OVERRIDES.fullmatch, self.config_text.splitlines()[:5])), None)
        return "" if match is None or match[1] == "none" else match[1]


def read_run(folder: str | Path, evaluations: Mapping[str, Evaluation] | None = None) -> RunContent:
    """Read what a run left in its folder, or a test in its own.

    Args:
        folder: The folder.
        evaluations: Of its test sets, if they are at hand; read from ``predictions.extxyz`` otherwise.

    Raises:
        DataError: If it is no folder of a run or a test, or a file in it cannot be read.
    """
    folder = path_of(folder).absolute()
    if not any((folder / name).is_file() for name in (_CONFIG, _HISTORY, _METRICS)):
        problem = "has none of config.yaml, metrics.csv and metrics.json" if folder.is_dir() else "is no folder"
        raise DataError(f"{folder} {problem}", "give the folder of a run, or what nequip-test wrote to its --output")
    config_text = _read_text(folder / _CONFIG)
    metrics = read_json_file(folder / _METRICS)
    if evaluations is not None:
        sets = [compare_evaluation(name, evaluation) for name, evaluation in evaluations.items()]
    else:
        sets = read_compared_sets(folder / _PREDICTIONS) if (folder / _PREDICTIONS).is_file() else []
        if len(sets) == len(metrics):  # a name that looks like a number is one in the file of predictions
            sets = [replace(compared, name=name) for compared, name in zip(sets, metrics, strict=True)]
    return RunContent(
        folder,
        config_text,
        _parse_config(folder / _CONFIG, config_text),
        read_json_file(folder / RECORD_FILE),
        read_curves(folder / _HISTORY) if (folder / _HISTORY).is_file() else {},
        metrics,
        sets,
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {path}: {first_line(error)}", "take it away, or put the run's own back"
        ) from error


def read_json_file(path: Path) -> Mapping[str, Any]:
    """Read a file of a run that holds a JSON object; empty if it is not there.

    Raises:
        DataError: If it cannot be read, or holds something else.
    """
    text = _read_text(path)
    try:
        content = json.loads(text) if text else {}
    except ValueError as error:
        raise DataError(
            f"cannot read {path}: {first_line(error)}", "take it away, or put the run's own back"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no mapping", "take it away, or put the run's own back")
    return content


def _parse_config(path: Path, text: str) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(
            f"cannot read {path}: {first_line(error)}", "take it away, or put the run's own back"
        ) from error
    return content if isinstance(content, dict) else {}
