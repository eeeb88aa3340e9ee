"""From a config to an optimizer and a learning rate schedule."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from nequip_like.arguments import Count, check
from nequip_like.errors import ConfigError
from nequip_like.instantiate import instantiate

_OPTIMIZER = "training_module.optimizer"
# Optimizers with a form that updates all parameters in one operation, and what else decides how they do it.
_WITH_FUSED_FORM = ("torch.optim.Adam", "torch.optim.AdamW")
_FORMS = ("fused", "foreach", "capturable", "differentiable")
_SCHEDULER = "training_module.lr_scheduler"
_SCHEDULER_KEYS = ("scheduler", "monitor", "interval", "frequency", "strict", "name")


def build_optimizer(config: Mapping[str, Any], model: nn.Module) -> Optimizer:
    """Build any torch optimizer.

    Adam and AdamW take their fused form on CPUs and CUDA, unless the config says otherwise (``fused``, ``foreach``).

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
    on_known_devices = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    if arguments.get("_target_") in _WITH_FUSED_FORM and not any(form in arguments for form in _FORMS):
        arguments["fused"] = on_known_devices
    if groups is not None:
        parameters = instantiate(f"{_OPTIMIZER}.param_groups", groups, model=model)
    optimizer: Optimizer = instantiate(_OPTIMIZER, arguments, parameters, kind=Optimizer)
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
    entry = dict(config) if isinstance(config, Mapping) and "scheduler" in config else {"scheduler": config}
    if unknown := [key for key in entry if key not in _SCHEDULER_KEYS]:
        raise ConfigError(
            f"training_module.lr_scheduler has the unknown key '{unknown[0]}'",
            f"known are {', '.join(_SCHEDULER_KEYS)}",
        )
    for key, annotation in (("interval", Literal["epoch", "step"]), ("frequency", Count)):
        if key in entry:
            check(f"{_SCHEDULER}.{key}", entry[key], annotation)
    entry["scheduler"] = _nested(entry["scheduler"], optimizer)
    return entry


class PlateauSchedule:
    """A schedule that follows a metric, stepped by the Lightning module before a checkpoint is written.

    Lightning steps it after that, so a resumed run would miss a step, and stops where the epoch had no validation. Here
    it is stepped at the end of an epoch, or before the first batch after a step, and only if there is a value.

    Args:
        scheduler: The schedule.
        monitor: Name of the logged value that it follows.
        frequency: Step at every n-th epoch or optimizer step.
        by_steps: Count optimizer steps instead of epochs.

    Attributes:
        done: Number of the epoch or optimizer step after which it was stepped last, from 1.
    """

    def __init__(
        self, scheduler: ReduceLROnPlateau, monitor: str, frequency: int = 1, *, by_steps: bool = False
    ) -> None:
        self.scheduler = scheduler
        self.monitor = monitor
        self.frequency = frequency
        self.by_steps = by_steps
        self.done = 0

    @classmethod
    def take_over(cls, entry: dict[str, Any]) -> PlateauSchedule | None:
        """Take the steps out of Lightning's hands, which then only saves and restores the schedule.

        Args:
            entry: What :func:`build_scheduler` gave; its ``frequency`` is changed.

        Returns:
            None if the schedule follows no metric.

        Raises:
            ConfigError: If it follows a metric that is not named.
        """
        if not isinstance(entry["scheduler"], ReduceLROnPlateau):
            return None
        if not entry.get("monitor"):
            raise ConfigError(
                "training_module.lr_scheduler.monitor is not given",
                "name the value that ReduceLROnPlateau follows: {scheduler: {...}, monitor: val0_epoch/weighted_sum}",
            )
        by_steps = entry.get("interval", "epoch") == "step"
        own = cls(entry["scheduler"], str(entry["monitor"]), int(entry.get("frequency", 1)), by_steps=by_steps)
        entry["frequency"] = sys.maxsize
        return own

    def after_epoch(self, values: Mapping[str, Any], number: int, validated: bool) -> None:
        """Step at the end of an epoch, if it goes by epochs.

        Args:
            values: All logged values.
            number: Number of epochs that are done.
            validated: Whether there was a validation in this one.

        Raises:
            ConfigError: If the monitored value was never logged.
        """
        if not self.by_steps and (validated or not self._follows_validation):
            self._step(values, number)

    def after_step(self, values: Mapping[str, Any], number: int) -> None:
        """Step after an optimizer step, if it goes by steps; before the first validation there is nothing to follow.

        Args:
            values: All logged values.
            number: Number of optimizer steps that are done; the same number again does nothing.

        Raises:
            ConfigError: If the monitored value was never logged.
        """
        if self.by_steps and number > self.done and (self.monitor in values or not self._follows_validation):
            self._step(values, number)

    @property
    def _follows_validation(self) -> bool:
        return self.monitor.startswith("val")

    def _step(self, values: Mapping[str, Any], number: int) -> None:
        if number % self.frequency:
            return
        if self.monitor not in values:
            raise ConfigError(
                f"training_module.lr_scheduler follows '{self.monitor}', which is not logged",
                f"there are {', '.join(values)}",
            )
        self.scheduler.step(values[self.monitor])
        self.done = number


def _nested(config: Mapping[str, Any], optimizer: Optimizer) -> Any:
    arguments = dict(config) if isinstance(config, Mapping) else {}
    children = arguments.pop("schedulers", None)
    if children is None:
        return instantiate(_SCHEDULER, arguments, optimizer)
    check(f"{_SCHEDULER}.schedulers", children, Sequence[Mapping[str, Any]])
    built = [_nested(child, optimizer) for child in children]
    if "ChainedScheduler" in str(arguments.get("_target_")):
        return torch.optim.lr_scheduler.ChainedScheduler(built, optimizer=optimizer)
    return instantiate(_SCHEDULER, arguments, optimizer, schedulers=built)
