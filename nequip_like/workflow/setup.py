"""From a composed config to the objects of a run: data, Lightning module, trainer."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra.utils
import lightning
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from nequip_like.data.datamodule import DataModule
from nequip_like.data.sampling.policies import ERROR_WEIGHTED
from nequip_like.data.statistics import check_not_zero
from nequip_like.errors import ConfigError, naming, naming_arguments
from nequip_like.inference.last_layer_fit import count_uncertainty_frames
from nequip_like.instantiate import instantiate
from nequip_like.model.measured import complete_arguments
from nequip_like.model.potential import Potential
from nequip_like.moved import replace_names
from nequip_like.report.boards import Dashboard
from nequip_like.report.boards.kinds import find_boards
from nequip_like.training.budget.clock import Clock, clock_from_now
from nequip_like.training.budget.keeper import BudgetKeeper
from nequip_like.training.budget.record_file import read_records
from nequip_like.training.callbacks import (
    FrameErrors,
    LoggingInterval,
    LossCoefficientMonitor,
    StepCounters,
    TrainingStats,
)
from nequip_like.training.callbacks.run_times import RunTimes
from nequip_like.training.callbacks.validation_cycle import ValidationCycle
from nequip_like.training.checkpointing.io import WholeFileCheckpointIO
from nequip_like.training.graceful_stop import GracefulStop
from nequip_like.training.gradients import SummedGradientsStrategy
from nequip_like.training.memory.batch_in_hand import BatchInHand
from nequip_like.training.module import NequIPLightningModule
from nequip_like.whole_files import output_errors, path_of
from nequip_like.workflow.config.base_targets import build_base, describe_base, names_base
from nequip_like.workflow.config.budget import budget_of
from nequip_like.workflow.config.sections import (
    DATA_ARGUMENTS,
    check_named_nodes,
    check_trainer,
    read_report,
    resolve_section,
)
from nequip_like.workflow.slurm.tasks import choose_cluster_environment


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
    section, replacements = resolve_section("data", config.data), {}
    if names_base(section.get("base_targets")):
        trusted = [str(name) for name in config.get("trusted_packages") or ()]
        folder, keeps = path_of(str(config.output_dir)), getattr(rank_zero_only, "rank", 0) == 0
        replacements["base_targets"] = build_base(section.pop("base_targets"), trusted, folder, keeps)
    with naming_arguments("data", DATA_ARGUMENTS):
        data: DataModule = instantiate("data", section, kind=DataModule, recursive=False, **replacements)
        data.know_species(known_species)
        data.prepare()
    announce_data(config, data)
    return data


def announce_data(config: DictConfig, data: DataModule) -> None:
    """Make the species and statistics of data that were read known to a config.

    Composing a config makes statistics unknown again, for they may be other data's.

    Args:
        config: The config.
        data: The data, prepared.
    """
    if config.get("chemical_species") == "auto":
        config.chemical_species = list(data.type_names)
    # `data.reference_energies: null` asks for none, which is zero for each species.
    none = dict.fromkeys(data.type_names, 0.0)
    register_statistics({"reference_energies": none, "isolated_atom_energies": none, **data.statistics})


def register_statistics(statistics: Mapping[str, Any]) -> None:
    """Let ``${training_data_stats:NAME}`` stand for a statistic of the training set.

    ``energy_scale`` is the RMS of the forces, or without forces the spread of the energy per atom.
    ``atom_face_area``, that of a face of a cube with the volume of an atom, makes a stress a force on this face.
    """
    named_values = {"volume_per_atom": 1.0, **statistics}
    area = named_values["volume_per_atom"] ** (2 / 3)
    named_values |= {"atom_face_area": area, "atom_face_area_squared": area**2}
    scale = named_values.get("forces_rms") or named_values.get("per_atom_energy_std")
    named_values["energy_scale"] = scale if scale else 1.0
    # One value of a mapping has a name, too: per_type_forces_rms_H, my_edge_lengths_HC.
    single = {
        f"{name}_{key}": entry
        for name, value in named_values.items()
        if isinstance(value, dict)
        for kind, entry in value.items()
        for key in (kind, kind.replace("_", ""))
    }

    def look_up(name: str) -> Any:
        check_not_zero(name, named_values.get(name, single.get(name)))
        if name in single and name not in named_values:
            return single[name]
        if name not in named_values:
            raise ConfigError(
                f"the training data has no statistic '{name}'",
                f"there are {', '.join(sorted(named_values))}; those of forces need force labels",
            )
        value = named_values[name]
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
    arguments = resolve_section("training_module", config.training_module)
    arguments["num_datasets"] = {"val": max(1, len(data.val_sets)), "test": max(1, len(data.test_sets))}
    replacements = {}
    if model is not None:
        del arguments["model"]
        replacements["model"] = model
    else:
        arguments["model"] = _measure_arguments(arguments.get("model"), data)
    with naming_arguments("training_module", arguments):
        module: NequIPLightningModule = instantiate(
            "training_module", arguments, kind=NequIPLightningModule, recursive=False, **replacements
        )
    module.info = dict(info)
    return module


def _measure_arguments(model: Any, data: DataModule) -> Any:
    """A model's config with what its builder wants measured on the training data."""
    if not isinstance(model, Mapping) or "_target_" not in model:
        return model  # the module refuses it in its own words
    try:
        builder = hydra.utils.get_object(replace_names(model)["_target_"])
    except ImportError:
        return model  # as above
    with naming("training_module.model"):
        return complete_arguments(builder, model, data.train_set)


