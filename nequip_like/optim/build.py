"""From a config, or from a name, to an optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nequip_like.arguments import annotations_of, check
from nequip_like.errors import ConfigError, closest_hint, first_line
from nequip_like.instantiate import instantiate
from nequip_like.optim.compiled_adam import use_compiled_step
from nequip_like.optim.groups import check_groups, parameter_groups
from nequip_like.optim.matrices import MatrixOptimizer
from nequip_like.optim.muon import MuonAndAdamW
from nequip_like.optim.optax_amsgrad import OptaxAMSGrad
from nequip_like.optim.schedule_free import CLASSES, schedule_free_class
from nequip_like.optim.soap import SOAPAndAdamW

_KEY = "optimizer"
# What else decides how an optimizer updates its parameters; the fused form does all of them in one operation.
_FORMS = frozenset(("fused", "foreach", "capturable", "differentiable"))
WITH_FUSED_FORM = ("torch.optim.Adam", "torch.optim.AdamW")


@dataclass(frozen=True)
class _Named:
    """An optimizer: its name in messages, its class, and arguments that the name stands for."""

    name: str
    kind: type[torch.optim.Optimizer]
    fixed: Mapping[str, Any] = field(default_factory=dict)


def _list_torch_optimizers() -> dict[str, _Named]:
    classes = [getattr(torch.optim, name) for name in torch.optim.__all__]
    kinds = [kind for kind in classes if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)]
    # Of torch's Muon, which takes matrices only, there is one for all parameters here; SparseAdam has no use.
    left_out = (torch.optim.Optimizer, torch.optim.Muon, torch.optim.SparseAdam)
    return {kind.__name__.lower(): _Named(kind.__name__, kind) for kind in kinds if kind not in left_out}


_KNOWN = {
    **_list_torch_optimizers(),
    "amsgrad": _Named("AMSGrad", torch.optim.Adam, {"amsgrad": True}),
    "muon": _Named("Muon", MuonAndAdamW),
    "soap": _Named("SOAP", SOAPAndAdamW),
    "mlip": _Named("mlip", OptaxAMSGrad),
}
_SCHEDULE_FREE = ("ScheduleFreeAdamW", "ScheduleFreeSGD", "ScheduleFreeRAdam")
_NAMES = sorted([*(optimizer.name for optimizer in _KNOWN.values()), *_SCHEDULE_FREE], key=str.lower)


def Optimizer(  # noqa: N802 (the name that configs use)
    parameters: Iterable[Any], name: str, **arguments: Any
) -> torch.optim.Optimizer:
    """Build an optimizer by its name.

    Args:
        parameters: Parameters, or groups of them.
        name: In any case: any optimizer of torch, such as ``AdamW``, ``NAdam``, ``RAdam``, ``SGD``; ``AMSGrad`` (Adam
            with ``amsgrad``); ``Muon`` (:class:`~nequip_like.optim.muon.MuonAndAdamW`); ``SOAP``
            (:class:`~nequip_like.optim.soap.SOAPAndAdamW`); ``mlip``
            (:class:`~nequip_like.optim.optax_amsgrad.OptaxAMSGrad`); ``ScheduleFreeAdamW``, ``ScheduleFreeSGD``,
            ``ScheduleFreeRAdam`` of the library schedulefree.
        **arguments: Arguments of the optimizer.

    Raises:
        ConfigError: If there is no such optimizer, or an argument does not fit.

    Example:
        >>> optimizer = Optimizer([torch.zeros(3)], "adamw", lr=0.01, betas=[0.9, 0.99])
        >>> type(optimizer).__name__, optimizer.defaults["betas"]
        ('AdamW', (0.9, 0.99))
        >>> Optimizer([torch.zeros(3)], "sgd", learning_rate=0.01)
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: optimizer.learning_rate: SGD takes no 'learning_rate'
          -> ...
    """
    optimizer = find_optimizer(name)
    groups = list(parameters)
    annotations = _read_arguments(optimizer)
    for key, value in arguments.items():
        if key not in annotations:
            advice = closest_hint(key, annotations) or f"it takes {', '.join(annotations)}"
            raise ConfigError(f"{_KEY}.{key}: {optimizer.name} takes no '{key}'", advice)
        check(f"{_KEY}.{key}", value, annotations[key])
    options: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()
    }
    chosen = optimizer.kind in (torch.optim.Adam, torch.optim.AdamW) and _FORMS.isdisjoint(options)
    if chosen:
        options = choose_fused_form(options, groups)
    try:
        built = optimizer.kind(groups, **{**optimizer.fixed, **options})
        return use_compiled_step(built) if chosen else built
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{_KEY}: {optimizer.name} cannot be built: {first_line(error)}", f"it takes {', '.join(annotations)}"
        ) from error


def find_optimizer(name: Any) -> _Named:
    """The optimizer of a name.

    Raises:
        ConfigError: If there is none.

    Example:
        >>> find_optimizer("adam_w").kind.__name__, find_optimizer("AMSGrad").fixed
        ('AdamW', {'amsgrad': True})
    """
    spelling = str(name).lower().replace("_", "").replace("-", "").replace(" ", "")
    if spelling in _KNOWN:
        return _KNOWN[spelling]
    for short, kind in CLASSES.items():
        if spelling in (short, kind.lower()):
            return _Named(kind, schedule_free_class(kind))
    hint = closest_hint(name, _NAMES, any_case=True)
    raise ConfigError(f"{_KEY}.name is {name!r}", f"{hint}known are {', '.join(_NAMES)}")


def _read_arguments(optimizer: _Named) -> dict[str, Any]:
    """Annotations of the arguments that a user may give."""
    parameters = inspect.signature(optimizer.kind.__init__).parameters
    annotations = annotations_of(optimizer.kind.__init__)
    return {key: annotations.get(key, Any) for key in parameters if key not in ("self", "params", *optimizer.fixed)}


def choose_fused_form(arguments: Mapping[str, Any], parameters: Iterable[Any]) -> dict[str, Any]:
    """Let Adam and AdamW take their fused form, where there is one.

    Args:
        arguments: The arguments, which do not say how they work.
        parameters: Parameters, or groups of them: CPUs and CUDA have that form.
    """
    groups = [entry["params"] if isinstance(entry, Mapping) else [entry] for entry in parameters]
    devices = {tensor.device.type for group in groups for tensor in group if isinstance(tensor, Tensor)}
    return {**arguments, "fused": devices <= {"cpu", "cuda"}}


GROUP_KEYS = ("param_groups", "weight_decay_groups")  # of the section, which no optimizer takes


def build_optimizer(config: Mapping[str, Any], model: nn.Module) -> torch.optim.Optimizer:
    """Build any optimizer of torch, or one by its name (:func:`nequip_like.optim.build.Optimizer`).

    Adam and AdamW take a step of compiled code on CPUs (:mod:`nequip_like.optim.compiled_adam`), and torch's fused one
    on CUDA, unless the config says otherwise (``fused``, ``foreach``).

    Args:
        config: ``_target_`` and arguments; beside them ``param_groups`` and ``weight_decay_groups``, see
            :func:`~nequip_like.optim.groups.parameter_groups`. The former may also be a mapping with a
            ``_target_`` of its own: a function that is called with ``model=`` and returns parameters or groups of them.
        model: The model whose trainable parameters are optimised.

    Raises:
        ConfigError: If the config names no optimizer, or its arguments do not fit.

    Example:
        >>> config = {"_target_": "torch.optim.AdamW", "lr": 0.01, "weight_decay_groups": "no_bias"}
        >>> groups = build_optimizer(config, nn.Linear(3, 2)).param_groups
        >>> [(group["name"], len(group["params"]), group["weight_decay"]) for group in groups]
        [('main', 1, 0.01), ('main-no_decay', 1, 0.0)]
    """
    arguments = dict(config)
    rules, decay = (arguments.pop(key, None) for key in GROUP_KEYS)
    groups = parameter_groups(model, rules, "all" if decay is None else decay, by_matrix=_acts_on_matrices(arguments))
    parameters = groups[0]["params"] if len(groups) == 1 and groups[0].keys() == {"params"} else groups
    chosen = arguments.get("_target_") in WITH_FUSED_FORM and _FORMS.isdisjoint(arguments)
    if chosen:
        arguments = choose_fused_form(arguments, parameters)
    optimizer: torch.optim.Optimizer = instantiate(_KEY, arguments, parameters, kind=torch.optim.Optimizer)
    _check_options(optimizer, groups)
    return use_compiled_step(optimizer) if chosen else optimizer


def check_optimizer(config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Refuse what cannot be built, as far as it goes without a model.

    Returns:
        The optimizer of a single weight.

    Raises:
        ConfigError: As :func:`build_optimizer`.
    """
    alone = {key: value for key, value in config.items() if key not in GROUP_KEYS}
    rules, decay = (config.get(key) for key in GROUP_KEYS)
    read = check_groups(rules, "all" if decay is None else decay)
    optimizer = build_optimizer(alone, nn.Linear(1, 1, bias=False))
    options: list[Mapping[str, Any]] = [rule.options for rule in read or ()]
    _check_options(optimizer, [*options, {"weight_decay": 0.0} if decay not in (None, "all") else {}])
    return optimizer


def _check_options(optimizer: torch.optim.Optimizer, groups: Sequence[Mapping[str, Any]]) -> None:
    for option in ("lr", "weight_decay"):
        if option not in optimizer.defaults and any(option in group for group in groups):
            raise ConfigError(
                f"{_KEY}: {type(optimizer).__name__} has no {option}, so no group can have its own",
                "leave it out of param_groups and weight_decay_groups, or take another optimizer",
            )


def _acts_on_matrices(arguments: Mapping[str, Any]) -> bool:
    target = str(arguments.get("_target_")).rpartition(".")[2]
    if target == "Optimizer" and isinstance(arguments.get("name"), str):
        return issubclass(find_optimizer(arguments["name"]).kind, MatrixOptimizer)
    return target in (MuonAndAdamW.__name__, SOAPAndAdamW.__name__)
