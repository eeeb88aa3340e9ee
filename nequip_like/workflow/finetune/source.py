"""Compare what a config says of the model with the source of a fine-tuning, which decides it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from e3nn.o3 import Irreps
from omegaconf import DictConfig, OmegaConf

from nequip_like.errors import ConfigError, ModelFileError
from nequip_like.inference.loading import load_any
from nequip_like.model.builders import preset_arguments
from nequip_like.model.families import FINE_TUNED, can_be_finetuned
from nequip_like.model.potential import Potential
from nequip_like.workflow.config.packaged import read_packaged
from nequip_like.workflow.config.values import is_known, values_before_data

#: Switches of the model that a config may turn on; the weights stay the same.
FLAGS = ("bessel_trainable", "per_type_energy_scales_trainable", "per_type_energy_shifts_trainable")
_PER_TYPE = ("avg_num_neighbors", "per_type_energy_scales", "per_type_energy_shifts")
# The seed draws nothing; species are told by the data; the kernel only says how to compute.
_FREE = ("_target_", "seed", "kernel", "type_names", "preset")
_SAME = 1e-9


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
    if not can_be_finetuned(source):
        raise ConfigError(
            f"finetune.source: {card['path']} is of the family '{source.config['family']}', which cannot be fine-tuned",
            f"fine-tuning is for {', '.join(FINE_TUNED)}; to go on with a run give resume=auto or ckpt_path",
        )
    return source, card


def check_model(
    config: DictConfig, source: Potential, source_path: str, *, any_shifts: bool, any_flags: bool = True
) -> None:
    """Refuse what a config says of the model and the source contradicts.

    What has the value of the packaged configs, or comes from the data, is not taken for something said.

    Args:
        config: The composed config.
        source: The model.
        source_path: Its file, for messages.
        any_shifts: Energy shifts are found anew, so what is said of them is not compared.
        any_flags: :data:`FLAGS` may be turned on.

    Raises:
        ConfigError: Naming the key.
    """
    section, node = find_model_section(config)
    values = values_before_data(config)["training_module"]["model"]
    expected = _describe_arguments(source)
    free = {*_FREE, *(FLAGS if any_flags else ()), *(("per_type_energy_shifts",) if any_shifts else ())}

    def differs(key: str, value: Any) -> bool:
        return key in expected and key not in free and not _is_equivalent(key, value, expected[key], source.type_names)

    for key in _list_changed_keys(node):
        if is_known(values[key]) and differs(key, values[key]):
            raise _describe_contradiction(f"{section}.{key}", values[key], expected[key], source_path)
    if "preset" in values:
        for key, value in preset_arguments(values["preset"]).items():
            if key not in values and differs(key, value):
                raise _describe_contradiction(
                    f"{section}.preset", f"{values['preset']} ({key} {value})", expected[key], source_path
                )
    cutoff = config.get("cutoff_radius")
    if cutoff not in (None, read_default_cutoff()) and not _is_same(cutoff, source.cutoff):
        raise _describe_contradiction("cutoff_radius", cutoff, source.cutoff, source_path)


def read_default_cutoff() -> float:
    """Read the cutoff radius of the packaged config, Angstrom."""
    return float(read_packaged("train.yaml")["cutoff_radius"])


def _describe_contradiction(key: str, value: Any, expected: Any, source_path: str) -> ConfigError:
    return ConfigError(
        f"{key} is {_format_value(value)}, but the model of {source_path} has {_format_value(expected)}",
        f"leave {key} out: a fine-tuned model is built as its source was",
    )


def _list_changed_keys(node: DictConfig) -> list[str]:
    """List the keys of the section whose values are not those of the packaged config of the same model."""
    unresolved = _read_unresolved(node)
    packaged = read_packaged("model/nequip_M.yaml" if "preset" in unresolved else "model/nequip.yaml")
    return [key for key, value in unresolved.items() if key not in packaged or packaged[key] != value]


def _read_unresolved(node: Any) -> dict[str, Any]:
    """Convert a node to plain values, with interpolations as they are written."""
    return dict(OmegaConf.to_container(node, resolve=False))  # type: ignore[arg-type] # a mapping


def _describe_arguments(source: Potential) -> dict[str, Any]:
    """Describe the arguments that built the source, also in the words of the shorter builders."""
    arguments = source.config["arguments"]
    described = {**arguments, "r_max": source.cutoff}
    degree = arguments["irreps_edge_sh"]
    described["l_max"] = degree if isinstance(degree, int) else Irreps(degree).lmax
    hidden = [Irreps(irreps) for irreps in arguments["feature_irreps_hidden"]]
    described["num_layers"] = len(hidden)
    if len(hidden) > 1 and all(irreps == hidden[0] for irreps in hidden[:-1]):
        channels = {entry.ir.l: entry.mul for entry in hidden[0]}
        described["num_features"] = [channels[number] for number in sorted(channels)]
        if described["l_max"] > 0:
            described["parity"] = any(entry.ir.p != (-1) ** entry.ir.l for entry in hidden[0])
    return described


def _is_equivalent(key: str, value: Any, expected: Any, type_names: Sequence[str]) -> bool:
    if key in _PER_TYPE:
        by_type, expected_by_type = (
            x if isinstance(x, Mapping) else dict.fromkeys(type_names, x) for x in (value, expected)
        )
        return all(_is_same(by_type.get(name), expected_by_type.get(name)) for name in type_names)
    return _is_same(_shorten_list(value), _shorten_list(expected))


def _shorten_list(value: Any) -> Any:
    """Shorten a list of equal values to this value: one number may stand for all layers or degrees."""
    equal = isinstance(value, list) and value and all(entry == value[0] for entry in value)
    return value[0] if equal else value


def _is_same(a: Any, b: Any) -> bool:
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return math.isclose(a, b, rel_tol=_SAME) if numbers else bool(a == b)


def _format_value(value: Any) -> str:
    return "null" if value is None else str(value)
