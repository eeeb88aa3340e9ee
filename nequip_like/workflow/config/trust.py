"""What a config may name in a ``_target_``: code of trusted packages only. Nothing else is even imported.

A name that begins with a trusted package is not enough: ``torch.os.system`` is ``posix.system``. So the object is
looked up, and the module that defines it counts as well. Of other people's packages a config may build the few kinds of
objects that a run is made of, not call functions: ``torch.load`` and ``torch.hub.load`` run code out of files.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import logging.handlers
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from nequip_like.errors import ConfigError, closest_hint, first_line
from nequip_like.moved import GONE, find_current_name

OWN = "nequip_like"
THIRD_PARTY = ("torch", "lightning", "torchmetrics", "ase")
HYDRA = ("hydra", "hydra_plugins")
#: The one part of this package that Hydra may be given: the search of ``hydra/sweeper=optuna``.
OWN_SWEEPER = f"{OWN}.cli.sweeps.optuna_sweeper.OptunaSweeper"

# Of the package itself: what runs whole jobs or builds anything.
_NOT_FOR_CONFIGS = tuple(
    f"{OWN}.{room}" for room in ("cli", "composition", "compat", "workflow", "instantiate", "whole_files")
)
# Base classes by name, so that looking at hydra's own part of a config needs no torch.
_KINDS = (
    "torch.optim.optimizer.Optimizer",
    "torch.optim.lr_scheduler.LRScheduler",
    "torchmetrics.metric.Metric",
    "lightning.pytorch.callbacks.callback.Callback",
    "lightning.pytorch.loggers.logger.Logger",
    "lightning.pytorch.trainer.trainer.Trainer",
)
# Metrics of texts and images load networks from files or from the net.
_METRICS = ("torchmetrics.regression", "torchmetrics.aggregation", "torchmetrics.wrappers")
#: What to do about a package that is not there. Unlike Python itself, the commands do not look into the current folder.
NOT_INSTALLED = "install it; for a file of the current folder begin the command with PYTHONPATH=."
_MEANT = {"nequip": "nequip_like", "pytorch_lightning": "lightning.pytorch"}
_LOGGING_PACKAGES = ("logging", "colorlog", "rich")
_LOGGING_KINDS = (logging.Handler, logging.Formatter, logging.Filter)


def within(name: str, packages: Sequence[str]) -> bool:
    """Whether a dotted name is one of the packages, or inside of one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def user_packages(value: Any) -> tuple[str, ...]:
    """The packages of ``trusted_packages``, checked.

    Raises:
        ConfigError: If it is no list of names, or has a part of Python itself.
    """
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"trusted_packages is {value!r}", "give a list of names: trusted_packages: [my_package]")
    for name in value:
        if name.split(".")[0] in (*sys.stdlib_module_names, *HYDRA):
            raise ConfigError(
                f"trusted_packages has '{name}', whose functions run anything",
                "list packages of your own only",
            )
    return tuple(value)


def look_up(node_key: str, target: Any, trusted: Sequence[str] = ()) -> Any:
    """Look up the class or function that a ``_target_`` names.

    Args:
        node_key: Key of the node, for messages.
        target: The dotted name.
        trusted: The user's packages.

    Raises:
        ConfigError: If it is not trusted, does not exist, or is nothing that could be called.
    """
    key = f"{node_key}._target_"
    if not isinstance(target, str) or "." not in target or not all(map(str.isidentifier, target.split("."))):
        raise ConfigError(f"{key} is {target!r}", "give the whole name of a class, such as torch.optim.Adam")
    target = find_current_name(target)
    if target in GONE:
        raise ConfigError(f"{key} is '{target}', which there is no more", GONE[target])
    packages = (OWN, *THIRD_PARTY, *trusted)
    _check_package(key, target, packages)
    definition = _walk(key, target, packages)
    home = _find_home(definition)
    if not within(home, packages):
        raise ConfigError(
            f"{key} is '{target}', which belongs to {home or 'no package'}, not to a trusted package",
            f"trusted are {', '.join(packages)}",
        )
    if not callable(definition):
        raise ConfigError(f"{key} is '{target}', a {type(definition).__name__}", "name a class or a function")
    if not within(home, trusted):
        _check_kind(key, target, definition, home)
    return definition


def _check_package(key: str, target: str, packages: Sequence[str]) -> None:
    if within(target, packages):
        return
    root, _, module_path = target.partition(".")
    if root in _MEANT:
        advice = f"write {_MEANT[root]}.{module_path}"
    elif root in sys.stdlib_module_names:
        advice = "a config may not name parts of Python itself"
    else:
        hint = closest_hint(root, packages)
        advice = f"{hint}if you know what this code does, write trusted_packages: [{root}]"
    raise ConfigError(f"{key} is '{target}', which is in no trusted package", advice)


