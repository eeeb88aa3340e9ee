"""NequIP's sections ``training_module`` and ``trainer`` (checked against 0.19.1) in our form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nequip_like.compat.nequip_loss_weights import is_scheduler, merge_schedulers
from nequip_like.compat.nequip_names import MODELS, OBSERVERS, SHORT_FIELDS, class_name, is_target, own_target
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


def own_model(model: Any, notes: list[str]) -> dict[str, Any]:
    """The section ``model``.

    Args:
        model: NequIP's ``training_module.model``.
        notes: What a user should know is added here.

    Raises:
        ConfigError: If there is no such model here, or it lacks its types or its cutoff.
    """
    where = "training_module.model"
    if not isinstance(model, Mapping) or "_target_" not in model:
        raise ConfigError(f"{where} has no _target_", "for example _target_: nequip_like.model.NequIPGNNModel")
    own = _translated(model, where)
    if class_name(own["_target_"]) not in MODELS:
        raise ConfigError(f"{where}: {own['_target_']} is no model of NequIP's", f"there are {', '.join(MODELS)}")
    if (mode := own.pop("compile_mode", None)) not in (None, "eager"):
        notes.append(f"model.compile_mode: {mode} has no effect: this package runs its own kernels")
    if own.pop("categorical_graph_field_embed", None):
        raise ConfigError(
            f"{where}.categorical_graph_field_embed is given",
            "charge, spin or data set cannot be embedded yet: leave it out",
        )
    if (kind := own.pop("convnet_nonlinearity_type", "gate")) != "gate":
        raise ConfigError(f"{where}.convnet_nonlinearity_type is {kind}", "only gate can be built")
    for key, example in (("type_names", "[H, C, O]"), ("r_max", "5.0")):
        if own.get(key) is None:
            raise ConfigError(f"{where} has no {key}", f"for example {key}: {example}")
    return own


def own_training_module(section: Any) -> dict[str, Any]:
    """The section ``training_module``, without its model.

    Raises:
        ConfigError: If there is no such module here, or one of its parts is not.
    """
    if not isinstance(section, Mapping) or "_target_" not in section:
        raise ConfigError("training_module has no _target_", "for example nequip_like.training.EMALightningModule")
    own: dict[str, Any] = _translated({k: v for k, v in section.items() if k != "model"}, "training_module")
    for part in ("loss", "train_metrics", "val_metrics", "test_metrics"):
        _name_terms(own.get(part))
    schedule = own.get("lr_scheduler")
    if isinstance(schedule, dict) and "scheduler" in schedule:
        own["lr_scheduler"] = {"interval": "epoch", "frequency": 1, **schedule}  # what Lightning takes by default
    return own


def _translated(value: Any, where: str) -> Any:
    """The same with every `_target_` of NequIP's replaced by ours."""
    if isinstance(value, Mapping):
        return {
            key: own_target(entry, f"{where}._target_")
            if key == "_target_" and isinstance(entry, str)
            else _translated(entry, f"{where}.{key}")
            for key, entry in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_translated(entry, where) for entry in value]
    return value


def _name_terms(manager: Any) -> None:
    """Name the terms whose default name is another one in NequIP: with two fields, or with a space in it."""
    if not isinstance(manager, Mapping):
        return
    listed = [manager.get(key) for key in ("metrics", "extra_metrics")]
    for entry in [entry for entries in listed if isinstance(entries, list) for entry in entries]:
        if not isinstance(entry, dict) or entry.get("name"):
            continue
        field, metric = entry.get("field"), entry.get("metric")
        short = _METRIC_SHORT.get(class_name(metric.get("_target_"))) if isinstance(metric, Mapping) else None
        mapped = isinstance(field, Mapping) and class_name(field.get("_target_")) == "MappedFieldModifier"
        if short is not None and (mapped or " " in short) and (of := _field_name(field)):
            entry["name"] = f"{of}_{short}"


def _field_name(field: Any) -> str:
    """NequIP's short name of a field or modifier; nothing if it is neither."""
    if isinstance(field, str):
        return SHORT_FIELDS.get(field, field)
    if not isinstance(field, Mapping):
        return ""
    given = [str(field[key]) for key in ("pred_field", "target_field", "field") if key in field]
    names = [SHORT_FIELDS.get(name, name) for name in given]
    if len(names) == 2:
        return f"pred_{names[0]}_label_{names[1]}"
    prefix = "per_atom_" if class_name(field.get("_target_")) == "PerAtomModifier" else ""
    return f"{prefix}{names[0]}" if names else ""


# --- trainer


