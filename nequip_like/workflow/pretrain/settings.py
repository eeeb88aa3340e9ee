"""The section ``pretrain`` of a config, understood and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nequip_like.arguments import Count, Positive, check_entries
from nequip_like.errors import ConfigError
from nequip_like.training.budget.durations import read_budget
from nequip_like.workflow.config import sections
from nequip_like.workflow.config.values import require_known
from nequip_like.workflow.slurm.tasks import count_processes

FRAMES = 4000
FEWEST = 20  # frames; fewer teach nothing
EPOCHS = 8
_KINDS: dict[str, Any] = {
    "teacher": str | dict[str, Any] | None,
    "frames": Count | None,
    "minutes": Positive | None,
    "epochs": Count | None,
    "temperature": Positive | None,
    "rate_factor": Positive,
}
_RATE_FACTOR = 0.25


@dataclass(frozen=True)
class Pretraining:
    """What the section says.

    Attributes:
        teacher: Name, model file, dotted name of a calculator, or a mapping with its ``_target_`` and arguments.
        frames: Number of structures; None for :data:`FRAMES`, or as many as there is time for.
        minutes: Length of the training on them; None for a share of the budget, or ``epochs``.
        epochs: The same in epochs; None for :data:`EPOCHS` where nothing else says how long.
        temperature: Of the teacher's dynamics, K; None for what the data suggest.
        rate_factor: What the learning rate of a run with pretrained weights is multiplied by.
    """

    teacher: str | Mapping[str, Any]
    frames: int | None = None
    minutes: float | None = None
    epochs: int | None = None
    temperature: float | None = None
    rate_factor: float = _RATE_FACTOR


def read_pretraining(section: Any) -> Pretraining | None:
    """Understand the section.

    Args:
        section: Its plain values.

    Returns:
        None if there is no teacher: no pretraining.

    Raises:
        ConfigError: Naming the key that cannot be understood.

    Example:
        >>> read_pretraining({"teacher": "gfn2", "frames": 500})
        Pretraining(teacher='gfn2', frames=500, minutes=None, epochs=None, temperature=None, rate_factor=0.25)
        >>> read_pretraining({"frames": 500})
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: pretrain.frames is given, but pretrain.teacher is not
          -> name what labels the structures: pretrain.teacher=gfn2
    """
    if section is None:
        return None
    if not isinstance(section, Mapping):
        raise ConfigError(f"pretrain is {section!r}", "write pretrain.teacher=gfn2")
    check_entries("pretrain", section, _KINDS)
    require_known("pretrain", section)
    if section.get("teacher") is None:
        if given := [key for key, value in section.items() if value not in (None, _RATE_FACTOR)]:
            raise ConfigError(
                f"pretrain.{given[0]} is given, but pretrain.teacher is not",
                "name what labels the structures: pretrain.teacher=gfn2",
            )
        return None
    if section.get("frames") is not None and section["frames"] < FEWEST:
        raise ConfigError(f"pretrain.frames is {section['frames']}", f"give {FEWEST} or more; {FRAMES} is usual")
    if section.get("minutes") is not None and section.get("epochs") is not None:
        raise ConfigError("pretrain.minutes and pretrain.epochs are both given", "leave one of them out")
    return Pretraining(**section)


def check_surroundings(settings: Pretraining, values: Mapping[str, Any]) -> None:
    """Refuse what does not go together with a pretraining.

    Args:
        settings: What the section says.
        values: The values of the whole config.

    Raises:
        ConfigError: Naming the key.
    """
    if (values.get("finetune") or {}).get("source") is not None:
        raise ConfigError(
            "pretrain.teacher and finetune.source are both given",
            "leave one of them out: a pretraining makes the model that the run then begins with",
        )
    if "train" not in sections.read_tasks(values):
        raise ConfigError("pretrain.teacher is given, but run has no 'train'", "leave it out: pretrain.teacher=null")
    if not values["data"].get("val"):
        raise ConfigError(
            "pretrain.teacher is given, but there is no data.val, by which it is judged", "give it: data.val=0.1"
        )
    if (budget := read_budget(values.get("budget"))) is not None:
        if budget.repeat is not None:
            raise ConfigError(
                "pretrain.teacher is given, and budget repeats another run",
                "begin as that run did: with finetune.source=RUN/pretrain finetune.shifts=refit, if "
                "its pretraining was kept, and no teacher",
            )
        if settings.minutes is not None and 60 * settings.minutes >= budget.seconds:  # type: ignore[operator] # given
            raise ConfigError(
                f"pretrain.minutes is {settings.minutes:g}, and the whole budget is {values['budget']}",
                "leave some of it for the run itself",
            )
    if count_processes(values["trainer"]) != 1:
        raise ConfigError(
            "pretrain.teacher is given, and trainer asks for several processes; a pretraining has one",
            "write trainer.devices=1; or pretrain by itself, and begin the run of several processes with "
            "finetune.source=RUN/pretrain finetune.shifts=refit",
        )
