"""The architecture that ``train.input_json`` names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nequip_like.errors import ConfigError
from nequip_like.workflow.runner.built_in.config_changes import ConfigChanges
from nequip_like.workflow.runner.reading import list_texts

_LARGEST_JSON = 1_000_000  # bytes
# Of an architecture: what the training data say, and how it is computed.
_OF_THE_DATA = (
    "type_names", "avg_num_neighbors", "per_type_energy_scales", "per_type_energy_shifts", "feature_stats", "E_shift",
    "E_scaling", "kernel", "seed",
)  # fmt: skip
_BUILDERS = {
    "nequip": "nequip_like.model.FullNequIPGNNModel",
    "descriptor_ann": "nequip_like.model.DescriptorANNModel",
}


def translate_architecture(train: Mapping[str, Any], changes: ConfigChanges) -> None:
    """Let a model be built as ``train.input_json`` says: arguments of the model section, or a ``model.json`` of a run.

    Args:
        train: The section ``train``.
        changes: The changes so far, which are added to.

    Raises:
        ConfigError: If the file cannot be read, or says something else than an architecture of the run's family.
    """
    if (file := train.get("input_json")) is None:
        return
    architecture = _read_architecture(Path(file))
    if "arguments" in architecture or "family" in architecture:  # a model.json that a run wrote
        family, arguments = architecture.get("family"), architecture.get("arguments")
        if family not in _BUILDERS or not isinstance(arguments, dict):
            known = ", ".join(_BUILDERS)
            raise ConfigError(f"train.input_json: {file} has the family {family!r}", f"give one of {known}")
        if f"model={family}" not in changes.choices:
            raise ConfigError(f"train.input_json: {file} is of the family {family}", f"write backend: {family}")
        changes.values["model._target_"] = _BUILDERS[family]
        kept = {key: value for key, value in arguments.items() if key not in _OF_THE_DATA}
        changes.values |= {"cutoff_radius": kept.pop("r_max")} if "r_max" in kept else {}
        # Of the whole section: the arguments of the shorter builder are not those of this one.
        from_data = {
            "type_names": "${chemical_species}", "r_max": "${cutoff_radius}", "seed": "${seed}", "kernel": "auto",
        }  # fmt: skip
        if family == "nequip":
            from_data |= {
                "avg_num_neighbors": "${training_data_stats:num_neighbors_mean}",
                "per_type_energy_scales": "${training_data_stats:energy_scale}",
            }
        from_data["per_type_energy_shifts"] = "${training_data_stats:reference_energies}"
        changes.values["model"] = {"_target_": changes.values.pop("model._target_"), **from_data, **kept}
        changes.notes.append("train.input_json: species, scales and shifts are those of the training data")
        return
    for key, value in architecture.items():
        if key in ("_target_", "preset") or key.startswith("_"):
            raise ConfigError(
                f"train.input_json: {file} has '{key}'", "give arguments of the model; choose it by backend"
            )
        changes.values["cutoff_radius" if key == "r_max" else f"model.{key}"] = value


def _read_architecture(file: Path) -> dict[str, Any]:
    advice = "give a JSON file with arguments of the model, such as the model.json of a run's artifacts"
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise ConfigError(f"train.input_json: {file} is larger than {_LARGEST_JSON // 1000} kB", advice)
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"train.input_json: cannot read {file}: {error.strerror or error}", advice) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"train.input_json: {file} is no JSON", advice) from error
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"train.input_json: {file} is no mapping", advice)
    if wrong := [key for key in content if re.fullmatch(r"[A-Za-z_]\w*", key) is None]:
        raise ConfigError(f"train.input_json: {file} has '{wrong[0]}'", advice)
    if references := [text for text in list_texts(content) if "${" in text]:
        raise ConfigError(f"train.input_json: {file} has '{references[0]}'", "write the value itself")
    return content
