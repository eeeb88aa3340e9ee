"""The arguments of a class or function as a config may give them, also those that it hands on to others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_origin

from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry

from nequip_like.arguments import (
    NOT_KNOWN_YET,
    ArgumentsOf,
    Count,
    Form,
    NotNegative,
    Positive,
    Range,
    annotations_of,
    check,
)
from nequip_like.errors import ConfigError, closest_hint
from nequip_like.moved import GONE_ARGUMENTS

# Keys of a node that are not arguments: they tell how the object is built.
_HOW_TO_BUILD = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


@dataclass
class Arguments:
    """What a class or function takes.

    Attributes:
        annotations: Annotation of each argument by name.
        defaults: Defaults; required arguments are not in it.
        positional: Names of the arguments that may be given without a name, in order.
        open: Whether there may be others, that nobody can tell.
    """

    annotations: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    positional: list[str] = field(default_factory=list)
    open: bool = False


def arguments_of(target: Callable[..., Any], is_ours: Callable[[str], bool]) -> Arguments:
    """Arguments of a class or function.

    ``**arguments`` are followed: to the function that an annotation :class:`~nequip_like.arguments.ArgumentsOf` names,
    or from a class of ours to the next ``__init__`` of its bases, as ``super().__init__(**arguments)`` does. Elsewhere
    nobody can tell where they go, and any name is welcome.

    Args:
        target: The class or function.
        is_ours: Whether classes of a module keep to this habit, by the module's name.
    """
    if not inspect.isclass(target):
        return _read_function_arguments(target, lambda: None)
    owners = [base for base in target.__mro__ if "__init__" in vars(base) and base is not object]
    return _read_class_arguments(owners, is_ours) if owners else Arguments()


def _read_class_arguments(owners: list[type], is_ours: Callable[[str], bool]) -> Arguments:
    def read_bases() -> Arguments | None:
        return _read_class_arguments(owners[1:], is_ours) if len(owners) > 1 and is_ours(owners[0].__module__) else None

    result = _read_function_arguments(vars(owners[0])["__init__"], read_bases)
    itself = result.positional.pop(0) if result.positional else ""
    result.annotations.pop(itself, None)
    return result


def _read_function_arguments(function: Callable[..., Any], read_bases: Callable[[], Arguments | None]) -> Arguments:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return Arguments(open=True)  # written in C
    annotations, result = annotations_of(function), Arguments()
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            _add(result, _follow_annotation(function, annotations.get(name, Any), read_bases))
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            result.annotations[name] = annotations.get(name, Any)
            if parameter.default is not parameter.empty:
                result.defaults[name] = parameter.default
            if parameter.kind is not parameter.KEYWORD_ONLY:
                result.positional.append(name)
    return result


def _follow_annotation(
    function: Callable[..., Any], annotation: Any, read_bases: Callable[[], Arguments | None]
) -> Arguments | None:
    marks = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    for mark in marks:
        if isinstance(mark, ArgumentsOf):
            forwarded = _read_function_arguments(inspect.unwrap(function).__globals__[mark.name], lambda: None)
            forwarded.annotations = {name: kind for name, kind in forwarded.annotations.items() if name not in mark.but}
            return forwarded
    return read_bases()


def _add(result: Arguments, forwarded: Arguments | None) -> None:
    """Add the arguments that a function hands on; its own come first."""
    if forwarded is None:
        result.open = True
        return
    for name, annotation in forwarded.annotations.items():
        if name not in result.annotations:
            result.annotations[name] = annotation
            if name in forwarded.defaults:
                result.defaults[name] = forwarded.defaults[name]
    result.open = forwarded.open


def check_node(
    node_key: str,
    node: Mapping[str, Any],
    arguments: Arguments,
    *,
    supplied: Collection[str] = (),
    num_positional: int = 0,
    extra: Collection[str] = (),
    limits: Mapping[str, Any] | None = None,
    elsewhere: Callable[[str], str] = lambda name: "",
) -> list[str]:
    """Check the arguments of a node: names, types and ranges, and that none is missing.

    Args:
        node_key: Key of the node.
        node: The node, with its ``_target_``.
        arguments: What its class or function takes.
        supplied: Arguments that the code supplies.
        num_positional: How many arguments the code supplies without a name.
        extra: Keys of the node that are not for its class.
        limits: Annotations to use in place of the class's own.
        elsewhere: Advice for a name that the class does not take, if it could be meant for another part.

    Returns:
        Names that the class may or may not take: nobody can tell.

    Raises:
        ConfigError: Naming the key.
    """
    by_code = arguments.positional[:num_positional]
    entries = {key: value for key, value in node.items() if key not in (*_HOW_TO_BUILD, *extra)}
    unsure = []
    for name, value in entries.items():
        if name not in arguments.annotations:
            if not arguments.open:
                raise unknown_argument(
                    node_key, name, node["_target_"], arguments, (*supplied, *by_code), elsewhere(name)
                )
            unsure.append(name)
        annotation = (limits or {}).get(name, arguments.annotations.get(name, Any))
        if not _is_default(value, arguments.defaults.get(name, NOT_KNOWN_YET)):
            check(f"{node_key}.{name}", value, annotation)
    num_positional += len(node.get("_args_") or ())
    missing = [
        name
        for name in arguments.annotations
        if name not in arguments.defaults
        and name not in entries
        and name not in supplied
        and name not in arguments.positional[:num_positional]
    ]
    if missing and not node.get("_partial_"):
        raise ConfigError(
            f"{node_key} has no '{missing[0]}', which {_shorten_target(node['_target_'])} needs", "give it"
        )
    return unsure


def unknown_argument(
    node_key: str, name: str, target: str, arguments: Arguments, by_code: Collection[str] = (), elsewhere: str = ""
) -> ConfigError:
    """The error for an argument that a class does not take.

    Args:
        node_key: Key of the node.
        name: The argument.
        target: The class.
        arguments: What the class takes.
        by_code: Arguments that are not the user's to give.
        elsewhere: Advice, if the name could be meant for another part.
    """
    accepted = sorted(name for name in arguments.annotations if not name.startswith("_") and name not in by_code)
    short = _shorten_target(target)
    advice = (
        GONE_ARGUMENTS.get((short, name))
        or closest_hint(name, accepted).strip()
        or elsewhere.strip()
        or f"it takes {', '.join(accepted) or 'nothing'}"
    )
    return ConfigError(f"{node_key}.{name}: {short} takes no '{name}'", advice)


def _is_default(value: Any, default: Any) -> bool:
    return type(value) is type(default) and value == default


def _shorten_target(target: str) -> str:
    return target.rpartition(".")[2]


_Endless = Literal[-1] | Count
_Share = Annotated[float, Range(low=0, high=1)]
_Fraction = Annotated[float, Range(low=0, high=1, low_open=True)]
_Time = Annotated[str, Form(r"\d+:\d\d:\d\d:\d\d", 'a time as "DD:HH:MM:SS", such as "00:12:00:00"')]
_Numbers = Annotated[str, Form(r"\d+(,\d+)*", "numbers of devices")]
_Devices = Literal["auto", -1, "-1"] | Count | _Numbers | list[NotNegative]


def limits_of(key: str) -> dict[str, Any]:
    """Annotations for arguments of a section, in place of those of its class.

    Args:
        key: The section: ``trainer``, ``training_module.optimizer``, ``callbacks.NAME``, ...
    """
    if key == "trainer":
        return _list_trainer_limits()
    if key.startswith("callbacks."):
        return _CALLBACK
    return _OPTIMIZER if key == "training_module.optimizer" else {}


def _list_trainer_limits() -> dict[str, Any]:
    limits = {
        "max_epochs": _Endless,
        "min_epochs": NotNegative | None,
        "max_steps": _Endless,
        "min_steps": NotNegative | None,
        "max_time": _Time | dict[str, int] | None,
        "devices": _Devices,
        "num_nodes": Count,
        "check_val_every_n_epoch": Count | None,
        "val_check_interval": Count | _Fraction | _Time | None,
        "log_every_n_steps": NotNegative | None,
        "num_sanity_val_steps": Literal[-1] | NotNegative,
        "accumulate_grad_batches": Count,
        "gradient_clip_val": Positive | None,
        "gradient_clip_algorithm": Literal["norm", "value"] | None,
        "accelerator": Literal[("auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators()))],
        "strategy": Literal[("auto", *sorted(StrategyRegistry.available_strategies()))],
    }
    for stage in ("train", "val", "test", "predict"):
        limits[f"limit_{stage}_batches"] = NotNegative | _Share | None
    return limits


_CALLBACK = {
    "patience": NotNegative,
    "min_delta": Annotated[float, Range(low=0)],
    "mode": Literal["min", "max"],
    "save_top_k": Literal[-1] | NotNegative,
    "every_n_epochs": NotNegative | None,
    "every_n_train_steps": NotNegative | None,
}
_OPTIMIZER = {"lr": Positive, "weight_decay": Annotated[float, Range(low=0)]}
