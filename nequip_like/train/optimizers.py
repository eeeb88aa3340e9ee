"""From a config to an optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from nequip_like.errors import ConfigError
from nequip_like.instantiate import instantiate
from nequip_like.train.muon import MuonAndAdamW
from nequip_like.train.named_optimizers import WITH_FUSED_FORM, find, with_fused_form
from nequip_like.train.parameter_groups import check_groups, parameter_groups

_OPTIMIZER = "training_module.optimizer"
GROUP_KEYS = ("param_groups", "weight_decay_groups")  # of the section, which no optimizer takes


def build_optimizer(config: Mapping[str, Any], model: nn.Module) -> Optimizer:
    """Build any optimizer of torch, or one by its name (:func:`nequip_like.train.named_optimizers.Optimizer`).

    Adam and AdamW take their fused form on CPUs and CUDA, unless the config says otherwise (``fused``, ``foreach``).

    Args:
        config: ``_target_`` and arguments; beside them ``param_groups`` and ``weight_decay_groups``, see
            :func:`~nequip_like.train.parameter_groups.parameter_groups`. The former may also be a mapping with a
            ``_target_`` of its own: a function that is called with ``model=`` and returns parameters or groups of them.
        model: The model whose trainable parameters are optimised.

    Raises:
        ConfigError: If the config names no optimizer, or its arguments do not fit.
    """
    arguments = dict(config)
    rules, decay = (arguments.pop(key, None) for key in GROUP_KEYS)
    groups = parameter_groups(model, rules, decay or "all", for_muon=_is_muon(arguments))
    parameters = groups[0]["params"] if len(groups) == 1 and groups[0].keys() == {"params"} else groups
    if arguments.get("_target_") in WITH_FUSED_FORM:
        arguments = with_fused_form(arguments, parameters)
    optimizer: Optimizer = instantiate(_OPTIMIZER, arguments, parameters, kind=Optimizer)
    _check_options(optimizer, groups)
    return optimizer


def check_optimizer(config: Mapping[str, Any]) -> Optimizer:
    """Refuse what cannot be built, as far as it goes without a model.

    Returns:
        The optimizer of a single weight.

    Raises:
        ConfigError: As :func:`build_optimizer`.
    """
    alone = {key: value for key, value in config.items() if key not in GROUP_KEYS}
    rules, decay = (config.get(key) for key in GROUP_KEYS)
    read = check_groups(rules, decay or "all")
    optimizer = build_optimizer(alone, nn.Linear(1, 1, bias=False))
    options: list[Mapping[str, Any]] = [rule.options for rule in read or ()]
    _check_options(optimizer, [*options, {"weight_decay": 0.0} if decay not in (None, "all") else {}])
    return optimizer


def _check_options(optimizer: Optimizer, groups: Sequence[Mapping[str, Any]]) -> None:
    for option in ("lr", "weight_decay"):
        if option not in optimizer.defaults and any(option in group for group in groups):
            raise ConfigError(
                f"{_OPTIMIZER}: {type(optimizer).__name__} has no {option}, so no group can have its own",
                "leave it out of param_groups and weight_decay_groups, or take another optimizer",
            )


def _is_muon(arguments: Mapping[str, Any]) -> bool:
    target = str(arguments.get("_target_")).rpartition(".")[2]
    if target == "Optimizer" and isinstance(arguments.get("name"), str):
        return find(arguments["name"]).kind is MuonAndAdamW
    return target == MuonAndAdamW.__name__
