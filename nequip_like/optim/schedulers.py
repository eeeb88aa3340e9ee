"""From a config to a learning rate schedule, stepped where Lightning's way would not survive a resume."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from nequip_like.arguments import Count, check, check_known_keys
from nequip_like.errors import ConfigError, naming
from nequip_like.instantiate import instantiate
from nequip_like.optim.schedules.learning_rate import LearningRate

SCHEDULER = "lr_scheduler"
_SCHEDULER_KEYS = ("scheduler", "monitor", "interval", "frequency", "strict", "name")


def build_scheduler(config: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Build a learning rate schedule in Lightning's form.

    Args:
        config: Either Lightning's mapping (``scheduler``, ``monitor``, ``interval``, ``frequency``) or the scheduler
            alone. A scheduler's ``schedulers`` are built first, so SequentialLR and ChainedScheduler can be nested.
        optimizer: The optimizer that is scheduled.

    Raises:
        ConfigError: If a scheduler cannot be built.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> config = {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 5}
        >>> entry = build_scheduler({"scheduler": config, "interval": "step"}, optimizer)
        >>> type(entry["scheduler"]).__name__, entry["interval"]
        ('StepLR', 'step')
    """
    entry = dict(config) if isinstance(config, Mapping) and "scheduler" in config else {"scheduler": config}
    check_known_keys(SCHEDULER, entry, _SCHEDULER_KEYS)
    for key, annotation in (("interval", Literal["epoch", "step"]), ("frequency", Count)):
        if key in entry:
            check(f"{SCHEDULER}.{key}", entry[key], annotation)
    entry["scheduler"] = _build_nested(entry["scheduler"], optimizer)
    if isinstance(entry["scheduler"], LearningRate):
        if beside := [key for key in entry if key != "scheduler"]:
            raise ConfigError(
                f"{SCHEDULER} has '{beside[0]}' beside a LearningRate, which goes by optimizer steps",
                f"write the keys of LearningRate directly under {SCHEDULER}; for a plateau these are monitor, "
                "monitor_interval and monitor_frequency",
            )
        entry |= {"interval": "step", "frequency": 1}
    return entry


class PlateauSchedule:
    """A schedule that follows a metric, stepped by the Lightning module before a checkpoint is written.

    Lightning steps it after that, so a resumed run would miss a step, and stops where the epoch had no validation. Here
    it is stepped at the end of an epoch, or before the first batch after a step, and only if there is a new value: each
    time that the value is logged counts once, however many epochs or steps lie between.

    Args:
        scheduler: The schedule.
        monitor: Name of the logged value that it follows.
        frequency: Look for a new value at every n-th epoch or optimizer step; of several since then, the last counts.
        by_steps: Count optimizer steps instead of epochs.

    Attributes:
        done: Number of the epoch or optimizer step after which it was stepped last, from 1.
        waiting: Whether the value was logged since then.
    """

    def __init__(
        self,
        scheduler: ReduceLROnPlateau | LearningRate,
        monitor: str,
        frequency: int = 1,
        *,
        by_steps: bool = False,
    ) -> None:
        self.scheduler = scheduler
        self.monitor = monitor
        self.frequency = frequency
        self.by_steps = by_steps
        self.done = 0
        self.waiting = False

    @classmethod
    def take_over(cls, entry: dict[str, Any]) -> PlateauSchedule | None:
        """Take the steps out of Lightning's hands, which then only saves and restores the schedule.

        Args:
            entry: What :func:`build_scheduler` gave; its ``frequency`` is changed. Lightning goes on to count the
                steps of a :class:`~nequip_like.optim.schedules.learning_rate.LearningRate`.

        Returns:
            None if the schedule follows no metric.

        Raises:
            ConfigError: If it follows a metric that is not named.
        """
        scheduler = entry["scheduler"]
        if isinstance(scheduler, LearningRate):
            if scheduler.monitor is None:
                return None
            return cls(scheduler, scheduler.monitor, scheduler.monitor_frequency, by_steps=scheduler.monitor_by_steps)
        if not isinstance(scheduler, ReduceLROnPlateau):
            return None
        if not entry.get("monitor"):
            raise ConfigError(
                f"{SCHEDULER}.monitor is not given",
                "name the value that ReduceLROnPlateau follows: {scheduler: {...}, monitor: val0_epoch/weighted_sum}",
            )
        by_steps = entry.get("interval", "epoch") == "step"
        plateau = cls(scheduler, str(entry["monitor"]), int(entry.get("frequency", 1)), by_steps=by_steps)
        entry["frequency"] = sys.maxsize
        return plateau

    def note(self, name: str) -> None:
        """Take note that a value was logged."""
        self.waiting = self.waiting or name == self.monitor

    def after_epoch(self, values: Mapping[str, Any], number: int, validated: bool) -> None:
        """Step at the end of an epoch, if it goes by epochs and there is a new value.

        Args:
            values: All logged values.
            number: Number of epochs that are done.
            validated: Whether there was a validation in this one.

        Raises:
            ConfigError: If the monitored value was never logged.
        """
        if self.monitor not in values and (validated or not self.monitor.startswith("val")):
            raise ConfigError(
                f"{SCHEDULER} follows '{self.monitor}', which is not logged",
                f"there are {', '.join(values)}",
            )
        if not self.by_steps:
            self._follow_monitor(values, number)

    def after_step(self, values: Mapping[str, Any], number: int) -> None:
        """Step after an optimizer step, if it goes by steps and there is a new value.

        Args:
            values: All logged values.
            number: Number of optimizer steps that are done; the same number again does nothing.
        """
        if self.by_steps and number > self.done:
            self._follow_monitor(values, number)

    @property
    def over(self) -> str | None:
        """Why the training ends; None as long as it goes on."""
        return self.scheduler.over if isinstance(self.scheduler, LearningRate) else None

    def _follow_monitor(self, values: Mapping[str, Any], number: int) -> None:
        if not self.waiting or number % self.frequency or self.monitor not in values:
            return
        follow = self.scheduler.follow if isinstance(self.scheduler, LearningRate) else self.scheduler.step
        follow(values[self.monitor])
        self.done = number
        self.waiting = False


def _build_nested(config: Mapping[str, Any], optimizer: Optimizer) -> Any:
    arguments = dict(config) if isinstance(config, Mapping) else {}
    children = arguments.pop("schedulers", None)
    if children is None:
        with naming(SCHEDULER):
            return instantiate(SCHEDULER, arguments, optimizer)
    check(f"{SCHEDULER}.schedulers", children, Sequence[Mapping[str, Any]])
    schedulers = [_build_nested(child, optimizer) for child in children]
    if any(isinstance(child, LearningRate) for child in schedulers):
        raise ConfigError(
            f"{SCHEDULER}.schedulers has a LearningRate, which is a whole schedule",
            f"write its keys directly under {SCHEDULER}",
        )
    if "ChainedScheduler" in str(arguments.get("_target_")):
        return torch.optim.lr_scheduler.ChainedScheduler(schedulers, optimizer=optimizer)
    return instantiate(SCHEDULER, arguments, optimizer, schedulers=schedulers)