def _walk(key: str, target: str, packages: Sequence[str]) -> Any:
    """Look the name up part by part, and stop before anything that is not trusted is imported."""
    parts = target.split(".")
    member: Any = _import_module(key, parts[0], target)
    for i, part in enumerate(parts[1:], 1):
        owner = member
        try:
            member = getattr(owner, part)
        except AttributeError:
            name = ".".join(parts[: i + 1])
            member = _import_module(key, name, target) if isinstance(owner, ModuleType) else None
            if member is None:
                names = vars(owner) if isinstance(owner, ModuleType) else dir(owner)  # not what is offered lazily
                close = closest_hint(part, [name for name in names if not name.startswith("_")], any_case=True)
                raise ConfigError(
                    f"{key} is '{target}', but {'.'.join(parts[:i])} has no '{part}'",
                    close.strip() or "see the documentation of the package",
                ) from None
        if isinstance(member, ModuleType) and not within(member.__name__, packages):
            raise ConfigError(
                f"{key} is '{target}', which leads to {member.__name__}, not to a trusted package",
                f"trusted are {', '.join(packages)}",
            )
    return member


def _import_module(key: str, name: str, target: str) -> ModuleType | None:
    """Import a module by its name; None if there is none."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name) and "." in name:
            return None
        raise ConfigError(f"{key} is '{target}', but there is no package '{error.name}'", NOT_INSTALLED) from error
    except ImportError as error:
        raise ConfigError(f"{key} is '{target}', which cannot be imported: {first_line(error)}") from error


def _find_home(definition: Any) -> str:
    """Find the name of the module in which an object was defined."""
    inner = inspect.unwrap(getattr(definition, "__func__", definition))
    if not (inspect.isclass(inner) or inspect.isroutine(inner)):
        inner = type(inner)
    return str(getattr(inner, "__module__", None) or "")


def _check_kind(key: str, target: str, definition: Any, home: str) -> None:
    if within(home, (OWN,)):
        if within(home, _NOT_FOR_CONFIGS):
            raise ConfigError(f"{key} is '{target}', which is no part of a run", "name a part of a run")
        return
    bases = [f"{base.__module__}.{base.__qualname__}" for base in getattr(definition, "__mro__", ())]
    is_metric = _KINDS[2] in bases
    if not any(base in _KINDS for base in bases) or (is_metric and not within(home, _METRICS)):
        raise ConfigError(
            f"{key} is '{target}', which a config may not call",
            f"of {', '.join(THIRD_PARTY)} it may build optimizers, schedules, metrics of numbers, callbacks, loggers "
            "and the trainer",
        )


# --- Hydra's own part of the config


def check_hydra(hydra: Mapping[str, Any], trusted: Sequence[str] = ()) -> None:
    """Refuse what a config could make Hydra itself call: callbacks, plugins, handlers of its logging.

    Args:
        hydra: The section ``hydra`` as plain values.
        trusted: The user's packages.

    Raises:
        ConfigError: Naming the key.
    """
    for key, node in nodes(hydra, "hydra"):
        target = node["_target_"]
        if key == "hydra.sweeper" and target == OWN_SWEEPER:
            continue
        if not isinstance(target, str) or not within(target, (*HYDRA, *trusted)):
            raise ConfigError(
                f"{key}._target_ is '{target}', which is in no trusted package",
                "Hydra may be given its own callbacks and plugins only",
            )
        definition = _walk(f"{key}._target_", target, (*HYDRA, *trusted))
        if not inspect.isclass(definition) or not within(_find_home(definition), (*HYDRA, *trusted)):
            raise ConfigError(f"{key}._target_ is '{target}', which a config may not call", "name a class of Hydra")
    for section in ("job_logging", "hydra_logging"):
        _check_logging(f"hydra.{section}", hydra.get(section))


def _check_logging(key: str, value: Any) -> None:
    """``logging.config`` calls whatever stands under ``()`` and ``class``, and imports what ``ext://`` names."""
    if isinstance(value, Mapping):
        for name, entry in value.items():
            if name in ("()", "class"):
                _check_handler(f"{key}.{name}", entry)
            _check_logging(f"{key}.{name}", entry)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for i, entry in enumerate(value):
            _check_logging(f"{key}[{i}]", entry)
    elif (
        isinstance(value, str) and value.startswith("ext://") and value not in ("ext://sys.stdout", "ext://sys.stderr")
    ):
        raise ConfigError(f"{key} is '{value}'", "write ext://sys.stdout or ext://sys.stderr")


def _check_handler(key: str, target: Any) -> None:
    if isinstance(target, str) and within(target, _LOGGING_PACKAGES):
        kind = _walk(key, target, _LOGGING_PACKAGES)
        # A QueueHandler calls what its further keys name.
        if inspect.isclass(kind) and issubclass(kind, _LOGGING_KINDS) and kind is not logging.handlers.QueueHandler:
            return
    raise ConfigError(f"{key} is '{target}', which is no part of logging", "name a handler or a formatter of logging")


def nodes(value: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All mappings with a ``_target_``, at any depth, with their dotted keys."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield key, value
        for name, entry in value.items():
            yield from nodes(entry, f"{key}.{name}" if key else str(name))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for i, entry in enumerate(value):
            yield from nodes(entry, f"{key}[{i}]")
