"""NequIP's sections ``training_module`` and ``trainer`` (checked against 0.19.1) in our form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nequip_like.compat.nequip_loss_weights import is_scheduler, merge_schedulers
from nequip_like.compat.nequip_names import (
    MODELS,
    OBSERVERS,
    SHORT_FIELDS,
    WEIGHT_STATISTICS,
    class_name,
    class_of,
    is_target,
    translate_target,
)
from nequip_like.compat.nequip_values import check_keys, parse_whole_number
from nequip_like.errors import ConfigError

CSV_LOGGER = {
    "_target_": "lightning.pytorch.loggers.CSVLogger",
    "save_dir": "${output_dir}",
    "name": "",
    "version": "",
}
_SHOWN = {
    "epoch_printer": {"_target_": "nequip_like.training.callbacks.EpochPrinter", "style": "${console}"},
    "progress_bar": {"_target_": "lightning.pytorch.callbacks.RichProgressBar"},
}
_LIGHTNING = "lightning.pytorch.callbacks"
# Lightning's own forget, on resuming, what they had seen.
_RESUMABLE = {
    f"{_LIGHTNING}.ModelCheckpoint": "nequip_like.training.checkpointing.callback.ResumableCheckpoint",
    f"{_LIGHTNING}.model_checkpoint.ModelCheckpoint": "nequip_like.training.checkpointing.callback.ResumableCheckpoint",
    f"{_LIGHTNING}.EarlyStopping": "nequip_like.training.callbacks.ResumableEarlyStopping",
    f"{_LIGHTNING}.early_stopping.EarlyStopping": "nequip_like.training.callbacks.ResumableEarlyStopping",
}
_NODE_NAMES = {
    "LearningRateMonitor": "learning_rate",
    "RichProgressBar": "progress_bar",
    "TQDMProgressBar": "progress_bar",
    "CSVLogger": "csv",
    "TensorBoardLogger": "tensorboard",
    "WandbLogger": "wandb",
}
_METRIC_SHORT = {
    "MeanAbsoluteError": "mae",
    "MeanSquaredError": "mse",
    "RootMeanSquaredError": "rmse",
    "MaximumAbsoluteError": "max_ae",
    "HuberLoss": "huber",
    "StratifiedHuberForceLoss": "stratified huber",
}


def translate_model(model: Any, notes: list[str]) -> dict[str, Any]:
    """The section ``model``.

    Args:
        model: NequIP's ``training_module.model``.
        notes: What a user should know is added here.

    Raises:
        ConfigError: If there is no such model here, or it lacks its types or its cutoff.
    """
    section = "training_module.model"
    if not isinstance(model, Mapping) or "_target_" not in model:
        raise ConfigError(f"{section} has no _target_", "for example _target_: nequip_like.model.NequIPGNNModel")
    translated = _translate_targets(model, section)
    if class_name(translated["_target_"]) not in MODELS:
        raise ConfigError(
            f"{section}: {translated['_target_']} is no model of NequIP's", f"there are {', '.join(MODELS)}"
        )
    if (mode := translated.pop("compile_mode", None)) not in (None, "eager"):
        notes.append(f"model.compile_mode: {mode} has no effect: this package runs its own kernels")
    if translated.pop("categorical_graph_field_embed", None):
        raise ConfigError(
            f"{section}.categorical_graph_field_embed is given",
            "charge, spin or data set cannot be embedded yet: leave it out",
        )
    if (kind := translated.pop("convnet_nonlinearity_type", "gate")) != "gate":
        raise ConfigError(f"{section}.convnet_nonlinearity_type is {kind}", "only gate can be built")
    for key, example in (("type_names", "[H, C, O]"), ("r_max", "5.0")):
        if translated.get(key) is None:
            raise ConfigError(f"{section} has no {key}", f"for example {key}: {example}")
    return translated


def translate_training_module(section: Any) -> dict[str, Any]:
    """The section ``training_module``, without its model.

    Raises:
        ConfigError: If there is no such module here, or one of its parts is not.
    """
    if not isinstance(section, Mapping) or "_target_" not in section:
        raise ConfigError("training_module has no _target_", "for example nequip_like.training.EMALightningModule")
    translated: dict[str, Any] = _translate_targets(
        {k: v for k, v in section.items() if k != "model"}, "training_module"
    )
    for part in ("loss", "train_metrics", "val_metrics", "test_metrics"):
        _name_terms(translated.get(part))
    schedule = translated.get("lr_scheduler")
    if isinstance(schedule, dict) and "scheduler" in schedule:
        # What Lightning takes by default.
        translated["lr_scheduler"] = {"interval": "epoch", "frequency": 1, **schedule}
    return translated


def _translate_targets(value: Any, path: str) -> Any:
    """The same with every `_target_` of NequIP's replaced by ours."""
    if isinstance(value, Mapping):
        return {
            key: translate_target(entry, f"{path}._target_")
            if key == "_target_" and isinstance(entry, str)
            else _translate_targets(entry, f"{path}.{key}")
            for key, entry in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_translate_targets(entry, path) for entry in value]
    return value


