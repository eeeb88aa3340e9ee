"""Builds a potential that is ready to predict from the config and the tensors of a file: the end of every loading."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nequip_like.errors import ModelFileError, NequipLikeError
from nequip_like.inference.device import resolve_device
from nequip_like.model.families import FAMILIES, Families, build, check_names, list_members
from nequip_like.model.potential import Potential
from nequip_like.nn.lora import merged_state

_SMALL = 128  # always within reach, and more than the tensors of the smallest models tell
_DIGITS = 18  # of a number; more are as good as infinite
_OTHER_VERSION = "the file is damaged, or was written by another version of nequip_like; export the model again"


def restore(
    config: Any,
    tensors: Mapping[str, Any],
    file: str,
    families: Families | None = None,
    device: str | torch.device = "cpu",
) -> Potential:
    """Build a potential and give it its weights.

    Nothing that the file names is imported: ``config`` names a family of :mod:`nequip_like.model.families`.

    Args:
        config: ``{"family": name, "arguments": {...}}``, not yet checked.
        tensors: The potential's ``state_dict``, adapted or not, not yet checked.
        file: The file, for messages.
        families: Builders of families by name, beside those that are built in.
        device: Where to put it, as for :func:`~nequip_like.inference.device.resolve_device`.

    Returns:
        The potential, in evaluation mode; its parameters do not require gradients.

    Raises:
        ConfigError: If there is no such device, or ``families`` is no mapping or has a name that is built in.
        ModelFileError: If the config cannot be built, or tensors are missing, too many, or of another shape or type.
    """
    target = resolve_device(device)
    tensors = merged_state(tensors, file)
    described = isinstance(config, Mapping) and isinstance(config.get("family"), str)
    if not described or not isinstance(config.get("arguments"), Mapping):
        raise ModelFileError(f"{file} does not describe its model", _OTHER_VERSION)
    for member in list_members(config):
        if not isinstance(member, Mapping) or not isinstance(member.get("arguments"), Mapping):
            raise ModelFileError(f"{file} does not describe its members", _OTHER_VERSION)
        if member.get("family") in FAMILIES:  # what the arguments of other families mean is not known here
            check_model_size(member["arguments"], tensors, file)
    check_names({} if families is None else families, "families")
    try:
        potential = build(config, families)
    except ModelFileError as error:
        raise ModelFileError(f"{file}: {error.message}", error.advice) from error
    except NequipLikeError as error:
        raise ModelFileError(f"{file}: its model cannot be built: {error.message}", _OTHER_VERSION) from error
    except (
        TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, ArithmeticError, MemoryError
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())
        raise ModelFileError(f"{file}: its model cannot be built: {reason}", _OTHER_VERSION) from error
    _check_tensors(potential.state_dict(), tensors, file)
    potential.load_state_dict(dict(tensors))
    return potential.to(target).requires_grad_(False).eval()


def check_model_size(arguments: Mapping[str, Any], tensors: Mapping[str, Any], file: str) -> None:
    """Refuse a model that is far larger than the weights that came with it: to build it could exhaust the memory.

    Each width of a model is the length of some tensor, or a factor of it, and each layer has tensors of its own.

    Args:
        arguments: What builds the model.
        tensors: The weights.
        file: The file, for messages.

    Raises:
        ModelFileError: Naming the argument.
    """
    values = [value for value in tensors.values() if isinstance(value, Tensor)]
    longest = max((length for value in values for length in value.shape), default=0)
    for name, value in arguments.items():
        if name == "seed":
            continue
        many = len(values) if "depth" in name else longest
        largest = _find_largest(value)
        if largest > max(many, _SMALL):
            raise ModelFileError(
                f"{file}: its model cannot be built: {name} has {largest:.6g}, but its tensors are not as large",
                _OTHER_VERSION,
            )


def _find_largest(value: Any) -> float:
    """The largest whole number, number in a string, or length of a list in an argument."""
    if isinstance(value, str):
        return float(max((int(digits[:_DIGITS]) for digits in re.findall(r"\d+", value)), default=0))
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence):
        return max([float(len(value)), *(_find_largest(entry) for entry in value)])
    return (
        float(value) if isinstance(value, int) and value < 10**_DIGITS else math.inf if isinstance(value, int) else 0.0
    )


def _check_tensors(expected: Mapping[str, Tensor], tensors: Mapping[str, Any], file: str) -> None:
    if missing := sorted(expected.keys() - tensors.keys()):
        raise ModelFileError(
            f"{file} lacks {len(missing)} tensors of its model, such as '{missing[0]}'", _OTHER_VERSION
        )
    if extra := sorted(tensors.keys() - expected.keys()):
        raise ModelFileError(f"{file} has tensors that its model does not, such as '{extra[0]}'", _OTHER_VERSION)
    for name, tensor in expected.items():
        value = tensors[name]
        if not isinstance(value, Tensor) or value.shape != tensor.shape or value.dtype != tensor.dtype:
            is_now = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise ModelFileError(
                f"{file}: tensor '{name}' is {is_now}, but its model needs {tuple(tensor.shape)} {tensor.dtype}",
                _OTHER_VERSION,
            )
