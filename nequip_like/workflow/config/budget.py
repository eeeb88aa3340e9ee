"""What a budget of time changes in a config: what would go against it gives way, or is refused, and it is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nequip_like.errors import ConfigError
from nequip_like.optim.schedules.learning_rate import LearningRate
from nequip_like.training.budget.durations import Budget, read_budget
from nequip_like.workflow.config.packaged import read_packaged

_SCHEDULE = "training_module.lr_scheduler"
_REMEDY = "take lr_scheduler=anneal, or leave the budget out"
_STOPPING = ("EarlyStopping", "CriteriaStopping")
_LENGTH_OF_RUN = "${trainer.max_epochs}"


def budget_of(config: DictConfig) -> Budget | None:
    """The budget of a composed config; None if it has none.

    Raises:
        ConfigError: If it cannot be understood.
    """
    return read_budget(_to_plain(config.get("budget")))


def follow_budget(config: DictConfig) -> list[str]:
    """Let a config follow its budget, if it has one. Doing it twice changes nothing.

    - A length of ``${trainer.max_epochs}`` becomes that of the run.
    - ``trainer.max_epochs`` is no limit.
    - Early stopping is left out: it would cut off the last part, in which errors fall once more.

    Args:
        config: The composed config; it is changed.

    Returns:
        What was changed, in words.

    Raises:
        ConfigError: If the budget cannot be understood.
    """
    if budget_of(config) is None:
        return []
    notes = []
    with open_dict(config):
        module = config.get("training_module")
        schedule = None if module is None else module.get("lr_scheduler")
        if isinstance(schedule, DictConfig) and _to_plain(schedule).get("T_max") == _LENGTH_OF_RUN:
            schedule.T_max = None
        if (trainer := config.get("trainer")) is not None:
            if trainer.get("max_epochs") not in (None, -1, read_packaged("trainer/default.yaml")["max_epochs"]):
                notes.append(f"trainer.max_epochs={trainer.max_epochs} is no limit")
            trainer.max_epochs = -1
        callbacks = config.get("callbacks") or {}
        for name in list(callbacks):
            if str((callbacks[name] or {}).get("_target_")).endswith(_STOPPING):
                callbacks[name] = None
                notes.append(f"callbacks.{name} is left out, so that the end is not cut off")
    return notes


def check_budget(values: Mapping[str, Any], targets: Mapping[str, Any]) -> None:
    """Refuse a schedule that cannot follow a budget.

    Args:
        values: The values of the config.
        targets: What the ``_target_`` of each node names.

    Raises:
        ConfigError: Naming the key.
    """
    if read_budget(values.get("budget")) is None:
        return
    schedule = values["training_module"].get("lr_scheduler")
    if not isinstance(schedule, Mapping):
        return
    if targets.get(_SCHEDULE) is not LearningRate:
        node = schedule.get("scheduler", schedule)
        name = str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, Mapping) else ""
        raise ConfigError(f"{_SCHEDULE} is {name or 'a schedule'}, which cannot follow a budget of time", _REMEDY)
    kind = str(schedule.get("schedule", "constant")).lower()
    if schedule.get("monitor") is not None:
        raise ConfigError(f"{_SCHEDULE}.schedule is {kind}, which cannot follow a budget of time", _REMEDY)
    if (length := schedule.get("T_max")) is not None and not (isinstance(length, Mapping) and "share" in length):
        raise ConfigError(
            f"{_SCHEDULE}.T_max is given in epochs or steps, but budget says how long the run is",
            f"leave it to the budget: {_SCHEDULE}.T_max=null",
        )


def _to_plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
