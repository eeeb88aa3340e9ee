"""From one of NequIP's flat configs to a short one of ours: only what differs from our own defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from nequip_like.compat.nequip_config import SECTIONS, is_nequip_config, resolve_for_now, to_own_config
from nequip_like.compat.nequip_names import class_name, class_of
from nequip_like.errors import ConfigError
from nequip_like.model import FullNequIPGNNModel
from nequip_like.whole_files import path_of

_NOT_GIVEN = object()
_PRESETS = ("S", "M", "L", "XL")
# Class that a section builds -> the file of our group that begins with the same class.
_MODULES = {"EMALightningModule": "ema", "NequIPLightningModule": "default"}
_TARGETS = {
    "EnergyForceLoss": "energy_force",
    "EnergyForceStressLoss": "energy_force_stress",
    "EnergyOnlyLoss": "energy",
}
_OPTIMIZERS = {"Adam": "adam", "AdamW": "adamw"}
_SCHEDULERS = {"ReduceLROnPlateau": "plateau", "CosineAnnealingLR": "cosine"}
_DEFAULTS = {
    "model": "nequip",
    "training_module": "ema",
    "targets": "energy_force",
    "optimizer": "soap",
    "lr_scheduler": "anneal",
    "logger": "csv",
}


def migrated(file: str | Path) -> str:
    """A config of ours that gives the same run as a flat one of NequIP's.

    Args:
        file: NequIP's config, with or without its prefix replaced.

    Returns:
        YAML. What has no effect here stands in comments at its head.

    Raises:
        ConfigError: If the file cannot be read, is none of NequIP's configs, or asks for what there is not.
    """
    path = path_of(file)
    flat = _load_flat(path)
    translation = to_own_config(flat)
    settings = _extract_values(translation.config)
    groups = _choose_groups(settings)
    defaults = _compose_defaults(groups)
    changes = _collect_changes(settings, defaults, translation.config)
    overrides = [f"override {group}: {name or 'null'}" for group, name in groups.items() if name != _DEFAULTS[group]]
    lines = [f"# Made from {path.name}, a config of NequIP's, by nequip-train --migrate."]
    lines += [f"# {note}" for note in translation.notes]
    gone = [str(key) for key in flat if key not in (*settings, *SECTIONS, "hydra")]
    lines += [f"# Keys that other values referred to; their values stand there now: {', '.join(gone)}"] if gone else []
    lines += ["defaults:", "  - train", *(f"  - {override}" for override in overrides), "  - _self_"]
    lines += [f"{key}: {_format_inline(value)}" for key, value in changes.items() if not isinstance(value, dict)]
    sections = {key: value for key, value in changes.items() if isinstance(value, dict)}
    if "hydra" in flat:
        sections = {"hydra": _extract_values(flat.hydra), **sections}
    return "\n".join([*lines, yaml.safe_dump(sections, sort_keys=False, default_flow_style=None, width=108)])


def _format_inline(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").rstrip()


def _load_flat(path: Path) -> DictConfig:
    try:
        config = OmegaConf.load(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path.absolute()}: {error.strerror}", "give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is no YAML: {reason}", "see the line that it names") from error
    if not isinstance(config, DictConfig) or not is_nequip_config(config):
        raise ConfigError(
            f"{path} is no config of NequIP's: its data._target_ is none of its data modules",
            "a config of this package needs no migration",
        )
    if "defaults" in config:
        raise ConfigError(
            f"{path} is composed of several files",
            f"write it as one first: nequip-train {path} --cfg job > flat.yaml",
        )
    return config


# --- which of our files to begin with


def _choose_groups(settings: Mapping[str, Any]) -> dict[str, str | None]:
    module, model = settings["training_module"], settings["model"]
    schedule = (module.get("lr_scheduler") or {}).get("scheduler")
    preset = str(model.get("preset", "")).upper()
    name = class_name(model["_target_"])
    return {
        "model": "nequip" if name == "NequIPGNNModel" else f"nequip_{preset}" if preset in _PRESETS else None,
        "training_module": _MODULES.get(class_name(module["_target_"])),
        "targets": _choose_targets(module),
        "optimizer": _OPTIMIZERS.get(class_of(module.get("optimizer"))),
        "lr_scheduler": _SCHEDULERS.get(class_of(schedule)),
        "logger": "csv" if "csv" in settings["logger"] else None,
    }


def _choose_targets(module: Mapping[str, Any]) -> str | None:
    """The file of targets, if validation and test measure with the preset that belongs to the loss."""
    loss, metrics = class_of(module.get("loss")), class_of(module.get("val_metrics"))
    # Our test metrics are those of the validation; others would be merged with them.
    has_same_metrics = module.get("test_metrics") in (None, module.get("val_metrics"))
    return _TARGETS.get(loss) if metrics == loss.replace("Loss", "Metrics") and has_same_metrics else None


def _compose_defaults(groups: Mapping[str, str | None]) -> dict[str, Any]:
    """Our own defaults with these files, interpolations as they are written."""
    overrides = [f"~{group}" if name is None else f"{group}={name}" for group, name in groups.items()]
    with hydra.initialize_config_module("nequip_like.conf", version_base="1.3"):
        return _extract_values(hydra.compose("train", overrides))


def _extract_values(config: DictConfig) -> dict[str, Any]:
    """Plain values, interpolations as they are written."""
    return dict(OmegaConf.to_container(config, resolve=False))  # type: ignore[arg-type] # of a mapping it is one


# --- what differs


def _collect_changes(
    settings: Mapping[str, Any], defaults: Mapping[str, Any], config: DictConfig, section: str = ""
) -> dict[str, Any]:
    """What has to be written so that ``defaults`` becomes ``settings``."""
    changes: dict[str, Any] = {}
    for key in [*defaults, *(key for key in settings if key not in defaults)]:
        path = f"{section}.{key}" if section else str(key)
        if key not in settings and not section:
            continue  # a key of our own that NequIP's configs do not have
        value = settings[key] if key in settings else _look_up_default(settings, str(key))
        change = _change(value, defaults.get(key, _NOT_GIVEN), config, path)
        if change is not _NOT_GIVEN:
            changes[str(key)] = change
    return changes


def _change(value: Any, default: Any, config: DictConfig, path: str) -> Any:
    """What to write for one key; ``_NOT_GIVEN`` if our defaults say it already."""
    if isinstance(value, Mapping) and isinstance(default, Mapping):
        return _collect_changes(value, default, config, path) or _NOT_GIVEN
    if default is not _NOT_GIVEN and (value == default or value == _evaluate_default(default, config, path)):
        return _NOT_GIVEN
    parent = path.rpartition(".")[0]
    reference = "${.val_metrics}"
    if (
        value
        and path.endswith(("train_metrics", "test_metrics"))
        and value == _evaluate_default(reference, config, path)
    ):
        return _NOT_GIVEN if default == reference else f"${{{parent}.val_metrics}}"
    return value


def _evaluate_default(default: Any, config: DictConfig, path: str) -> Any:
    """What an interpolation of ours gives in the config that is wanted."""
    if not (isinstance(default, str) and "${" in default):
        return _NOT_GIVEN
    changed = config.copy()
    OmegaConf.update(changed, path, default, merge=False)
    value: Any = resolve_for_now(changed)
    for key in path.split("."):
        value = value[key]
    return value


def _look_up_default(section: Mapping[str, Any], key: str) -> Any:
    """What a key that is not given means: the default of the class; null for a node that is not there."""
    target = section.get("_target_")
    if target is None:
        return None
    return _collect_defaults(get_object(str(target))).get(key)


def _collect_defaults(target: Callable[..., Any]) -> dict[str, Any]:
    """Defaults of a class (with those of its bases that it hands arguments on to) or of a builder of models."""
    defaults: dict[str, Any] = {}
    handed_on = (
        [base for base in reversed(target.__mro__) if base is not object] if inspect.isclass(target) else [target]
    )
    if not inspect.isclass(target) and target.__module__ == FullNequIPGNNModel.__module__:
        handed_on = [FullNequIPGNNModel, target]
    for source in handed_on:
        for name, parameter in inspect.signature(source).parameters.items():
            if parameter.default is not inspect.Parameter.empty:
                defaults[name] = parameter.default
    return defaults
