"""The keys of a run that trains, as what they are in our configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nequip_like.errors import ConfigError, closest_hint, naming
from nequip_like.workflow.runner import keys
from nequip_like.workflow.runner.built_in.architecture import translate_architecture
from nequip_like.workflow.runner.built_in.config_changes import ConfigChanges, describe_device, read_override_key
from nequip_like.workflow.runner.built_in.context import Composer
from nequip_like.workflow.runner.learning_rate import Schedule
from nequip_like.workflow.runner.requests import RunRequest

# What runs themselves say, or what would widen what a run file may do.
_NOT_TO_BE_GIVEN = ("hydra", "output_dir", "trusted_packages", "run", "resume", "ckpt_path", "model", "finetune.source")


def translate_training(request: RunRequest) -> ConfigChanges:
    """What a run that trains is in our configuration.

    Args:
        request: The run.

    Raises:
        ConfigError: If a key has no equal here, or keys contradict each other.
    """
    changes = ConfigChanges([f"model={request.backend}"])
    changes.values["output_dir"] = str(request.run_dir)
    changes.values |= {f"trainer.{key}": value for key, value in describe_device(request.device).items()}
    _translate_data(request.section("data"), changes)
    train = request.section("train")
    _refuse_foreign(train, request)
    translate_architecture(train, changes)
    _translate_sizes(train, changes)
    _translate_cycles(train, changes)
    _translate_optimizer(train, changes)
    _translate_schedule(train, changes)
    _translate_loss(train, changes)
    _translate_amp(train, request.device, changes)
    _translate_freeze(train, request.task, changes)
    return changes


def build_config(request: RunRequest, changes: ConfigChanges, compose: Composer, trusted: Sequence[str]) -> DictConfig:
    """Compose the config of a run.

    Args:
        request: The run.
        changes: What :func:`translate_training` gives.
        compose: Composes a config of overrides.
        trusted: Packages that the user trusts by name, on the command line.

    Raises:
        ConfigError: If it cannot be composed.
    """
    _check_arguments(request, changes)
    with naming("backend_args") if request.arguments else naming("train"):
        config = compose([*changes.choices, *request.arguments])
    with open_dict(config):
        for key, value in changes.values.items():
            OmegaConf.update(config, key, value, merge=False, force_add=True)
        if trusted:
            config.trusted_packages = list(trusted)
    return config


def list_typed(request: RunRequest, changes: ConfigChanges) -> list[str]:
    """The changes as overrides, for the records of a run."""
    values = [f"{key}={json.dumps(value)}" for key, value in changes.values.items() if key != "output_dir"]
    return [*changes.choices, *request.arguments, *values]


def _check_arguments(request: RunRequest, changes: ConfigChanges) -> None:
    for argument in request.arguments:
        key = read_override_key(argument)
        if any(key == name or key.startswith(f"{name}.") for name in _NOT_TO_BE_GIVEN if name != "model"):
            raise ConfigError(f"backend_args has '{key}', which is not for a run file to be told", "leave it out")
        if key == "model":
            raise ConfigError("backend_args has 'model'", "choose the model by backend: ...")
        chosen = any(key == choice.lstrip("~").partition("=")[0] for choice in changes.choices)
        for own in changes.values:
            if chosen or key == own or key.startswith(f"{own}.") or own.startswith(f"{key}."):
                raise ConfigError(f"backend_args has '{key}', which a key of the run sets, too", "give one of them")


# --- data


def _translate_data(data: Mapping[str, Any], changes: ConfigChanges) -> None:
    if given := [key for key in keys.EVALUATED if key in data]:
        raise ConfigError(f"data.{given[0]} is what evaluate and infer read", "name the training data: data.train")
    for name in ("train", "val", "test"):
        if name in data:
            changes.values[f"data.{name}"] = data[name]
    own = {"indices": data.get("indices"), "indices_path": data.get("indices_path")}
    for name in ("train", "val", "test"):
        chosen, notes = select_set_frames(data, name, own if name == "train" else {})
        changes.notes += notes
        if chosen and not isinstance(data.get(name), str | list):
            raise ConfigError(f"data.{name}_indices is given, but data.{name} names no file", "name its file, too")
        if chosen or (data.get("trust_pickle") and isinstance(data.get(name), str | list)):
            changes.values[f"data.{name}"] = {"file": data[name], **chosen}
            if data.get("trust_pickle"):
                changes.values[f"data.{name}"]["trust_pickle"] = True
    named = {"train", "val", "test", "indices", "indices_path", "trust_pickle"}
    for key, value in data.items():
        if key not in named and not key.endswith("_indices"):
            changes.values[f"data.{key}"] = value


def select_set_frames(data: Mapping[str, Any], name: str, own: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The frames that are taken of a set: numbers first, then a file of numbers, then a sample.

    Args:
        data: The section.
        name: ``train``, ``val`` or ``test``.
        own: ``indices`` and ``indices_path`` of the section itself, where this is the set that it is about.

    Returns:
        Keys for the entry of the set in our configuration; and which keys they leave without effect.

    Example:
        >>> select_set_frames({"train_indices": {"max_samples": 9}}, "train", {"indices": [4, 0]})
        ({'indices': [4, 0]}, ['data.train_indices has no effect beside data.indices'])
    """
    subset = dict(data.get(f"{name}_indices") or {})
    notes: list[str] = []
    for key in ("indices", "indices_path"):
        if own.get(key) is not None:
            if key == "indices" and own.get("indices_path") is not None:
                notes.append("data.indices_path has no effect beside data.indices")
            if subset:
                notes.append(f"data.{name}_indices has no effect beside data.{key}")
            return {key: own[key]}, notes
    if "indices_path" in subset:
        notes += [
            f"data.{name}_indices.{key} has no effect beside its indices_path"
            for key in subset
            if key != "indices_path"
        ]
        return {"indices_path": subset["indices_path"]}, notes
    return subset, notes