def _name_terms(manager: Any) -> None:
    """Name the terms whose default name is another one in NequIP: with two fields, or with a space in it."""
    if not isinstance(manager, Mapping):
        return
    term_lists = [manager.get(key) for key in ("metrics", "extra_metrics")]
    for entry in [entry for entries in term_lists if isinstance(entries, list) for entry in entries]:
        if not isinstance(entry, dict) or entry.get("name"):
            continue
        field, metric = entry.get("field"), entry.get("metric")
        short = _METRIC_SHORT.get(class_of(metric))
        mapped = class_of(field) == "MappedFieldModifier"
        if short is not None and (mapped or " " in short) and (of := _shorten_field(field)):
            entry["name"] = f"{of}_{short}"


def _shorten_field(field: Any) -> str:
    """NequIP's short name of a field or modifier; nothing if it is neither."""
    if isinstance(field, str):
        return SHORT_FIELDS.get(field, field)
    if not isinstance(field, Mapping):
        return ""
    field_names = [str(field[key]) for key in ("pred_field", "target_field", "field") if key in field]
    names = [SHORT_FIELDS.get(name, name) for name in field_names]
    if len(names) == 2:
        return f"pred_{names[0]}_label_{names[1]}"
    prefix = "per_atom_" if class_of(field) == "PerAtomModifier" else ""
    return f"{prefix}{names[0]}" if names else ""


# --- trainer


