"""Do the parts of a config fit together? Losses, metrics, optimizer and callbacks are built to see, without data."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor

from nequip_like.arguments import NOT_KNOWN_YET
from nequip_like.data.datamodule import DataModule
from nequip_like.data.sources import HeldOut, held_out_sources
from nequip_like.data.species import checked_species
from nequip_like.data.splits import check_size
from nequip_like.errors import ConfigError, closest_hint, naming, naming_arguments
from nequip_like.instantiate import instantiate
from nequip_like.metrics.manager import MetricsManager
from nequip_like.model.builders import feature_channels
from nequip_like.model.descriptor.arguments import check_before_data
from nequip_like.nn.pair_potential import build_pair_potential
from nequip_like.nn.radial import pair_cutoff_table
from nequip_like.nn.scale_shift import per_type_values
from nequip_like.optim.averaging import averaged_copy
from nequip_like.optim.build import check_optimizer
from nequip_like.optim.schedule_free import ScheduleFreeWeights
from nequip_like.optim.schedulers import PlateauSchedule, build_scheduler
from nequip_like.training.averaged_module import RAW
from nequip_like.training.build import check_loss
from nequip_like.training.callbacks import TrainingStats, learning_rate_log
from nequip_like.training.callbacks.criteria_stopping import CriteriaStopping, read_criteria
from nequip_like.training.callbacks.loss_weights.base import CoefficientCallback, check_together
from nequip_like.training.gradients import GradientClip, check_can_accumulate
from nequip_like.training.recovery.divergence import DivergenceSettings
from nequip_like.training.run_length import check_length_of_run
from nequip_like.workflow.config.data_parts import check_data_parts
from nequip_like.workflow.config.sections import DATA_ARGUMENTS, OWN_ARGUMENTS, check_tasks
from nequip_like.workflow.config.values import is_known

METRICS = ("loss", "train_metrics", "val_metrics", "test_metrics")
_PER_TYPE = ("avg_num_neighbors", "per_type_energy_scales", "per_type_energy_shifts")
# In place of species that the data will tell: no element, so that it is never taken for one.
_ANY_SPECIES = "Species"
_SYMBOL = "[A-Z][a-z]?"
_COEFFICIENTS = ("coeffs", "weights", "terms")

Unsure = Mapping[str, Callable[[], ConfigError]]


@dataclass
class Parts:
    """What is known of a run before its data.

    Attributes:
        managers: Loss and metrics, by the keys of :data:`METRICS`; with stand-ins for species and coefficients.
        sets: Names of the data sets of train, val and test; None if the section describes them in a way of its own.
        monitored: What follows a logged value: ``{key: name}``.
    """

    managers: dict[str, MetricsManager] = field(default_factory=dict)
    sets: dict[str, list[str]] | None = None
    monitored: dict[str, str] = field(default_factory=dict)


def check_parts(
    values: Mapping[str, Any], tasks: Sequence[str], targets: Mapping[str, Any], trusted: bool, unsure: Unsure
) -> Parts:
    """Check that the parts of a config fit together.

    Args:
        values: The values of the config.
        tasks: The tasks, in order.
        targets: What the ``_target_`` of each node names.
        trusted: Whether there is code of the user's, which may log values of its own.
        unsure: For nodes with an argument that nobody can tell: the error, should the class refuse it.

    Raises:
        ConfigError: For the first mistake, naming its key.
    """
    module = values["training_module"]
    with naming_arguments("data", DATA_ARGUMENTS):
        parts = Parts(sets=_list_data_sets(values, targets["data"]))
    type_names = _read_species(values["data"], module["model"])
    with naming("training_module.model"):
        _check_model(module["model"], type_names)
    _check_cutoffs(values["data"], module["model"])
    for name in METRICS:
        if (manager := _build_manager(f"training_module.{name}", module.get(name), type_names, unsure)) is not None:
            parts.managers[name] = manager
    _check_tasks(tasks, module, parts)
    if "train" in tasks:
        with naming_arguments("training_module", OWN_ARGUMENTS):
            _check_optimizer(module, getattr(targets["training_module"], "averaging", None), values)
            _check_steps(module, values["trainer"], parts)
        _check_averaging(module, values["trainer"])
        parts.monitored = _collect_monitored(values)
        _check_monitored(values, parts, type_names is None, trusted)
    _build_callbacks(values, targets, unsure, parts.managers.get("loss"))
    return parts


# --- data and model


def _list_data_sets(values: Mapping[str, Any], target: Any) -> dict[str, list[str]] | None:
    data = values["data"]
    entries = {stage: data.get(stage) for stage in ("train", "val", "test")}
    if target is not DataModule or not is_known(entries):
        return None
    common = (data.get("key_mapping"), data.get("units"))
    check_data_parts(data)
    sets = {"train": ["train"]}
    for stage in ("val", "test"):
        sources = held_out_sources(entries[stage], stage, *common)
        for source in sources.values():
            if isinstance(source, HeldOut):
                _check_held_out(stage, source.size, values)
        sets[stage] = list(sources)
    return sets


def _check_held_out(stage: str, size: float, values: Mapping[str, Any]) -> None:
    """Check a size, and tell who asks for 0 frames how to do without: a run without validation follows its loss."""
    try:
        check_size(f"data.{stage}", size)
    except ConfigError as error:
        if size == 0:
            changes = [f"data.{stage}=null", *(_list_changes_without_validation(values) if stage == "val" else ())]
            error.advice += f", or for none: {' '.join(changes)}"
        raise


def _read_species(data: Mapping[str, Any], model: Mapping[str, Any]) -> list[str] | None:
    """Read the model's species; None if the data will tell them."""
    of_data, of_model = data.get("species", "auto"), model.get("type_names")
    if is_known(of_data) and of_data != "auto":
        with naming("data"):
            of_data = checked_species(of_data)
        if isinstance(of_model, Sequence) and not isinstance(of_model, str) and list(of_model) != of_data:
            raise ConfigError(
                f"training_module.model.type_names is [{', '.join(map(str, of_model))}], but data.species is "
                f"[{', '.join(of_data)}]",
                "give chemical_species once at the top level: both take it",
            )
    if isinstance(of_model, Sequence) and not isinstance(of_model, str) and is_known(of_model):
        return list(of_model)
    return None


