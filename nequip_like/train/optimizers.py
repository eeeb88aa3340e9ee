"""From a config to an optimizer and a learning rate schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hydra.utils
import torch
from torch import nn
from torch.optim import Optimizer

from nequip_like.errors import ConfigError


def build_optimizer(config: Mapping[str, Any], model: nn.Module) -> Optimizer:
    """Build any torch optimizer.

    Args:
        config: ``_target_`` and arguments. ``param_groups``, if given, is a mapping with a ``_target_`` of its own: a
            function that is called with ``model=`` and returns parameters or parameter groups.
        model: The model whose trainable parameters are optimised.

    Raises:
        ConfigError: If the config names no optimizer, or its arguments do not fit.
    """
    arguments = dict(config)
    groups = arguments.pop("param_groups", None)
    parameters: Any = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ConfigError("the model has no trainable parameters", "leave 'train' out of run, or unfreeze parameters")
    if groups is not None:
        parameters = hydra.utils.instantiate(groups, model=model)
    optimizer = _instantiate("optimizer", arguments, parameters)
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(
            f"optimizer: {arguments.get('_target_')} is no torch optimizer", "for example torch.optim.Adam"
        )
    return optimizer


def build_scheduler(config: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Build a learning rate schedule in Lightning's form.

    Args:
        config: Either Lightning's mapping (``scheduler``, ``monitor``, ``interval``, ``frequency``) or the scheduler
            alone. A scheduler's ``schedulers`` are built first, so SequentialLR and ChainedScheduler can be nested.
        optimizer: The optimizer that is scheduled.

    Raises:
        ConfigError: If a scheduler cannot be built.
    """
    entry = dict(config) if "scheduler" in config else {"scheduler": config}
    entry["scheduler"] = _nested(entry["scheduler"], optimizer)
    return entry


def _nested(config: Mapping[str, Any], optimizer: Optimizer) -> Any:
    arguments = dict(config)
    children: Sequence[Mapping[str, Any]] | None = arguments.pop("schedulers", None)
    if children is None:
        return _instantiate("lr_scheduler", arguments, optimizer)
    built = [_nested(child, optimizer) for child in children]
    if "ChainedScheduler" in str(arguments.get("_target_")):
        return torch.optim.lr_scheduler.ChainedScheduler(built, optimizer=optimizer)
    return _instantiate("lr_scheduler", arguments, optimizer, schedulers=built)


def _instantiate(what: str, config: Mapping[str, Any], *positional: Any, **keywords: Any) -> Any:
    if "_target_" not in config:
        raise ConfigError(f"training_module.{what} has no _target_", "name a class, for example torch.optim.Adam")
    try:
        return hydra.utils.instantiate(dict(config), *positional, **keywords, _convert_="all")
    except hydra.errors.InstantiationException as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ConfigError(f"training_module.{what}: {config['_target_']} cannot be built: {cause}") from error