def translate_trainer(trainer: Any, notes: list[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The sections ``trainer``, ``callbacks`` and ``logger``.

    Args:
        trainer: NequIP's section.
        notes: What a user should know is added here.

    Raises:
        ConfigError: If a callback or strategy is not there.
    """
    if not isinstance(trainer, Mapping):
        raise ConfigError(f"trainer is {trainer!r}", "give a mapping: {_target_: lightning.Trainer, max_epochs: 100}")
    settings = dict(trainer)
    # A run is checked, and its parts are told, before Lightning begins.
    settings = {"_target_": "lightning.Trainer", "num_sanity_val_steps": 0, "enable_model_summary": False, **settings}
    callbacks = _translate_callbacks(settings.pop("callbacks", None), notes)
    if settings.pop("enable_progress_bar", True):
        callbacks |= {name: dict(node) for name, node in _SHOWN.items() if name not in callbacks}
    logger = _translate_loggers(settings.pop("logger", True), notes)
    if settings.pop("use_distributed_sampler", None) is not None:
        notes.append("trainer.use_distributed_sampler has no effect: each frame counts once on any number of processes")
    strategy = settings.get("strategy")
    target = strategy.get("_target_") if isinstance(strategy, Mapping) else None
    if class_name(target) in ("SimpleDDPStrategy", "DDPStrategy"):
        settings["strategy"] = "ddp"
    elif is_target(target):
        translate_target(str(target), "trainer.strategy")
    return settings, callbacks, logger


def _list_nodes(value: Any, key: str) -> list[dict[str, Any]]:
    """A node, a list of them, or our own mapping of named nodes, as a list."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        value = [value] if "_target_" in value else list(value.values())
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(f"{key} is {value!r}", "give a list of nodes with a _target_")
    for node in value:
        if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
            raise ConfigError(f"{key} has {node!r}", "give each node a _target_, the class that it configures")
    return [dict(node) for node in value]


def _translate_callbacks(value: Any, notes: list[str]) -> dict[str, Any]:
    nodes: dict[str, Any] = {}
    for node in _list_nodes(value, "trainer.callbacks"):
        name = class_name(node["_target_"])
        if is_target(node["_target_"]) and name in OBSERVERS:
            notes.append(f"{name} is left out, the training is the same without it: {OBSERVERS[name]}")
            continue
        if _is_weight_statistics(node):
            nodes.setdefault("training_stats", _translate_weight_statistics(node, notes))
            continue
        if is_target(node["_target_"]) and name == "TF32Scheduler":
            _check_tf32(node, notes)
            continue
        if not is_scheduler(node):
            node["_target_"] = translate_target(node["_target_"], "trainer.callbacks")
        node["_target_"] = _RESUMABLE.get(node["_target_"], node["_target_"])
        label = _NODE_NAMES.get(name, _convert_to_snake_case(name))
        if name == "ModelCheckpoint":
            label = "best_checkpoint" if node.get("monitor") else "checkpoint"
        nodes[_make_unique(label, nodes)] = node
    return merge_schedulers(nodes, notes)


def _is_weight_statistics(node: Any) -> bool:
    return class_of(node) in WEIGHT_STATISTICS and is_target(node["_target_"])


def _translate_weight_statistics(node: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    name = class_of(node)
    check_keys(name, node, ("_target_", *WEIGHT_STATISTICS[name]), "argument")
    every = parse_whole_number(f"log_freq of {name}", node.get("log_freq", 100), 1)
    ignored = [key for key in WEIGHT_STATISTICS[name][1:] if key in node]
    remark = f"; {' and '.join(ignored)} had no place here" if ignored else ""
    notes.append(f"{name} is TrainingStats here: norms of each weight, its gradient and its update{remark}")
    target = translate_target(f"nequip.train.callbacks.{name}", name)
    return {"_target_": target, "every_n_steps": every, "every_n_epochs": None, "by_weight": True}


def replace_callbacks(config: DictConfig, notes: list[str]) -> DictConfig:
    """A config of ours, with callbacks of today in place of those that earlier versions had under NequIP's names.

    Args:
        config: The config; it is left alone.
        notes: What a user should know is added here.

    Raises:
        ConfigError: If they cannot mean what was written.
    """
    written: Any = OmegaConf.to_container(config, resolve=False)
    callbacks = written.get("callbacks")
    if not isinstance(callbacks, dict):
        return config
    schedulers = [name for name, node in callbacks.items() if is_scheduler(node)]
    statistics = [name for name, node in callbacks.items() if _is_weight_statistics(node)]
    if not schedulers and not statistics:
        return config
    config = config.copy()
    nodes: dict[str, Any] = {
        name: OmegaConf.to_container(config.callbacks[name], resolve=True) for name in schedulers + statistics
    }
    for name in statistics:
        nodes[name] = _translate_weight_statistics(nodes[name], notes)
    with open_dict(config):
        config.callbacks = merge_schedulers({**callbacks, **nodes}, notes)
    return config


def _check_tf32(node: Mapping[str, Any], notes: list[str]) -> None:
    """Accept a schedule that never switches TF32 on."""
    schedule = node.get("schedule")
    if not isinstance(schedule, Mapping) or any(schedule.values()):
        raise ConfigError("trainer.callbacks: TF32Scheduler switches TF32 on", "leave it out: TF32 cannot be used yet")
    notes.append("TF32Scheduler is left out: TF32 is off in any case")


def _translate_loggers(value: Any, notes: list[str]) -> dict[str, Any]:
    if value is False:
        return {}
    if value is True or value is None:
        notes.append("trainer.logger: metrics are logged to metrics.csv in the output folder")
        return {"csv": dict(CSV_LOGGER)}
    nodes: dict[str, Any] = {}
    for node in _list_nodes(value, "trainer.logger"):
        node["_target_"] = translate_target(node["_target_"], "trainer.logger")
        name = class_name(node["_target_"])
        nodes[_make_unique(_NODE_NAMES.get(name, _convert_to_snake_case(name)), nodes)] = node
    return nodes


def _convert_to_snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _make_unique(label: str, labels: Mapping[str, Any]) -> str:
    """The label, with a number if it is taken."""
    number, result = 1, label
    while result in labels:
        number += 1
        result = f"{label}_{number}"
    return result
