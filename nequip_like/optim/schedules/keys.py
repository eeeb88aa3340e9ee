"""Names of schedules and warm-ups in a config, and the keys that each schedule takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from nequip_like.errors import ConfigError, closest_hint


@dataclass(frozen=True)
class Keys:
    """Keys of a schedule.

    Args:
        required: Keys that have to be given.
        optional: Keys that may be given.
    """

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


SCHEDULES = {
    "constant": Keys(),
    "cosine": Keys(optional=("T_max", "min_lr")),
    "cosine_restarts": Keys(required=("T_0",), optional=("T_mult", "min_lr")),
    "exponential": Keys(required=("gamma",), optional=("step_size", "min_lr")),
    "step": Keys(required=("gamma", "step_size"), optional=("min_lr",)),
    "linear": Keys(optional=("T_max", "min_lr")),
    "peak": Keys(required=("init_lr", "final_lr", "warmup_length", "transition_length")),
    "plateau": Keys(
        required=("monitor",),
        optional=(
            *("factor", "patience", "threshold", "smoothing_factor", "min_lr"),
            *("monitor_interval", "monitor_frequency"),
        ),
    ),
}
WARMUPS = ("linear", "exponential", "untuned_linear", "untuned_exponential", "radam")
TUNED_WARMUPS = ("linear", "exponential")  # those that need a warmup_length

_OTHER_SCHEDULES = {
    "none": "constant",
    "cosine_annealing": "cosine",
    "cosine_annealing_warm_restarts": "cosine_restarts",
    "reduce_on_plateau": "plateau",
    "linear_decay": "linear",
}


def schedule_name(name: str) -> str:
    """The schedule that a name, in any case, stands for.

    Raises:
        ConfigError: If there is no such schedule.

    Example:
        >>> schedule_name("Cosine-Annealing"), schedule_name("reduce_on_plateau")
        ('cosine', 'plateau')
        >>> schedule_name("cosin")
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: schedule is 'cosin'
          -> did you mean 'cosine'? there are constant, cosine, ...
    """
    spelling = _normalize_name(name)
    return _check_name("schedule", name, _OTHER_SCHEDULES.get(spelling, spelling), SCHEDULES)


def warmup_name(name: str | None) -> str | None:
    """The warm-up that a name, in any case, stands for; None for none.

    Raises:
        ConfigError: If there is no such warm-up.
    """
    if name is None or _normalize_name(name) in ("none", "null"):
        return None
    return _check_name("warmup", name, _normalize_name(name), WARMUPS)


def check_schedule_keys(schedule: str, warmup: str | None, keys_in_use: Mapping[str, Any]) -> None:
    """Refuse keys that the schedule has no use for, and the lack of one that it needs.

    Args:
        schedule: Name of the schedule.
        warmup: Name of the warm-up.
        keys_in_use: The keys that were given.

    Raises:
        ConfigError: Naming the key.

    Example:
        >>> check_schedule_keys("cosine", None, {"gamma": 0.9})
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: gamma is given, but the schedule 'cosine' has no use for it
          -> it takes T_max, min_lr
    """
    keys = SCHEDULES[schedule]
    required = keys.required
    if schedule == "peak" and warmup is not None:
        raise ConfigError(
            f"warmup is '{warmup}', but the schedule 'peak' has a warm-up of its own, from init_lr",
            "leave warmup out",
        )
    if warmup in TUNED_WARMUPS:
        required = (*required, "warmup_length")
    if missing := [key for key in required if key not in keys_in_use]:
        needs = f"warmup: {warmup}" if missing[0] == "warmup_length" and warmup else f"the schedule '{schedule}'"
        raise ConfigError(f"{missing[0]} is not given, which {needs} needs", "give it")
    options = (*required, *keys.optional)
    if unused := [key for key in keys_in_use if key not in options]:
        if unused[0] == "warmup_length":
            raise ConfigError(
                f"warmup_length is given, but warmup is {'null' if warmup is None else repr(warmup)}",
                f"take it out, or write warmup: {' or '.join(TUNED_WARMUPS)}",
            )
        raise ConfigError(
            f"{unused[0]} is given, but the schedule '{schedule}' has no use for it",
            f"it takes {', '.join(options)}" if options else "take it out",
        )


def _normalize_name(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _check_name(key: str, spelling: str, name: str, options: Collection[str]) -> str:
    if name not in options:
        hint = closest_hint(name, options)
        raise ConfigError(f"{key} is '{spelling}'", f"{hint}there are {', '.join(options)}")
    return name
