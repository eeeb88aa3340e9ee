"""Compare what a config says of the model with the source of a fine-tuning, which decides it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nequip_like.arguments import annotations_of, check
from nequip_like.errors import ConfigError, ModelFileError, naming
from nequip_like.inference.loading import load_any
from nequip_like.model.builders import preset_arguments
from nequip_like.model.committee import CommitteePotential
from nequip_like.model.families import FAMILIES
from nequip_like.model.finetuning import FINE_TUNED, TunableFamily, find_tunable
from nequip_like.model.potential import Potential
from nequip_like.workflow.config.packaged import read_packaged
from nequip_like.workflow.config.values import is_known, values_before_data
from nequip_like.workflow.finetune.settings import Settings

# The seed draws nothing, and species are told by the data.
_SAID_ELSEWHERE = ("_target_", "seed", "type_names", "preset")
_DEFAULT_FAMILY = "nequip"  # of a config that says nothing of the model
_SAME = 1e-9
_LEAVE_OUT = "leave {} out: a fine-tuned model is built as its source was"


def find_model_section(config: DictConfig) -> tuple[str, DictConfig]:
    """Find the section that describes the model: its key and its node."""
    key = "model" if config.get("model") is not None else "training_module.model"
    return key, OmegaConf.select(config, key)


def read_source(path: str) -> tuple[Potential, dict[str, Any]]:
    """Read the model that a run begins with, and its card.

    Args:
        path: ``finetune.source``: a model file, a checkpoint or a run folder.

    Raises:
        ConfigError: If it is not there, cannot be read, or is of a family that cannot be fine-tuned.
    """
    try:
        source, card = load_any(path)
    except ModelFileError as error:
        raise ConfigError(f"finetune.source: {error.message}", error.advice) from error
    if isinstance(source, CommitteePotential):
        raise ConfigError(
            f"finetune.source: {card['path']} is a committee, which cannot be fine-tuned",
            "fine-tune its members, each in a run of its own",
        )
    source.uncertainty = None  # of weights that will be others
    if find_tunable(source) is None:
        raise ConfigError(
            f"finetune.source: {card['path']} is of the family '{source.config['family']}', which cannot be fine-tuned",
            f"fine-tuning is for {', '.join(FINE_TUNED)}; to go on with a run give resume=auto or ckpt_path",
        )
    return source, card


def check_settings(settings: Settings, family: TunableFamily, source_path: str) -> None:
    """Refuse settings that the family of the source has no use for.

    Args:
        settings: What the section says.
        family: What fine-tuning knows of the family.
        source_path: The file of the source, for messages.

    Raises:
        ConfigError: Naming the key.
    """
    why = family.no_new_species
    if settings.new_species != "error" and why is not None:
        raise ConfigError(
            f"finetune.new_species is given, but the model of {source_path} takes no new species: {why}",
            "leave finetune.new_species out, and frames with other species, or train a new model",
        )


def check_model(
    config: DictConfig, source: Potential, source_path: str, *, any_shifts: bool, any_switches: bool = True
) -> None:
    """Refuse what a config says of the model and the source contradicts.

    What has the value of the packaged configs, or comes from the data, is not taken for something said.

    Args:
        config: The composed config.
        source: The model.
        source_path: Its file, for messages.
        any_shifts: Energy shifts are found anew, so what is said of them is not compared.
        any_switches: The switches of the model's family may be turned on.

    Raises:
        ConfigError: Naming the key.
    """
    section, node = find_model_section(config)
    name = source.config["family"]
    family, is_said = FINE_TUNED[name], _check_family(section, node, name, source_path)
    values = values_before_data(config)["training_module"]["model"]
    expected = family.describe_arguments(source)
    free = {*_SAID_ELSEWHERE, *family.free, *(family.switches if any_switches else ())}
    free |= {"per_type_energy_shifts"} if any_shifts else set()

    def differs(key: str, value: Any) -> bool:
        return key in expected and key not in free and not _is_equivalent(family, key, value, expected[key], source)

    for key in _list_changed_keys(node):
        with naming(section):
            if is_known(values[key]) and differs(key, values[key]):
                raise _describe_contradiction(f"{section}.{key}", values[key], expected[key], source_path)
        if not is_said and key not in (*expected, *_SAID_ELSEWHERE):
            raise ConfigError(
                f"{section}.{key} is given, but the model of {source_path} is of the family {name}, which has no {key}",
                _LEAVE_OUT.format(f"{section}.{key}"),
            )
    if "preset" in values:
        for key, value in preset_arguments(values["preset"]).items():
            if key not in values and differs(key, value):
                raise _describe_contradiction(
                    f"{section}.preset", f"{values['preset']} ({key} {value})", expected[key], source_path
                )
    _check_free_arguments(section, values, name)
    cutoff = config.get("cutoff_radius")
    if cutoff not in (None, read_default_cutoff()) and not _is_same(cutoff, source.cutoff):
        raise _describe_contradiction("cutoff_radius", cutoff, source.cutoff, source_path)


def _check_family(section: str, node: DictConfig, name: str, source_path: str) -> bool:
    """Refuse a section of another family; gives whether it is of this one, or says nothing of the family."""
    family = _find_family(node)
    if family != name and (family != _DEFAULT_FAMILY or "preset" in node):
        raise ConfigError(
            f"{section}._target_ is {node.get('_target_')}, but the model of {source_path} is of the family {name}",
            f"choose model={name}, or say nothing of the model: a fine-tuned one is built as its source was",
        )
    return family == name


def _check_free_arguments(section: str, values: Mapping[str, Any], name: str) -> None:
    """Refuse what the builder would refuse: a section that says nothing of the family may name kernels of another."""
    annotations = annotations_of(FAMILIES[name])
    for key in FINE_TUNED[name].free:
        if key in values and is_known(values[key]):
            check(f"{section}.{key}", values[key], annotations[key])


def read_default_cutoff() -> float:
    """Read the cutoff radius of the packaged config, Angstrom."""
    return float(read_packaged("train.yaml")["cutoff_radius"])


def _describe_contradiction(key: str, value: Any, expected: Any, source_path: str) -> ConfigError:
    return ConfigError(
        f"{key} is {_format_value(value)}, but the model of {source_path} has {_format_value(expected)}",
        _LEAVE_OUT.format(key),
    )


def _find_family(node: DictConfig) -> str | None:
    """Find the family that a section names by its builder; None if it is a builder of somebody else."""
    builder = str(node.get("_target_")).rpartition(".")[2]
    return next((name for name, family in FINE_TUNED.items() if builder in family.builders), None)


def _list_changed_keys(node: DictConfig) -> list[str]:
    """List the keys of the section whose values are not those of the packaged config of the same model."""
    unresolved = _read_unresolved(node)
    choice = "nequip_M" if "preset" in unresolved else _find_family(node) or _DEFAULT_FAMILY
    packaged = read_packaged(f"model/{choice}.yaml")
    return [key for key, value in unresolved.items() if key not in packaged or packaged[key] != value]


def _read_unresolved(node: Any) -> dict[str, Any]:
    """Convert a node to plain values, with interpolations as they are written."""
    return dict(OmegaConf.to_container(node, resolve=False))  # type: ignore[arg-type] # a mapping


def _is_equivalent(family: TunableFamily, key: str, value: Any, expected: Any, source: Potential) -> bool:
    """Whether two values of an argument mean the same."""
    one, other = (family.normalize_argument(key, each, source.type_names) for each in (value, expected))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_same(entry, other[name]) for name, entry in one.items())
    return _is_same(one, other)


def _is_same(a: Any, b: Any) -> bool:
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return math.isclose(a, b, rel_tol=_SAME) if numbers else bool(a == b)


def _format_value(value: Any) -> str:
    return "null" if value is None else str(value)
