"""The labels of one frame: checked, converted to the package's units, and brought to the shapes of the table."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import volumes
from nequip_like.data.labels.names import format_mapping_line
from nequip_like.data.labels.units import Units
from nequip_like.data.labels.weights import LeftOut, apply_label_weights
from nequip_like.errors import DataError

_VOIGT = [[0, 5, 4], [5, 1, 3], [4, 3, 2]]  # ASE's order: xx, yy, zz, yz, xz, xy
_LARGEST_ASYMMETRY = 0.05  # of the largest component; more than rounding is a mix-up of components


def read_labels(
    graph: Graph,
    names_by_label: Mapping[str, str],
    graph_values: Mapping[str, Any],
    node_values: Mapping[str, Any],
    units: Units,
    origin: str,
) -> tuple[Graph, list[LeftOut]]:
    """Labels and weights of one frame.

    Args:
        graph: The structure, in Angstrom.
        names_by_label: ``{label: name in the file}``.
        graph_values: What the frame holds per structure.
        node_values: What the frame holds per atom.
        units: The file's units.
        origin: File and frame, for messages.

    Returns:
        The labels that the frame has, and each that was left out with the reason: its weight is zero, or the structure
        of a stress has no volume or is not periodic. A virial comes back as stress.

    Raises:
        DataError: If a value has a wrong shape, is no number, is not finite, or if stress and virial contradict.
    """
    labels: Graph = {}
    for label, name in names_by_label.items():
        owned_by_atom = fields.field(label).owner == "node"
        values = node_values if owned_by_atom else graph_values
        if name not in values:
            continue
        rows = len(graph[fields.POSITIONS]) if owned_by_atom else 1
        raw = _convert_to_numbers(values[name], name, origin)
        shaped = _bring_to_shape(raw, label, rows, f"{origin}: '{name}'")
        _check_values(shaped, label, f"{origin}: '{name}'")
        labels[label] = torch.from_numpy(shaped * units.factor(label))
    left_out = apply_label_weights(labels, names_by_label)
    return labels, [*left_out, *_convert_virial(graph, labels, origin)]


def _convert_virial(graph: Graph, labels: Graph, origin: str) -> list[LeftOut]:
    stress, virial = labels.pop(fields.STRESS, None), labels.pop(fields.VIRIAL, None)
    if stress is None and virial is None:
        return []
    volume = float(volumes(graph)[0])
    if not volume > 0 or not bool(graph[fields.PBC].any()):
        return [(fields.STRESS, "they are not periodic")]
    from_virial = None if virial is None else -virial / volume
    if stress is not None and from_virial is not None:
        scale = float(torch.maximum(stress.abs().max(), from_virial.abs().max()))
        if not torch.allclose(stress, from_virial, rtol=0.0, atol=1e-2 * scale + 1e-6, equal_nan=True):
            raise DataError(
                f"{origin}: its stress and its virial contradict: stress is {_format_tensor(stress)}, "
                f"-virial / volume is {_format_tensor(from_virial)}",
                f"declare which one to read, for example {format_mapping_line({'stress': fields.STRESS})}",
            )
    result = stress if stress is not None else from_virial
    if result is not None:
        labels[fields.STRESS] = result
    return []


def _format_tensor(tensor: torch.Tensor) -> str:
    """A tensor of rank 2 with four digits."""
    rows = [", ".join(f"{value + 0.0:.4g}" for value in row) for row in tensor[0].tolist()]
    return f"[[{'], ['.join(rows)}]]"


def _convert_to_numbers(value: object, name: str, origin: str) -> np.ndarray:
    try:
        if np.asarray(value).dtype.kind in "bc":  # a key without a value reads as True
            raise TypeError
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"{origin}: '{name}' is {reprlib.repr(value)}, which is no number",
            f"repair the file, or declare another name with key_mapping instead of '{name}'",
        ) from None


def _bring_to_shape(value: np.ndarray, label: str, rows: int, subject: str) -> np.ndarray:
    """Bring a value to (rows, *shape of the table)."""
    shape = fields.field(label).shape
    if shape == (3, 3):
        if value.size == 6 and value.ndim == 1:
            value = value[np.array(_VOIGT)]
        elif value.size == 9:
            value = value.reshape(3, 3)
            check_symmetric(value, subject)
            value = (value + value.T) / 2
    expected = rows * int(np.prod(shape))
    if value.size != expected or (shape == (3,) and value.shape[-1] != 3):
        required = "6 or 9 numbers" if shape == (3, 3) else f"shape {(rows, *shape)}"
        raise DataError(
            f"{subject} has shape {value.shape}, but '{label}' of this frame needs {required}",
            "check the file, or declare another name with key_mapping",
        )
    return value.reshape(rows, *shape)


def _check_values(value: np.ndarray, label: str, subject: str) -> None:
    if label not in fields.WEIGHTS and np.isfinite(value).all():
        return
    energy_or_weight = label in (fields.TOTAL_ENERGY, *fields.WEIGHTS)
    if np.isinf(value).any() or (energy_or_weight and np.isnan(value).any()):
        raise DataError(
            f"{subject} is not a finite number", "remove the frame, or leave the key out where the label is missing"
        )
    missing = np.isnan(value.reshape(len(value), -1))
    if label not in fields.WEIGHTS and (missing.any(axis=1) != missing.all(axis=1)).any():
        row = int(np.argmax(missing.any(axis=1) != missing.all(axis=1)))
        whose = f" of atom {row}" if fields.field(label).owner == "node" else ""
        raise DataError(
            f"{subject}{whose} is not a number (NaN) in a part of its components",
            "write all components, or NaN in all of them where the label is missing",
        )
    if label in fields.WEIGHTS and (value < 0).any():
        raise DataError(f"{subject} is negative", "weights are zero or positive")


def check_symmetric(value: np.ndarray, subject: str) -> None:
    """Refuse a stress or a virial that is not symmetric, but for rounding.

    Args:
        value: Shape (3, 3); where it is not finite, nothing is said of it here.
        subject: Its name and place, for the message.

    Raises:
        DataError: If two components that have to be the same are not.
    """
    with np.errstate(invalid="ignore"):
        asymmetry = np.abs(value - value.T).max()
    if np.isfinite(asymmetry) and asymmetry > _LARGEST_ASYMMETRY * np.abs(value).max():
        raise DataError(f"{subject} is not symmetric: {value.tolist()}", "check the order of its components")