# --- train


def _refuse_foreign(train: Mapping[str, Any], request: RunRequest) -> None:
    """Refuse what only trainers of others know."""
    for key in ("config_yml", "identifier"):
        if train.get(key) is not None:
            raise ConfigError(
                f"train.{key} is for trainers of others, not for backend: {request.backend}",
                "leave it out; the run's config is written to its folder, and name: ... names it",
            )
    if train.get("head_key") is not None:
        raise ConfigError("train.head_key names a head, but models here have one", "leave it out")
    for key in ("use_core", "force_core"):
        if train.get(key) is False:
            raise ConfigError(f"train.{key} is false, but {request.backend} has no other trainer", "leave it out")
    if train.get("loss_force") in ("l2mae", "atomwisel2"):
        raise ConfigError(
            f"train.loss_force is {train['loss_force']}, a loss of the length of a force's error",
            "give mae or mse, of its components; or leave loss_force out, and give backend_args: "
            "[training_module.loss.function=stratified_huber], which treats a force as a vector",
        )


_SIZES = {
    "epochs": "trainer.max_epochs",
    "batch_size": "data.batch_size",
    "num_workers": "data.num_workers",
    "seed": "seed",
    "accum_steps": "trainer.accumulate_grad_batches",
    "log_every": "trainer.log_every_n_steps",
    "drop_last": "data.drop_last",
}


def _translate_sizes(train: Mapping[str, Any], changes: ConfigChanges) -> None:
    for key, place in _SIZES.items():
        if train.get(key) is not None:
            if place in changes.values:
                raise ConfigError(f"train.{key} and {place} are both given", "give one of them")
            changes.values[place] = train[key]
    if "max_grad_norm" in train:
        norm = train["max_grad_norm"]
        changes.values["training_module.gradient_clip"] = None if norm is None else {"norm": norm}
    if train.get("progress_bar") is False:
        changes.choices.append("~callbacks.progress_bar")
    elif train.get("progress_bar") is True:
        changes.notes.append("train.progress_bar: true is shown on a terminal only; a file gets a line an epoch")
    if train.get("progress_mininterval") is not None:
        changes.notes.append("train.progress_mininterval has no effect: the bar goes by batches")


def _translate_cycles(train: Mapping[str, Any], changes: ConfigChanges) -> None:
    cycle = count_cycle(train)
    if not cycle:
        if "save_every" in train:
            changes.values["callbacks.last_checkpoint.every_n_epochs"] = train["save_every"]
        return
    if train.get("drop_last") is False:
        raise ConfigError(
            "train.drop_last is false, but with cycle_steps the last batch of an epoch is left out",
            "leave drop_last out",
        )
    if "save_every" in train:
        changes.notes.append("train.save_every has no effect with train.cycle_steps: each cycle has a checkpoint")
    changes.choices.append("callbacks=[default,periodic_checkpoint]")
    changes.values |= {
        "data.drop_last": True,
        "validate_every_n_updates": cycle,
        "callbacks.periodic_checkpoint.every_n_updates": cycle,
    }


