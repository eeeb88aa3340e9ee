"""Compares two models: what builds them, their weights, and what they predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nequip_like.data import fields
from nequip_like.model.potential import Potential
from nequip_like.testing.structures import predict
from nequip_like.workflow.model_files.verifying import make_test_structures

_NONE = "(none)"


@dataclass(frozen=True)
class ModelDifference:
    """One thing in which two models differ.

    Attributes:
        kind: ``config``, ``weights``, ``uncertainty`` or ``predictions``.
        name: Key of the config, name of a tensor, or predicted field.
        first: What it is in the first model, in words.
        second: What it is in the second.
    """

    kind: str
    name: str
    first: str
    second: str


def compare_models(first: Potential, second: Potential) -> list[ModelDifference]:
    """List in what two models differ; nothing if they are the same.

    Args:
        first: A model.
        second: Another one.

    Returns:
        Differences of the configs; of tensors of the same shape, the largest difference and how large the tensor is;
        of fitted uncertainties; and where the species are the same, the largest differences of predictions for a
        molecule and a crystal.

    Example:
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"r_max": 3.0, "num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> first, second = (NequIPGNNModel(type_names=["H", "O"], seed=seed, **tiny).eval() for seed in (1, 2))
        >>> compare_models(first, first)
        []
        >>> compare_models(first, second)[0]
        ModelDifference(kind='config', name='arguments.seed', first='1', second='2')
    """
    return [
        *_compare_configs(first, second),
        *_compare_weights(first, second),
        *_compare_uncertainties(first, second),
        *_compare_predictions(first, second),
    ]


def _compare_configs(first: Potential, second: Potential) -> list[ModelDifference]:
    configs = [_flatten(potential.config) for potential in (first, second)]
    pairs = {key: [config.get(key, _NONE) for config in configs] for key in dict.fromkeys([*configs[0], *configs[1]])}
    return [ModelDifference("config", key, _show(a), _show(b)) for key, (a, b) in pairs.items() if a != b]


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Mappings as keys with dots, and all else as it is."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        flat |= _flatten(entry, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _show(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_show, value))}]"
    return "null" if value is None else str(value)


def _compare_weights(first: Potential, second: Potential) -> list[ModelDifference]:
    states = first.state_dict(), second.state_dict()
    differences = []
    for name in dict.fromkeys([*states[0], *states[1]]):
        a, b = (state.get(name) for state in states)
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            words = [_NONE if x is None else f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}" for x in (a, b)]
            differences.append(ModelDifference("weights", name, *words))
        elif not torch.equal(a.nan_to_num(), b.nan_to_num()) or not torch.equal(a.isnan(), b.isnan()):
            largest = float((a.double() - b.double()).abs().max())
            sizes = [f"RMS {float(x.double().square().mean().sqrt()):.4g}" for x in (a, b)]
            differences.append(
                ModelDifference("weights", name, sizes[0], f"{sizes[1]}, largest difference {largest:.2e}")
            )
    return differences


def _compare_uncertainties(first: Potential, second: Potential) -> list[ModelDifference]:
    """Those of the last layer, which are neither in a config nor among the weights."""
    uncertainties = [potential.uncertainty for potential in (first, second)]
    words = [
        "none" if uncertainty is None else _show_calibration(uncertainty.calibration.describe())
        for uncertainty in uncertainties
    ]
    roots = [None if uncertainty is None else uncertainty.root for uncertainty in uncertainties]
    if words[0] != words[1]:
        return [ModelDifference("uncertainty", "last layer", *words)]
    if roots[0] is not None and roots[1] is not None and not torch.equal(roots[0], roots[1]):
        sizes = [f"RMS {float(root.square().mean().sqrt()):.4g}" for root in roots if root is not None]
        return [ModelDifference("uncertainty", "last layer", *sizes)]
    return []


def _show_calibration(calibration: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_show(value)}" for key, value in calibration.items())


def _compare_predictions(first: Potential, second: Potential) -> list[ModelDifference]:
    if first.type_names != second.type_names:
        return []
    largest: dict[str, tuple[float, ...]] = {}  # of the difference and of both, by field
    for atoms in make_test_structures(first):
        predictions = predict(first, atoms), predict(second, atoms)
        for key in predictions[0].keys() & predictions[1].keys() & set(fields.LABELS):
            a, b = (prediction[key] for prediction in predictions)
            if not bool(a.isnan().all()):
                sizes = (float(x.abs().max()) for x in (a - b, a, b))
                so_far = largest.get(key, (0.0, 0.0, 0.0))
                largest[key] = tuple(max(pair) for pair in zip(so_far, sizes, strict=True))
    return [
        ModelDifference("predictions", key, f"largest {size_a:.4g}", f"largest {size_b:.4g}, difference {change:.2e}")
        for key in fields.LABELS
        if key in largest
        for change, size_a, size_b in [largest[key]]
        if change != 0.0
    ]
