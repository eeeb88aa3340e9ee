"""Values that a file holds in pieces: forces in three columns ``fx fy fz``, and labels in a mapping within another.

Both come under a name of their own, ``fx fy fz`` and ``labels.energy``, which is read, declared or told of like any.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from nequip_like.data.labels.frame_units import read_unit_text
from nequip_like.data.labels.names import label_of, normalise_name

_OF_FORCE = re.compile(r"((?:.*_)?f(?:orces?)?_?)([xyz])")
# Vectors that may be forces, by number, or the opposite of them; neither is read unless it is declared.
_OF_OTHERS = re.compile(r"((?:.*_)?f(?:orces?)?_?)([123])|((?:.*_)?grad(?:ients?|s)?_?)([xyz])")
_OF_TENSOR = re.compile(r"(.*(?:stress|virial)(?:es|s)?_?)(?:[xyz]{2}|[1-6])")
_OF_LAMMPS = re.compile(r"([fc]_.+)\[(\d+)\]")  # of a fix or compute, numbered from 1
_DEEPEST = 3


def add_vectors(node: Mapping[str, Any]) -> dict[str, Any]:
    """Values per atom, and beside those in three columns the vectors that they make.

    Example:
        >>> columns = {"fx": np.array([1.0]), "fy": np.array([2.0]), "fz": np.array([3.0])}
        >>> add_vectors(columns)["fx fy fz"]
        array([[1., 2., 3.]])
    """
    result = dict(node)
    columns = (name for name, value in node.items() if np.ndim(value) == 1 and _is_numeric(value))
    for names in _group_components(columns).values():
        if len(names) == 3:
            ordered = [names[axis] for axis in sorted(names)]
            result[" ".join(ordered)] = np.stack([np.asarray(node[name]) for name in ordered], axis=1)
    return result


def find_lone_components(names: Collection[str]) -> list[str]:
    """Notes on columns that are components of forces, where the others are missing."""
    notes = []
    for group in _group_components(name for name in names if _OF_FORCE.fullmatch(normalise_name(name))).values():
        if len(group) < 3:
            columns = " and ".join(f"'{group[axis]}'" for axis in sorted(group))
            missing = " and ".join(axis for axis in "xyz" if axis not in group)
            notes.append(f"{columns} not read: forces have three components, and there is none along {missing}")
        elif " ".join(group[axis] for axis in "xyz") not in names:
            columns = ", ".join(f"'{group[axis]}'" for axis in "xyz")
            notes.append(f"{columns} not read as forces: not all of them are columns of numbers, such as fx:R:1")
    return notes


def group_tensor_components(names: Iterable[str]) -> list[list[str]]:
    """Names of single components of a stress or virial, ``stress_xx`` and ``stress_yy``, those of one tensor together.

    Example:
        >>> group_tensor_components(["stress_xx", "virial_1", "stress_xy", "stress"])
        [['stress_xx', 'stress_xy'], ['virial_1']]
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        if match := _OF_TENSOR.fullmatch(normalise_name(name)):
            groups.setdefault(match[1], []).append(name)
    return list(groups.values())


def add_inner_labels(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values per structure, and beside those that are mappings the labels that stand in them: ``labels.energy``."""
    result = dict(values)
    for name, value in values.items():
        if isinstance(value, Mapping) and read_unit_text(name, value) is None:
            result |= {path: label for path, label in _find_inner_labels(name, value, 1) if path not in values}
    return result


def is_made(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name is in no file, but was made by :func:`add_vectors` or :func:`add_inner_labels`."""
    if " " not in name and "." not in name:
        return False
    columns = name.split(" ")
    if len(columns) == 3 and all(column in values for column in columns):
        return True
    return any(isinstance(values.get(name[: dot.start()]), Mapping) for dot in re.finditer(r"\.", name))


def _find_inner_labels(path: str, values: Mapping[Any, Any], depth: int) -> list[tuple[str, Any]]:
    labels = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            labels += _find_inner_labels(f"{path}.{name}", value, depth + 1) if depth < _DEEPEST else []
        elif label_of(str(name)) and _is_numeric(value):
            labels.append((f"{path}.{name}", value))
    return labels


def _group_components(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """``{what names of components have in common: {axis: name}}``."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        simple = normalise_name(name)
        match = _OF_FORCE.fullmatch(simple) or _OF_OTHERS.fullmatch(simple) or _OF_LAMMPS.fullmatch(name)
        if match:
            common, axis = (part for part in match.groups() if part is not None)
            groups.setdefault(common, {})[axis] = name
    return groups


def _is_numeric(value: object) -> bool:
    try:
        return np.asarray(value).dtype.kind in "if"
    except ValueError:  # rows of different lengths
        return False
