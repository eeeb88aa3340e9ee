"""NequIP's own kind of config, one flat YAML (checked against 0.19.1), as a config of ours.

The one translator: a run, the check and ``nequip-train --migrate`` all begin with :func:`to_own_config`; behind it
there is only our own form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nequip_like.compat.nequip_data import translate_data
from nequip_like.compat.nequip_names import DATA_MODULES, REFUSED, class_name
from nequip_like.compat.nequip_parts import (
    replace_callbacks,
    translate_model,
    translate_trainer,
    translate_training_module,
)
from nequip_like.compat.nequip_values import parse_length, parse_names
from nequip_like.errors import ConfigError, closest_hint, first_line
from nequip_like.workflow.config.values import own_error, register_resolvers

_REQUIRED = ("run", "data", "trainer", "training_module")
SECTIONS = (*_REQUIRED, "global_options")
# Keys of our own that a flat config may have; they are taken over as they are.
_OURS = (
    *("ckpt_path", "seed", "output_dir", "trusted_packages", "resume", "monitored_metric"),
    *("run_name", "console", "validate_every_n_updates"),
)
_LATER = re.compile(r"\$\{\s*(training_data_stats|hydra)\s*:")
_NO_MONITOR = "val0_epoch/weighted_sum"


@dataclass(frozen=True)
class Translation:
    """A config of ours, and what became of NequIP's.

    Attributes:
        config: The config, as our own defaults and groups would compose it.
        notes: One line for each thing that has no effect or is another way round here.
    """

    config: DictConfig
    notes: list[str]


def is_nequip_config(config: DictConfig) -> bool:
    """Whether a composed config is one of NequIP's, with or without its prefix replaced."""
    sections = OmegaConf.to_container(config, resolve=False)
    if not isinstance(sections, Mapping):
        return False
    data, module = sections.get("data"), sections.get("training_module")
    target = data.get("_target_") if isinstance(data, Mapping) else None
    if class_name(target) in DATA_MODULES or class_name(target) in REFUSED:
        return True
    if class_name(target) == "DataModule" or not isinstance(module, Mapping):
        return False
    # Ours are composed with `output_dir`, and have their model at the top level.
    targets = [str(target), str(module.get("_target_"))]
    is_flat = "output_dir" not in sections and isinstance(module.get("model"), Mapping)
    return is_flat or any(name.startswith("nequip.") for name in targets)


def as_own_config(config: DictConfig) -> Translation:
    """The config itself, or its translation if it is one of NequIP's; see :func:`to_own_config`.

    Of a config of ours, schedulers of the loss that have NequIP's names are translated.
    """
    if is_nequip_config(config):
        return to_own_config(config)
    notes: list[str] = []
    return Translation(replace_callbacks(config, notes), notes)


def to_own_config(config: DictConfig) -> Translation:
    """Translate a config of NequIP's.

    Interpolations are resolved, but for those that need the data or the run: ``${training_data_stats:...}`` and
    ``${hydra:...}``.

    Args:
        config: The config as it was composed; it is not changed.

    Raises:
        ConfigError: If it cannot mean what was written, or asks for what this package does not have.
    """
    register_resolvers()
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    _check_top_level(config)
    sections = resolve_for_now(config)
    notes: list[str] = []
    module = sections["training_module"]
    model = translate_model(module.get("model") if isinstance(module, Mapping) else None, notes)
    if not isinstance(sections["data"], Mapping):
        raise ConfigError(f"data is {sections['data']!r}", f"give a mapping with a _target_: {', '.join(DATA_MODULES)}")
    type_names = parse_names("training_module.model.type_names", model["type_names"])
    data = translate_data(
        sections["data"], type_names, parse_length("training_module.model.r_max", model["r_max"]), notes
    )
    trainer, callbacks, logger = translate_trainer(sections["trainer"], notes)
    if "isolated_atom_energies" in str(model) or "reference_energies" in str(model):
        data["reference_energies"] = "auto"
    if sections.get("global_options"):
        notes.append("global_options has no effect, as in NequIP since 0.14")
    settings = {
        "run": sections["run"],
        "cutoff_radius": model["r_max"],
        "chemical_species": type_names,
        "seed": data["seed"],
        "monitored_metric": _find_monitor(callbacks, module),
        "ckpt_path": None,
        "run_name": None,
        "console": "line",
        "output_dir": "${hydra:runtime.output_dir}",
        **{key: sections[key] for key in _OURS if key in sections},
        "data": data,
        "model": model,
        "training_module": {**translate_training_module(module), "model": "${model}"},
        "trainer": trainer,
        "callbacks": callbacks,
        "logger": logger,
    }
    return Translation(OmegaConf.create(settings), notes)


def _check_top_level(config: DictConfig) -> None:
    """All sections are there, and every other key is one that some value refers to."""
    options = (*SECTIONS, *_OURS)
    keys = [str(key) for key in config]
    if "callbacks" in keys:
        raise ConfigError(
            "the config takes in our own defaults, but its data module is NequIP's",
            "take the line with defaults out, or name files in our own form: data.train, data.val, data.test",
        )
    text = OmegaConf.to_yaml(config)
    for key in keys:
        if key not in options and not re.search(rf"\$\{{[^}}]*\b{re.escape(key)}\b", text):
            hint = closest_hint(key, options)
            raise ConfigError(f"nothing uses '{key}' of the config", f"{hint}known are {', '.join(SECTIONS)}")
    if missing := [key for key in _REQUIRED if key not in keys]:
        raise ConfigError(f"the config has no '{missing[0]}'", f"a config of NequIP's has {', '.join(_REQUIRED)}")


def resolve_for_now(config: DictConfig) -> dict[str, Any]:
    """Plain values; what only the data or the run will tell stays as it is written.

    Raises:
        ConfigError: If a value is missing, or an interpolation leads nowhere.
    """
    OmegaConf.register_new_resolver("written_later", lambda kind, name: f"${{{kind}:{name}}}", replace=True)
    escaped = OmegaConf.create(_escape_for_later(OmegaConf.to_container(config, resolve=False)))
    try:
        values = OmegaConf.to_container(escaped, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        if (config_error := own_error(error)) is not None:
            raise config_error from None
        key = getattr(error, "full_key", None) or "the config"
        raise ConfigError(f"{key}: {first_line(error)}", "see what it refers to") from error
    return {str(key): value for key, value in values.items()} if isinstance(values, Mapping) else {}


def _escape_for_later(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _escape_for_later(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_escape_for_later(entry) for entry in value]
    return _LATER.sub(r"${written_later:\1,", value) if isinstance(value, str) else value


def _find_monitor(callbacks: Mapping[str, Any], module: Mapping[str, Any]) -> str:
    """What the callbacks follow, else the schedule."""
    followed = [node.get("monitor") for node in callbacks.values()]
    scheduler = module.get("lr_scheduler")
    followed.append(scheduler.get("monitor") if isinstance(scheduler, Mapping) else None)
    return next((str(name) for name in followed if name), _NO_MONITOR)