def count_cycle(train: Mapping[str, Any]) -> int:
    """Optimizer updates of a cycle; 0 without cycles."""
    return max(0, train.get("cycle_steps") or 0)


def _translate_optimizer(train: Mapping[str, Any], changes: ConfigChanges) -> None:
    if (name := train.get("optimizer")) is not None:
        known = [option for option in keys.list_optimizers() if option != "named"]
        if name not in known:
            hint = closest_hint(name, known)
            raise ConfigError(f"train.optimizer is '{name}'", f"{hint}known are {', '.join(known)}")
        changes.choices.append(f"optimizer={name}")
    section = "training_module.optimizer"
    if "lr" in train:
        changes.values[f"{section}.lr"] = train["lr"]
    keywords = train.get("no_decay_keywords")
    if "weight_decay" in train:
        changes.values[f"{section}.weight_decay"] = train["weight_decay"]
        if train["weight_decay"] > 0:
            changes.values[f"{section}.weight_decay_groups"] = "no_bias"
    if keywords:
        if not train.get("weight_decay"):
            raise ConfigError("train.no_decay_keywords is given, but no train.weight_decay", "give both")
        rules = [{"match": keyword, "weight_decay": 0.0} for keyword in keywords]
        changes.values[f"{section}.param_groups"] = rules


def _translate_schedule(train: Mapping[str, Any], changes: ConfigChanges) -> None:
    schedule = Schedule.read(train)
    cycle, unit = count_cycle(train), train.get("scheduler_step_unit", "epoch")
    if unit == "cycle" and not cycle:
        raise ConfigError("train.scheduler_step_unit is cycle, but there are no cycles", "give train.cycle_steps")
    if schedule is None:
        if train.get("early_stop_factor"):
            raise ConfigError("train.early_stop_factor is given, but no scheduler", "give train.scheduler: plateau")
        return
    key = "training_module.lr_scheduler"
    target = {"_target_": "nequip_like.optim.LearningRate", "schedule": schedule.kind}
    if schedule.kind is None:
        changes.values[key] = None
    elif schedule.kind == "plateau":
        changes.values[key] = {
            **target,
            "monitor": "${monitored_metric}",
            "factor": schedule.factor,
            "patience": schedule.patience,
            **({"monitor_interval": "step", "monitor_frequency": cycle} if cycle else {}),
        }
        if unit == "cycle":
            changes.notes.append("train.scheduler_step_unit has no effect: a plateau looks at each evaluation")
    else:
        size = schedule.step_size
        changes.values[key] = {
            **target,
            "step_size": {"steps": size * cycle} if unit == "cycle" else size,
            "gamma": schedule.gamma,
        }
    if patience := schedule.count_until_stop(train):
        groups = next((choice for choice in changes.choices if choice.startswith("callbacks=[")), "callbacks=[default]")
        changes.choices = [choice for choice in changes.choices if choice != groups]
        changes.choices.append(groups.replace("]", ",early_stopping]"))
        changes.values["callbacks.early_stopping.patience"] = patience


def _translate_loss(train: Mapping[str, Any], changes: ConfigChanges) -> None:
    if {"energy_weight", "force_weight"} & train.keys():
        weights = {"total_energy": train.get("energy_weight", 1.0), "forces": train.get("force_weight", 1.0)}
        changes.values["training_module.loss.coeffs"] = None
        changes.values["training_module.loss.weights"] = weights
    if {"loss_energy", "loss_force"} & train.keys():
        changes.values["training_module.loss.function"] = {
            "total_energy": train.get("loss_energy", "mse"),
            "forces": train.get("loss_force", "mse"),
        }


def _translate_amp(train: Mapping[str, Any], device: str, changes: ConfigChanges) -> None:
    if train.get("amp"):
        if device == "cpu":
            changes.notes.append("train.amp has no effect on a CPU")
        elif device == "auto":
            raise ConfigError("train.amp is for a GPU, but device is not said to be one", "write device: cuda")
        else:
            changes.values["trainer.precision"] = "16-mixed"


def _translate_freeze(train: Mapping[str, Any], task: str, changes: ConfigChanges) -> None:
    if train.get("freeze") == "head_only":
        if task == "train":
            raise ConfigError("train.freeze is head_only, but a new model has nothing learnt to keep", "task: finetune")
        changes.values["finetune.freeze"] = "head_only"