def build_trainer(
    config: DictConfig,
    clock: Clock | None = None,
    tasks: Sequence[str] = ("train",),
) -> lightning.Trainer:
    """Build Lightning's trainer with callbacks and loggers, from mappings of named nodes.

    Args:
        config: The config.
        clock: Seconds since the run began, for its budget; by default it begins now.
        tasks: The tasks of the run: some time of a budget is left for those after the training.

    Raises:
        ConfigError: If a part cannot be built.
    """
    arguments = resolve_section("trainer", config.trainer)
    check_trainer(arguments)
    callbacks = _build_nodes("callbacks", config.get("callbacks"), Callback)
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
    if (budget := budget_of(config)) is not None:
        progress = None if budget.repeat is None else read_records(budget.repeat)
        folder = str(config.output_dir)
        clock = clock or clock_from_now()
        frames = count_uncertainty_frames(config.get("uncertainty"))
        report = config.get("report")
        page = read_report(None if report is None else resolve_section("report", report)).html
        keeper = BudgetKeeper(
            budget.seconds, clock, tasks=tasks, folder=folder, progress=progress, uncertainty_frames=frames, page=page
        )
        callbacks.append(keeper)
    with naming_arguments("trainer", limits):
        callbacks.append(GracefulStop(**limits))
    if (OmegaConf.select(config, "data.sampling.policy") or "") == ERROR_WEIGHTED:
        callbacks.append(FrameErrors())
    loggers = _build_nodes("logger", config.get("logger"), Logger)
    callbacks += _choose_for_boards(loggers, callbacks, tasks)
    callbacks += [BatchInHand(), RunTimes(), StepCounters(), LoggingInterval(arguments.get("log_every_n_steps"))]
    arguments["plugins"] = _collect_plugins(arguments)
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
        logger=loggers or False,
    )
    return trainer


def _choose_for_boards(
    loggers: Sequence[Logger], callbacks: Sequence[Callback], tasks: Sequence[str]
) -> list[Callback]:
    """What a run has for wandb, TensorBoard or MLflow, as far as the config does not say it itself."""
    if "train" not in tasks or not find_boards(loggers):
        return []
    wanted: tuple[type[Callback], ...] = (TrainingStats, LossCoefficientMonitor, Dashboard)
    return [kind() for kind in wanted if not any(isinstance(callback, kind) for callback in callbacks)]


def _collect_plugins(arguments: Mapping[str, Any]) -> list[Any]:
    user_plugins = arguments.get("plugins") or []
    plugins = [WholeFileCheckpointIO(), *(user_plugins if isinstance(user_plugins, list) else [user_plugins])]
    if not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins.append(choose_cluster_environment(arguments))
    return plugins


def _wants_ddp(arguments: Mapping[str, Any]) -> bool:
    """Whether the run has several processes and leaves it to us how they work together."""
    strategy, devices = arguments.get("strategy", "auto"), arguments.get("devices", 1)
    several = arguments.get("num_nodes", 1) > 1 or (isinstance(devices, int) and devices > 1)
    if devices in ("auto", -1, "-1"):
        several = several or torch.cuda.device_count() > 1
    return strategy == "ddp" or (strategy == "auto" and several)


def _build_nodes(section: str, config: DictConfig | None, kind: type) -> list[Any]:
    if config is None:
        return []
    nodes = resolve_section(section, config)
    check_named_nodes(section, nodes)
    instances = []
    for name, node in nodes.items():
        if node is None:
            continue
        instances.append(instantiate(f"{section}.{name}", node, kind=kind, recursive=False))
    return instances


def collect_provenance(config: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Collect what each checkpoint and model file holds of its origin: config, versions, the base of a delta."""
    resolved = resolve_section("config", config)
    base = resolved["data"].get("base_targets")
    return {
        "config": resolved,
        "overrides": list(overrides),
        "versions": dict(_read_versions()),
        **({"base": describe_base(base)} if base else {}),
    }


@functools.cache
def _read_versions() -> dict[str, str]:
    """Read the versions of Python and of the packages that numbers depend on."""
    names = ("nequip-like", "torch", "lightning", "e3nn", "hydra-core", "ase", "vesin", "numpy")
    return {"python": sys.version.split()[0], **{name: importlib.metadata.version(name) for name in names}}


def make_output_folder(config: DictConfig) -> Path:
    """Make the folder that the run writes to, if it is not there.

    Raises:
        OutputError: If it cannot be made.
    """
    folder = path_of(str(config.output_dir)).absolute()
    if str(config.output_dir).startswith("~"):
        config.output_dir = str(folder)  # callbacks and loggers take it from there
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
