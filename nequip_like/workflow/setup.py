"""From a composed config to the objects of a run: data, Lightning module, trainer."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nequip_like.data.datamodule import DataModule
from nequip_like.data.statistics import check_not_zero
from nequip_like.errors import ConfigError, closest_hint, first_line
from nequip_like.instantiate import instantiate
from nequip_like.model.potential import Potential
from nequip_like.train.callbacks import LoggingInterval, StepCounters
from nequip_like.train.checkpoint_io import WholeFileCheckpointIO
from nequip_like.train.module import NequIPLightningModule
from nequip_like.train.stopping import GracefulStop
from nequip_like.train.strategy import SummedGradientsStrategy
from nequip_like.train.validation_cycle import ValidationCycle
from nequip_like.whole_files import output_errors, path_of
from nequip_like.workflow import slurm
from nequip_like.workflow.key_places import place_hint
from nequip_like.workflow.values import own_error

# Groups of configs, one file for each choice.
GROUPS = (
    *("data", "model", "training_module", "targets", "optimizer", "lr_scheduler"),
    *("trainer", "callbacks", "logger", "experiment"),
)
TASKS = ("train", "val", "test")
AUTO = "auto"

_REQUIRED = ("run", "data", "training_module", "trainer", "seed", "output_dir")
# global_options: NequIP has ignored it since 0.14, and its configs still have it.
_OPTIONAL = (
    "model",
    "cutoff_radius",
    "chemical_species",
    "monitored_metric",
    "ckpt_path",
    "resume",
    "finetune",
    "run_name",
    "validate_every_n_updates",
    "callbacks",
    "logger",
    "report",
    "global_options",
    "trusted_packages",
)


def check_keys(config: DictConfig) -> None:
    """Refuse a config that lacks a section, or has one that nothing uses: most likely a typing mistake.

    Keys of the user's own are welcome if some value refers to them: ``${my_number}``.

    Raises:
        ConfigError: For such a key.
    """
    if missing := [key for key in _REQUIRED if key not in config]:
        raise ConfigError(
            f"the config has no '{missing[0]}'", "begin it with a line that takes in the defaults: [train, _self_]"
        )
    known = (*_REQUIRED, *_OPTIONAL)
    for group in GROUPS:
        if isinstance(chosen := _written(config, group), str) and "${" not in chosen:
            raise ConfigError(
                f"{group} is '{chosen}', a choice, which a config makes in its list defaults",
                f"defaults: [train, {{override {group}: {chosen}}}, _self_], or on the command line {group}={chosen}",
            )
    text = OmegaConf.to_yaml(config)
    for key in map(str, config):
        if key not in known and not re.search(rf"\$\{{[^}}]*\b{re.escape(key)}\b", text):
            plain: Any = OmegaConf.to_container(config, resolve=False)
            hint = place_hint(key, plain, key) or closest_hint(key, known)
            shown = ", ".join(name for name in known if name != "global_options")
            raise ConfigError(f"nothing uses '{key}' of the config", f"{hint}known are {shown}")


def _written(config: DictConfig, key: str) -> Any:
    node = config._get_node(key) if key in config else None
    return node._value() if isinstance(node, Node) else None


def tasks(config: Mapping[str, Any]) -> list[str]:
    """The tasks of ``run``, checked; ``auto`` is all that there are data for.

    Args:
        config: The config, or its values.

    Raises:
        ConfigError: For an unknown task, more than one ``train``, or nothing to do.
    """
    written = config["run"]
    if written == AUTO:
        # A data module of another kind may have sets that no key tells of.
        data = config["data"] if isinstance(config["data"], Mapping | DictConfig) else {}
        return [task for task in TASKS if task == "train" or data.get(task, True)]
    run = list(written) if isinstance(written, Sequence) and not isinstance(written, str) else [written]
    unknown = [task for task in run if task not in TASKS]
    if unknown or not run or run.count("train") > 1:
        raise ConfigError(
            f"run is {run}", f"give a list of {', '.join(TASKS)} with at least one entry, and 'train' once at most"
        )
    return run


def left_out(config: Mapping[str, Any]) -> str:
    """Which tasks ``run: auto`` leaves out, in words; empty if none."""
    without = [task for task in TASKS if task not in tasks(config)] if config["run"] == AUTO else []
    return "; ".join(f"no {task}, for data.{task} is not given" for task in without)


def build_data(config: DictConfig, known_species: Sequence[str] = ()) -> DataModule:
    """Read the data, and make its species and statistics known to the config.

    After this call ``chemical_species: auto`` is replaced by the species, and ``${training_data_stats:NAME}`` resolves.

    Args:
        config: The config.
        known_species: Species of a model that is fine-tuned: they come first, in this order.

    Raises:
        ConfigError: If the section does not describe data.
        DataError: If the data cannot be used.
    """
    data: DataModule = instantiate("data", resolved("data", config.data), kind=DataModule, recursive=False)
    data.know_species(known_species)
    data.prepare()
    if config.get("chemical_species") == "auto":
        config.chemical_species = list(data.type_names)
    # `data.reference_energies: null` asks for none, which is zero for each species.
    none = dict.fromkeys(data.type_names, 0.0)
    register_statistics({"reference_energies": none, "isolated_atom_energies": none, **data.statistics})
    return data


def register_statistics(statistics: Mapping[str, Any]) -> None:
    """Let ``${training_data_stats:NAME}`` stand for a statistic of the training set.

    ``energy_scale`` is the RMS of the forces, or without forces the spread of the energy per atom.
    """
    known = dict(statistics)
    scale = known.get("forces_rms") or known.get("per_atom_energy_std")
    known["energy_scale"] = scale if scale else 1.0
    # One value of a mapping has a name, too: per_type_forces_rms_H, my_edge_lengths_HC.
    single = {
        f"{name}_{key}": entry
        for name, value in known.items()
        if isinstance(value, dict)
        for kind, entry in value.items()
        for key in (kind, kind.replace("_", ""))
    }

    def look_up(name: str) -> Any:
        check_not_zero(name, known.get(name, single.get(name)))
        if name in single and name not in known:
            return single[name]
        if name not in known:
            raise ConfigError(
                f"the training data has no statistic '{name}'",
                f"there are {', '.join(sorted(known))}; those of forces need force labels",
            )
        value = known[name]
        return OmegaConf.create(value) if isinstance(value, dict | list) else value

    # OmegaConf keeps its resolvers for the process; each run replaces this one by its own data's.
    OmegaConf.register_new_resolver("training_data_stats", look_up, replace=True)


def build_module(
    config: DictConfig, data: DataModule, info: Mapping[str, Any], model: Potential | None = None
) -> NequIPLightningModule:
    """Build the Lightning module with the data's species and statistics.

    Args:
        config: The config.
        data: The data, prepared.
        info: What is kept in each checkpoint.
        model: The model, if it is not to be built of the config.

    Raises:
        ConfigError: If the section does not describe a training module.
    """
    arguments = resolved("training_module", config.training_module)
    arguments["num_datasets"] = {"val": max(1, len(data.val_sets)), "test": max(1, len(data.test_sets))}
    given = {}
    if model is not None:
        del arguments["model"]
        given["model"] = model
    module: NequIPLightningModule = instantiate(
        "training_module", arguments, kind=NequIPLightningModule, recursive=False, **given
    )
    module.info = dict(info)
    return module


def build_trainer(config: DictConfig) -> lightning.Trainer:
    """Build Lightning's trainer with callbacks and loggers, from mappings of named nodes.

    Raises:
        ConfigError: If a part cannot be built.
    """
    arguments = resolved("trainer", config.trainer)
    check_trainer(arguments)
    callbacks = _nodes("callbacks", config.get("callbacks"), Callback)
    if sys.stdout is None or not sys.stdout.isatty():  # None: it is closed
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    if not any(isinstance(callback, ProgressBar) for callback in callbacks):
        arguments["enable_progress_bar"] = False
    if _wants_ddp(arguments):
        arguments["strategy"] = SummedGradientsStrategy()
    # Lightning's own limits count an epoch that they cut short as a whole one.
    limits = {"max_time": arguments.pop("max_time", None), "max_steps": arguments.pop("max_steps", -1)}
    if limits["max_steps"] > -1 and arguments.get("max_epochs") is None:
        arguments["max_epochs"] = -1
    if (every := config.get("validate_every_n_updates")) is not None:
        callbacks.append(ValidationCycle(every))  # before what asks whether a validation follows
        arguments |= {"check_val_every_n_epoch": 1, "val_check_interval": None}
    callbacks += [GracefulStop(**limits), StepCounters(), LoggingInterval(arguments.get("log_every_n_steps"))]
    arguments["plugins"] = _plugins(arguments)
    trainer: lightning.Trainer = instantiate(
        "trainer",
        {
            **arguments,
            # Derivatives are predictions: validation needs autograd, which inference mode forbids.
            "inference_mode": False,
            # Our own samplers know the processes: no frame is counted twice.
            "use_distributed_sampler": False,
        },
        kind=lightning.Trainer,
        recursive=False,
        callbacks=callbacks,
        logger=_nodes("logger", config.get("logger"), Logger) or False,
    )
    return trainer


def _plugins(arguments: Mapping[str, Any]) -> list[Any]:
    given = arguments.get("plugins") or []
    plugins = [WholeFileCheckpointIO(), *(given if isinstance(given, list) else [given])]
    if not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins.append(slurm.cluster_environment(arguments))
    return plugins


def check_trainer(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of the trainer that are given elsewhere.

    Raises:
        ConfigError: Naming the argument.
    """
    for name in ("callbacks", "logger"):
        if name in arguments:
            raise ConfigError(f"trainer.{name} is given", f"put it into the section {name}: a mapping of named nodes")
    for name in ("inference_mode", "use_distributed_sampler"):
        if name in arguments:
            raise ConfigError(f"trainer.{name} is given", "leave it out: forces and exact metrics need it to be false")


