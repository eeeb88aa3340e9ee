"""The section ``finetune`` of a config, understood and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from nequip_like.arguments import Count, Form, Positive, check_entries
from nequip_like.data.species import checked_species
from nequip_like.errors import ConfigError

_Pattern = Annotated[str, Form(r"\S+", "a part of a parameter's name")]
_KINDS: dict[str, Any] = {
    "source": str | None,
    "modules": list[_Pattern] | None,
    "freeze": Literal["head_only"] | None,
    "new_species": Literal["error", "mean"] | dict[str, str],
    "shifts": Literal["keep", "refit"],
    "lora": dict[str, Any] | None,
}
_LORA: dict[str, Any] = {"rank": Count, "alpha": Positive}
_DEFAULTS = {"modules": None, "freeze": None, "new_species": "error", "shifts": "keep", "lora": None}


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation: its rank, and ``alpha``, whose quotient by the rank scales what is added."""

    rank: int
    alpha: float


@dataclass(frozen=True)
class Settings:
    """What the section says.

    Attributes:
        source: The file or run folder to begin from.
        modules: Patterns of the parameters that are trained; None for all.
        freeze: ``head_only``: train the readout, and scales and shifts where these are trained; None for nothing.
        new_species: What a species that the source lacks begins as: ``error`` (refuse it), ``mean``, or the species
            that each begins as.
        shifts: ``keep`` the energy shifts, or ``refit`` them to the new labels.
        lora: Low-rank adaptation of the weights that are not trained themselves.
    """

    source: str
    modules: Sequence[str] | None = None
    freeze: str | None = None
    new_species: str | Mapping[str, str] = "error"
    shifts: str = "keep"
    lora: Lora | None = None


def read_settings(section: Any) -> Settings | None:
    """Understand the section.

    Args:
        section: Its plain values.

    Returns:
        None if there is no source: a training from scratch.

    Raises:
        ConfigError: Naming the key that cannot be understood.
    """
    if section is None:
        return None
    if not isinstance(section, Mapping):
        raise ConfigError(f"finetune is {section!r}", "write finetune.source=model.safetensors")
    check_entries("finetune", section, _KINDS)
    if section.get("source") is None:
        for key, default in _DEFAULTS.items():
            if section.get(key, default) != default:
                raise ConfigError(
                    f"finetune.{key} is given, but finetune.source is not",
                    "name the model to begin from: finetune.source=model.safetensors",
                )
        return None
    return _build_settings({**_DEFAULTS, **section})


def _build_settings(section: Mapping[str, Any]) -> Settings:
    if section["modules"] is not None and not section["modules"]:
        raise ConfigError("finetune.modules is empty", "name what is trained, or write null to train all")
    for key in ("modules", "lora"):
        if section["freeze"] is not None and section[key] is not None:
            raise ConfigError(
                f"finetune.freeze and finetune.{key} are both given",
                "leave freeze out; with lora, name what is trained beside it: modules: [readout]",
            )
    if isinstance(section["new_species"], Mapping):
        checked_species(list(section["new_species"]))
    return Settings(**{**section, "lora": _read_lora(section["lora"])})


def _read_lora(section: Mapping[str, Any] | None) -> Lora | None:
    if section is None:
        return None
    check_entries("finetune.lora", section, _LORA)
    if "rank" not in section:
        raise ConfigError("finetune.lora has no 'rank'", "for example finetune.lora={rank: 8}")
    return Lora(section["rank"], float(section.get("alpha", section["rank"])))
