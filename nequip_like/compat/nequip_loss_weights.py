"""NequIP's schedulers of the loss's coefficients, as one LossWeightSchedule with the same values in each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nequip_like.compat.nequip_names import class_name, is_target
from nequip_like.errors import ConfigError, closest_hint

_ARGUMENTS = {
    "LossCoefficientScheduler": ("schedule",),
    "LinearLossCoefficientScheduler": ("final_coeffs", "transition_epochs", "start_epoch"),
}
_SCHEDULE = "nequip_like.training.callbacks.LossWeightSchedule"


def is_scheduler(node: Any) -> bool:
    """Whether a callback's node is one of NequIP's two schedulers, by NequIP's name or by that of earlier versions."""
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return is_target(target) and class_name(target) in _ARGUMENTS


def merge_schedulers(callbacks: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """The callbacks, with one LossWeightSchedule in place of all schedulers.

    Args:
        callbacks: The nodes by name; values of the schedulers are resolved.
        notes: What a user should know is added here.

    Raises:
        ConfigError: If a scheduler lacks an argument, or two of them change the coefficients in the same epochs.

    Example:
        >>> target = "nequip.train.callbacks.LossCoefficientScheduler"
        >>> merge_schedulers({"mine": {"_target_": target, "schedule": {100: {"forces": 1.0}}}}, [])["mine"]["stages"]
        [{'start': 100, 'coeffs': {'forces': 1.0}}]
    """
    names = [name for name, node in callbacks.items() if is_scheduler(node)]
    if not names:
        return dict(callbacks)
    stages = [stage for name in names for stage in _list_stages(f"callbacks.{name}", callbacks[name])]
    in_order = sorted(stages, key=lambda stage: int(stage["start"]))  # of the same epoch, as they are listed
    for i, stage in enumerate(in_order):
        before = [stages.index(earlier) for earlier in in_order[:i] if earlier.get("end") == stage["start"]]
        if any(position > stages.index(stage) for position in before):
            raise ConfigError(
                f"callbacks {' and '.join(names)} both set the coefficients of the loss in epoch {stage['start']}",
                f"write one node: _target_: {_SCHEDULE}, stages: [...] in their order",
            )
    kinds = " and ".join(dict.fromkeys(class_name(callbacks[name]["_target_"]) for name in names))
    notes.append(f"callbacks.{names[0]}: {kinds} is read as a LossWeightSchedule, with the same coefficients")
    schedule = {"_target_": _SCHEDULE, "stages": in_order}
    return {
        name: schedule if name == names[0] else node
        for name, node in callbacks.items()
        if name == names[0] or name not in names
    }


def _list_stages(position: str, node: Mapping[str, Any]) -> list[dict[str, Any]]:
    kind = class_name(node["_target_"])
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    for key in arguments:
        if key not in _ARGUMENTS[kind]:
            hint = closest_hint(key, _ARGUMENTS[kind])
            listing = ", ".join(_ARGUMENTS[kind])
            raise ConfigError(f"{position}.{key}: {kind} takes no '{key}'", f"{hint}it takes {listing}")
    lacking = [key for key in _ARGUMENTS[kind] if key != "start_epoch" and not arguments.get(key)]
    if lacking:
        example = {"schedule": "{100: {forces_mse: 1.0}}", "final_coeffs": "{forces: 1.0}", "transition_epochs": "100"}
        raise ConfigError(f"{position} has no {lacking[0]}", f"give {lacking[0]}: {example[lacking[0]]}")
    if kind == "LossCoefficientScheduler":
        schedule = arguments["schedule"]
        if not isinstance(schedule, Mapping):
            raise ConfigError(f"{position}.schedule is {schedule!r}", "write {100: {forces_mse: 1.0}}")
        return [
            {"start": _read_epoch(f"{position}.schedule", epoch), "coeffs": coeffs}
            for epoch, coeffs in schedule.items()
        ]
    start = _read_epoch(f"{position}.start_epoch", arguments.get("start_epoch", 0))
    length = _read_epoch(f"{position}.transition_epochs", arguments["transition_epochs"])
    return [{"start": start, "end": start + length, "coeffs": arguments["final_coeffs"]}]


def _read_epoch(position: str, epoch: Any) -> int:
    if isinstance(epoch, bool) or not str(epoch).isdecimal():
        raise ConfigError(f"{position} has the epoch {epoch!r}", "epochs are whole numbers from 0 up")
    return int(epoch)