def _wants_ddp(arguments: Mapping[str, Any]) -> bool:
    """Whether the run has several processes and leaves it to us how they work together."""
    strategy, devices = arguments.get("strategy", "auto"), arguments.get("devices", 1)
    several = arguments.get("num_nodes", 1) > 1 or (isinstance(devices, int) and devices > 1)
    if devices in ("auto", -1, "-1"):
        several = several or torch.cuda.device_count() > 1
    return strategy == "ddp" or (strategy == "auto" and several)


def _nodes(section: str, config: DictConfig | None, kind: type) -> list[Any]:
    if config is None:
        return []
    nodes = resolved(section, config)
    check_named_nodes(section, nodes)
    built = []
    for name, node in nodes.items():
        if node is None:
            continue
        built.append(instantiate(f"{section}.{name}", node, kind=kind, recursive=False))
    return built


def check_named_nodes(section: str, nodes: Any) -> None:
    """Refuse callbacks or loggers that have no names.

    Raises:
        ConfigError: Naming the section.
    """
    if not isinstance(nodes, Mapping):
        raise ConfigError(
            f"{section} is a {type(nodes).__name__}", "give a mapping from names to nodes with a _target_"
        )


def resolved(section: str, config: DictConfig) -> Any:
    """The section as plain values.

    Raises:
        ConfigError: If a value is missing, or an interpolation cannot be resolved.
    """
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        if (own := own_error(error)) is not None:
            raise own from None
        key = getattr(error, "full_key", None) or section
        raise ConfigError(f"{key}: {first_line(error)}", f"see the section {section} of the config") from error


def provenance(config: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What is kept in each checkpoint and model file to tell where it comes from: the resolved config and versions."""
    names = ("nequip-like", "torch", "lightning", "e3nn", "hydra-core", "ase", "vesin", "numpy")
    return {
        "config": resolved("config", config),
        "overrides": list(overrides),
        "versions": {"python": sys.version.split()[0], **{name: importlib.metadata.version(name) for name in names}},
    }


def output_folder(config: DictConfig) -> Path:
    """The folder that the run writes to, made if need be.

    Raises:
        OutputError: If it cannot be made.
    """
    folder = path_of(str(config.output_dir)).absolute()
    if str(config.output_dir).startswith("~"):
        config.output_dir = str(folder)  # callbacks and loggers take it from there
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