def own_trainer(trainer: Any, notes: list[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The sections ``trainer``, ``callbacks`` and ``logger``.

    Args:
        trainer: NequIP's section.
        notes: What a user should know is added here.

    Raises:
        ConfigError: If a callback or strategy is not there.
    """
    if not isinstance(trainer, Mapping):
        raise ConfigError(f"trainer is {trainer!r}", "give a mapping: {_target_: lightning.Trainer, max_epochs: 100}")
    own = dict(trainer)
    # A run is checked, and its parts are told, before Lightning begins.
    own = {"_target_": "lightning.Trainer", "num_sanity_val_steps": 0, "enable_model_summary": False, **own}
    callbacks = _callbacks(own.pop("callbacks", None), notes)
    if own.pop("enable_progress_bar", True):
        callbacks |= {name: dict(node) for name, node in _SHOWN.items() if name not in callbacks}
    logger = _loggers(own.pop("logger", True), notes)
    if own.pop("use_distributed_sampler", None) is not None:
        notes.append("trainer.use_distributed_sampler has no effect: each frame counts once on any number of processes")
    strategy = own.get("strategy")
    target = strategy.get("_target_") if isinstance(strategy, Mapping) else None
    if class_name(target) in ("SimpleDDPStrategy", "DDPStrategy"):
        own["strategy"] = "ddp"
    elif is_target(target):
        own_target(str(target), "trainer.strategy")
    return own, callbacks, logger


def _nodes(value: Any, where: str) -> list[dict[str, Any]]:
    """A node, a list of them, or our own mapping of named nodes, as a list."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        value = [value] if "_target_" in value else list(value.values())
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(f"{where} is {value!r}", "give a list of nodes with a _target_")
    for node in value:
        if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
            raise ConfigError(f"{where} has {node!r}", "give each node a _target_, the class that it configures")
    return [dict(node) for node in value]


def _callbacks(value: Any, notes: list[str]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for node in _nodes(value, "trainer.callbacks"):
        name = class_name(node["_target_"])
        if is_target(node["_target_"]) and name in OBSERVERS:
            notes.append(f"{name} is left out, the training is the same without it: {OBSERVERS[name]}")
            continue
        if is_target(node["_target_"]) and name == "TF32Scheduler":
            _check_tf32(node, notes)
            continue
        if not is_scheduler(node):
            node["_target_"] = own_target(node["_target_"], "trainer.callbacks")
        node["_target_"] = _RESUMABLE.get(node["_target_"], node["_target_"])
        label = _NODE_NAMES.get(name, _snake(name))
        if name == "ModelCheckpoint":
            label = "best_checkpoint" if node.get("monitor") else "checkpoint"
        named[_free(label, named)] = node
    return merge_schedulers(named, notes)


def replace_schedulers(config: DictConfig, notes: list[str]) -> DictConfig:
    """A config of ours, with a LossWeightSchedule in place of callbacks that have the names of NequIP's schedulers.

    Args:
        config: The config; it is left alone.
        notes: What a user should know is added here.

    Raises:
        ConfigError: If they cannot mean what was written.
    """
    written: Any = OmegaConf.to_container(config, resolve=False)
    callbacks = written.get("callbacks")
    names = [name for name, node in callbacks.items() if is_scheduler(node)] if isinstance(callbacks, dict) else []
    if not names:
        return config
    config = config.copy()
    nodes = {name: OmegaConf.to_container(config.callbacks[name], resolve=True) for name in names}
    with open_dict(config):
        config.callbacks = merge_schedulers({**callbacks, **nodes}, notes)
    return config


def _check_tf32(node: Mapping[str, Any], notes: list[str]) -> None:
    """Accept a schedule that never switches TF32 on."""
    schedule = node.get("schedule")
    if not isinstance(schedule, Mapping) or any(schedule.values()):
        raise ConfigError("trainer.callbacks: TF32Scheduler switches TF32 on", "leave it out: TF32 cannot be used yet")
    notes.append("TF32Scheduler is left out: TF32 is off in any case")


def _loggers(value: Any, notes: list[str]) -> dict[str, Any]:
    if value is False:
        return {}
    if value is True or value is None:
        notes.append("trainer.logger: metrics are logged to metrics.csv in the output folder")
        return {"csv": dict(CSV_LOGGER)}
    named: dict[str, Any] = {}
    for node in _nodes(value, "trainer.logger"):
        node["_target_"] = own_target(node["_target_"], "trainer.logger")
        name = class_name(node["_target_"])
        named[_free(_NODE_NAMES.get(name, _snake(name)), named)] = node
    return named


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _free(label: str, taken: Mapping[str, Any]) -> str:
    """The label, with a number if it is taken."""
    number, result = 1, label
    while result in taken:
        number += 1
        result = f"{label}_{number}"
    return result