def _check_cutoffs(data: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    of_model, of_data = model.get("r_max"), data.get("cutoff_radius")
    if not isinstance(of_model, int | float) or not isinstance(of_data, int | float):
        return
    advice = "give cutoff_radius once at the top level: both take it"
    if of_model > of_data:
        raise ConfigError(
            f"training_module.model.r_max is {of_model}, beyond data.cutoff_radius, which is {of_data}: the model "
            "would miss neighbours",
            advice,
        )
    if of_model < of_data:
        warnings.warn(
            f"training_module.model.r_max is {of_model}, but data.cutoff_radius is {of_data}: neighbours between them "
            f"cost time and count in the statistics, but the model does not see them; {advice}",
            stacklevel=2,
        )


def _check_model(model: Mapping[str, Any], type_names: list[str] | None) -> None:
    """Check arguments of the model that must fit to each other."""
    if isinstance(model.get("l_max"), int) and is_known(model.get("num_features", NOT_KNOWN_YET)):
        feature_channels(model["num_features"], model["l_max"])
    build_pair_potential(model.get("pair_potential"), type_names or ["H"])
    if "networks" in model:
        check_before_data({name: value for name, value in model.items() if is_known(value)}, type_names)
    for name in (*_PER_TYPE, "per_edge_type_cutoff"):
        if isinstance(model.get(name), Mapping) and model[name]:
            checked_species(list(model[name]))
    if type_names is None:
        return
    for name in _PER_TYPE:
        if isinstance(model.get(name), Mapping) and is_known(model[name]):
            per_type_values(name, model[name], type_names, 1.0)
    if is_known([model.get("r_max", NOT_KNOWN_YET), model.get("per_edge_type_cutoff")]):
        pair_cutoff_table(model.get("per_edge_type_cutoff"), type_names, float(model["r_max"]))


# --- what is built for the check


def _build_manager(key: str, node: Any, type_names: list[str] | None, unsure: Unsure) -> MetricsManager | None:
    node = _assume_coefficients(node)
    if node is None or not is_known(node):
        return None
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ConfigError(f"{key} has no _target_", "for example _target_: nequip_like.metrics.EnergyForceLoss")
    names = type_names or _find_named_types(node) or [_ANY_SPECIES]
    manager: MetricsManager = _build_part(key, unsure, {"type_names": names, **node}, kind=MetricsManager)
    if key.endswith(".loss"):
        with naming_arguments("training_module", ["loss"]):
            check_loss(manager)
    return manager


def _assume_coefficients(node: Any) -> Any:
    """Take 1 for each coefficient that the data will tell, so that all else can be checked."""
    if not isinstance(node, Mapping):
        return node
    return {
        name: {key: 1.0 if entry is NOT_KNOWN_YET else entry for key, entry in value.items()}
        if name in _COEFFICIENTS and isinstance(value, Mapping)
        else value
        for name, value in node.items()
    }


def _find_named_types(node: Any) -> list[str]:
    """Find the species that coefficients name, where the model's are not known yet."""
    species: dict[str, None] = {}
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in ("per_type_coeffs", "per_type_forces_coeffs") and isinstance(value, Mapping):
                species |= dict.fromkeys(map(str, value))
            else:
                species |= dict.fromkeys(_find_named_types(value))
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            species |= dict.fromkeys(_find_named_types(value))
    return list(species)


def _build_part(key: str, unsure: Unsure, node: Mapping[str, Any], **options: Any) -> Any:
    """Build a part; if its class refuses an argument that could not be judged before, raise the error for that one."""
    try:
        with naming(key):
            return instantiate(key, node, **options)
    except ConfigError:
        for unsure_key, error in unsure.items():
            if unsure_key == key or unsure_key.startswith((f"{key}.", f"{key}[")):
                raise error() from None
        raise


def _check_optimizer(module: Mapping[str, Any], averaging: str | None, values: Mapping[str, Any]) -> None:
    """Optimizers and schedules check their arguments when they are built: build them for one weight."""
    config, schedule = module.get("optimizer"), module.get("lr_scheduler")
    if config is None:
        raise ConfigError("training_module.optimizer is not given", "for example _target_: torch.optim.Adam")
    if not is_known([config, schedule]):
        return
    optimizer = check_optimizer(config)
    ScheduleFreeWeights.of(optimizer, torch.nn.Module(), averaging)
    if schedule is not None:
        entry = build_scheduler(schedule, optimizer)
        PlateauSchedule.take_over(entry)
        check_length_of_run(entry["scheduler"], values["trainer"], values.get("budget") is not None)


def _check_steps(module: Mapping[str, Any], trainer: Mapping[str, Any], parts: Parts) -> None:
    """Check clipping and accumulation of gradients, and what a run does that diverges."""
    clip, *lightnings = limits = [
        module.get("gradient_clip"),
        trainer.get("gradient_clip_val"),
        trainer.get("gradient_clip_algorithm"),
    ]
    if is_known(limits):
        GradientClip.choose(GradientClip.of(clip), *lightnings)
    if "on_divergence" in module and is_known(module["on_divergence"]):
        DivergenceSettings.of(module["on_divergence"])
    batches = trainer.get("accumulate_grad_batches", 1)
    if "loss" in parts.managers and is_known(batches) and batches > 1:
        check_can_accumulate(parts.managers["loss"])


def _check_averaging(module: Mapping[str, Any], trainer: Mapping[str, Any]) -> None:
    """Refuse options of an average that exclude each other, or that never take effect."""
    if module.get("ema_bias_correction") is True and module.get("ema_warmup", True) is True:
        averaged_copy(torch.nn.Linear(1, 1), 0.0, bias_correction=True)
    start, epochs = module.get("swa_start"), trainer.get("max_epochs")
    in_epochs = module.get("swa_interval", "epoch") == "epoch"
    if in_epochs and isinstance(start, int) and isinstance(epochs, int) and -1 < epochs < start:
        raise ConfigError(
            f"training_module.swa_start is {start} epochs, but trainer.max_epochs is {epochs}: no weights would count",
            "give a smaller number",
        )


def _build_callbacks(
    values: Mapping[str, Any], targets: Mapping[str, Any], unsure: Unsure, loss: MetricsManager | None
) -> None:
    setting: list[CoefficientCallback] = []
    logs = any(node is not None for node in (values.get("logger") or {}).values())
    for name, node in (values.get("callbacks") or {}).items():
        key = f"callbacks.{name}"
        ours = node is not None and targets[key].__module__.startswith(("nequip_like.", "lightning."))
        if ours and is_known(node):
            callback = _build_part(key, unsure, node, kind=Callback, recursive=False)
            if isinstance(callback, LearningRateMonitor | TrainingStats) and not logs:
                raise ConfigError(f"{key} has no logger to write to", f"take it out, ~{key}, or give logger=csv")
            if isinstance(callback, CoefficientCallback) and loss is not None:
                setting.append(callback)
                with naming(key):
                    check_together(setting, loss)


# --- tasks and what is followed


def _check_tasks(tasks: Sequence[str], module: Mapping[str, Any], parts: Parts) -> None:
    sets = parts.sets
    has_data = {stage: sets is None or bool(sets[stage]) for stage in ("train", "val", "test")}
    check_tasks(tasks, [name for name in METRICS if module.get(name) is not None], has_data)


def _collect_monitored(values: Mapping[str, Any]) -> dict[str, str]:
    monitors = {
        f"callbacks.{name}.monitor": node.get("monitor")
        for name, node in (values.get("callbacks") or {}).items()
        if node is not None
    }
    for name, node in (values.get("callbacks") or {}).items():
        if node is not None and str(node["_target_"]).endswith(f".{CriteriaStopping.__name__}") and is_known(node):
            with naming(f"callbacks.{name}"):
                criteria = read_criteria(node.get("criteria"), node.get("val_set", 0))
            monitors |= {f"callbacks.{name}.criteria.{key}": criterion.logged for key, criterion in criteria.items()}
    schedule = values["training_module"].get("lr_scheduler")
    if isinstance(schedule, Mapping):
        monitors["training_module.lr_scheduler.monitor"] = schedule.get("monitor")
    return {key: name for key, name in monitors.items() if isinstance(name, str)}


def _list_changes_without_validation(values: Mapping[str, Any]) -> list[str]:
    """List the overrides by which a run without validation follows its training loss, at the end of each epoch."""
    return ["monitored_metric=train_loss_epoch/weighted_sum", *_list_idle_without_validation(values)]


def _list_idle_without_validation(values: Mapping[str, Any]) -> list[str]:
    """List the overrides that wake callbacks which follow a value and look at it after validations only."""
    return [
        f"callbacks.{name}.{option}=true"
        for name, node in (values.get("callbacks") or {}).items()
        if isinstance(node, Mapping) and isinstance(node.get("monitor"), str)
        for option in ("check_on_train_epoch_end", "save_on_train_epoch_end")
        if node.get(option) is False
    ]


def _advise_without_validation(key: str, values: Mapping[str, Any]) -> str:
    if key == "monitored_metric":
        changes = " ".join(_list_changes_without_validation(values))
        return f"give data.val, or train without it and write {changes}"
    part = ".".join(key.split(".")[:2])
    return f"give data.val, or leave it out: ~{part}" if key.startswith("callbacks.") else "give data.val"


def _check_monitored(values: Mapping[str, Any], parts: Parts, any_species: bool, trusted: bool) -> None:
    num_sets = 1 if parts.sets is None else len(parts.sets["val"])
    kinds = ("", RAW) if values["training_module"].get("evaluate") == "both" else ("",)
    logged = [
        f"{prefix}/{name}"
        for section, prefixes in (
            ("val_metrics", [f"val{i}{kind}_epoch" for kind in kinds for i in range(num_sets)]),
            ("loss", ["train_loss_epoch", "train_loss_step"]),
            ("train_metrics", ["train_metric_epoch", "train_metric_step"]),
        )
        if section in parts.managers
        for prefix in prefixes
        for name in parts.managers[section].log_names
    ]
    patterns = [re.escape(name).replace(_ANY_SPECIES, _SYMBOL) if any_species else re.escape(name) for name in logged]
    for key, name in parts.monitored.items():
        if any(re.fullmatch(pattern, name) for pattern in patterns) or name.startswith(("lr-", learning_rate_log.NAME)):
            continue
        if name.startswith("val") and parts.sets is None and re.match(rf"val\d+({'|'.join(kinds)})_epoch/", name):
            continue  # only the data know how many sets there are
        if (trusted and not name.startswith("val")) or not _are_all_known(values["training_module"]):
            continue
        config_key = key if values.get("monitored_metric") != name else "monitored_metric"
        of_training = name.startswith("train") or not (num_sets or name.startswith("val"))
        stage = "train" if of_training else "val"
        candidates = [name for name in logged if name.startswith(stage) and _ANY_SPECIES not in name]
        advice = closest_hint(name, candidates).strip() or f"there are {', '.join(candidates)}"
        if not num_sets and not closest_hint(name, candidates):
            advice = _advise_without_validation(config_key, values)
        raise ConfigError(f"{config_key} is '{name}', which is not logged", advice)
    if not num_sets and (changes := _list_idle_without_validation(values)):
        idle = " and ".join(change.rpartition(".")[0] for change in changes)
        warnings.warn(
            f"{idle} would act after validations, but there is no data.val; write {' '.join(changes)}",
            stacklevel=2,
        )


def _are_all_known(module: Mapping[str, Any]) -> bool:
    """Whether the metrics that could log a name were built."""
    return all(is_known(_assume_coefficients(module.get(section))) for section in METRICS)
