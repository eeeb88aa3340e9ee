"""Which parameters are trained, by patterns of their names."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence

from torch import nn

from nequip_like.errors import ConfigError, closest_hint
from nequip_like.model.finetuning.tunable import find_tunable


def chosen_parameters(model: nn.Module, patterns: Sequence[str], key: str) -> list[str]:
    """Names of the parameters that patterns choose.

    A pattern with ``*``, ``?`` or ``[`` has to match a whole name; any other is a text that the name contains.

    Args:
        model: The model.
        patterns: The patterns.
        key: Key of the config that they stand under, for messages.

    Raises:
        ConfigError: For a pattern that matches no parameter.

    Example:
        A plain word is a part of a name; a pattern with a star has to match the whole:

        >>> model = nn.ModuleDict({"body": nn.Linear(1, 1), "readout": nn.Linear(1, 1)})
        >>> [chosen_parameters(model, [pattern], "finetune.train") for pattern in ("readout", "*.bias")]
        [['readout.weight', 'readout.bias'], ['body.bias', 'readout.bias']]
    """
    names = [name for name, _ in model.named_parameters()]
    matched: dict[str, None] = {}
    for pattern in patterns:
        matches = [name for name in names if fits_to_name(pattern, name)]
        if not matches:
            raise _explain_no_match(model, names, pattern, key)
        matched |= dict.fromkeys(matches)
    return [name for name in names if name in matched]


def fits_to_name(pattern: str, name: str) -> bool:
    """Whether a pattern fits to a parameter's name: it is a part of it, or with a ``*`` the whole.

    Example:
        >>> [fits_to_name(pattern, "readout.bias") for pattern in ("readout", "*.bias", "*.out")]
        [True, True, False]
    """
    return fnmatch.fnmatchcase(name, pattern) if any(sign in pattern for sign in "*?[") else pattern in name


def _explain_no_match(model: nn.Module, names: Sequence[str], pattern: str, key: str) -> ConfigError:
    parts = [part for part in dict.fromkeys(part for name in names for part in name.split(".")) if not part.isdigit()]
    fixed = [name for name, _ in model.named_buffers() if fits_to_name(pattern, name)]
    if fixed:
        family = find_tunable(model)
        switch = f"per_type_energy_{fixed[0].rpartition('.')[2]}_trainable"
        advice = f"write model.{switch}=true" if family and switch in family.switches else "leave it out"
        return ConfigError(f"{key}: '{pattern}' matches {fixed[0]}, which is not trained", advice)
    return ConfigError(
        f"{key}: no parameter of the model has '{pattern}' in its name",
        f"{closest_hint(pattern, parts)}names are made of {', '.join(parts)}",
    )


def train_only(model: nn.Module, names: Collection[str]) -> None:
    """Let gradients be asked of these parameters, and of no others.

    Args:
        model: The model; changed in place.
        names: Names of the parameters.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
