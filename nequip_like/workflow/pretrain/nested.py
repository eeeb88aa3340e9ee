"""The trainings before the run itself: their configs, made out of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.data.graph import has_label
from nequip_like.workflow.config.packaged import read_packaged
from nequip_like.workflow.config.sections import resolve_section
from nequip_like.workflow.finetune.source import find_model_section
from nequip_like.workflow.pretrain.settings import Pretraining

_SHARE_OF_VAL = 0.05
_CALLBACKS = ("best_checkpoint", "last_checkpoint", "epoch_printer")
_OF_DATA = ("avg_num_neighbors", "per_type_energy_scales")


def read_data_values(config: DictConfig, data: DataModule) -> dict[str, Any]:
    """Read what the user's data decide of the model: both trainings have the same scales, neighbours and species.

    Args:
        config: The config, whose statistics are known.
        data: The data.
    """
    _, node = find_model_section(config)
    values = resolve_section("model", node)
    known = {key: values[key] for key in _OF_DATA if key in values}
    return {"model": known, "species": list(data.type_names), "stress": trains_stress(config, data)}


def trains_stress(config: DictConfig, data: DataModule) -> bool:
    """Whether the loss has stress, and some frame a label of it."""
    loss = OmegaConf.to_container(config.training_module.loss, resolve=False)
    named = "stress" in str(loss).lower()
    return named and any(has_label(frame, fields.STRESS) for frame in data.train_set.frames)


def make_pretraining(
    config: DictConfig,
    settings: Pretraining,
    values: Mapping[str, Any],
    frames: Path,
    count: int,
    length: Mapping[str, Any],
    goes_on: bool,
) -> DictConfig:
    """Make the config of the training on a teacher's labels.

    Model, optimizer, averages and batches are the user's; the loss is of energies and forces (and stress, if the
    user's is), whatever the user's labels are, and the rate anneals. The teacher's energies get reference energies of
    their own, the scale of energies is that of the user's data.

    Args:
        config: The user's config.
        settings: The section ``pretrain``.
        values: As :func:`read_data_values` gives it.
        frames: The file of labelled frames.
        count: How many these are.
        length: ``budget`` or ``trainer.max_epochs``.
        goes_on: Whether it goes on with an earlier one in its folder, if there is one.
    """
    nested = _make_training(config, frames.parent)
    data = nested.data
    with open_dict(nested):
        nested.data = {
            "_target_": "nequip_like.data.datamodule.DataModule",
            "train": str(frames),
            "val": max(5, round(_SHARE_OF_VAL * count)),
            "cutoff_radius": "${cutoff_radius}" if config.get("cutoff_radius") is not None else data.cutoff_radius,
            "species": values["species"],
            "batch_size": data.get("batch_size", 5),
            "global_batch_size": data.get("global_batch_size"),
            "val_batch_size": 10,
            "num_workers": data.get("num_workers", 0),
            "seed": config.seed,
            # Thermal and rattled structures may be alike to rounding where a teacher lets nothing move.
            "allow_overlap": True,
        }
        nested.chemical_species = values["species"]
        nested.resume = "auto" if goes_on else None
        nested.monitored_metric = "val0_epoch/weighted_sum"
        targets = read_packaged(f"targets/energy_force{'_stress' * values['stress']}.yaml")
        for key, node in targets.items():
            nested.training_module[key] = node
        section, node = find_model_section(nested)
        for key, value in values["model"].items():
            OmegaConf.update(nested, f"{section}.{key}", value, merge=False)
        if "per_type_energy_shifts" in node:
            node.per_type_energy_shifts = "${training_data_stats:reference_energies}"
        for key, value in length.items():
            OmegaConf.update(nested, key, value)
    return nested


def make_control(config: DictConfig, folder: Path, steps: int, source: Path | None, rate_factor: float) -> DictConfig:
    """Make the config of a short training on the user's data.

    Args:
        config: The user's config.
        folder: Its output folder.
        steps: Its length; it validates at its end.
        source: The model that it begins with; None for fresh weights.
        rate_factor: For one that begins with a model, as in the run itself.
    """
    nested = _make_training(config, folder)
    with open_dict(nested):
        nested.validate_every_n_updates = steps
        nested.trainer.max_steps = steps
        nested.trainer.max_epochs = -1
        follower = (config.get("callbacks") or {}).get("best_checkpoint") or {}
        nested.callbacks.best_checkpoint.mode = follower.get("mode", "min")
        if source is not None:
            begin_with(nested, source, rate_factor)
    return nested


def begin_with(config: DictConfig, source: Path, rate_factor: float) -> None:
    """Let a run begin with the weights of a pretraining, at a lower rate, which does not shake off what they know.

    Energy shifts are found anew: levels of theory differ.

    Args:
        config: The config; it is changed.
        source: The model.
        rate_factor: What the learning rate is multiplied by.
    """
    with open_dict(config):
        finetune = config.get("finetune") or {}
        config.finetune = {**finetune, "source": str(source), "shifts": "refit"}
        optimizer = config.training_module.optimizer
        if isinstance(optimizer.get("lr"), int | float):
            optimizer.lr = rate_factor * optimizer.lr


def leave_out(config: DictConfig) -> None:
    """Leave the pretraining out of a config: it is done, or the config is one of its parts."""
    with open_dict(config):
        config.pretrain = None


def _make_training(config: DictConfig, folder: Path) -> DictConfig:
    """Make a config of a training by itself: without tests, limits, loggers and callbacks of the user's."""
    nested = config.copy()
    leave_out(nested)
    with open_dict(nested):
        nested.run = ["train"]
        nested.output_dir = str(folder)
        nested.budget, nested.ckpt_path, nested.resume, nested.run_name = None, None, None, None
        nested.validate_every_n_updates = None
        nested.console = "line"
        nested.report = {"format": []}
        nested.uncertainty = "none"
        callbacks = read_packaged("callbacks/default.yaml")
        nested.callbacks = {name: callbacks[name] for name in _CALLBACKS}
        nested.logger = read_packaged("logger/csv.yaml")
        trainer = nested.trainer
        trainer.max_time, trainer.max_steps = None, -1
        trainer.check_val_every_n_epoch, trainer.val_check_interval = 1, None
        module = nested.training_module
        module.test_metrics, module.train_metrics = None, None
        if module.get("lr_scheduler") is not None:
            module.lr_scheduler = read_packaged("lr_scheduler/anneal.yaml")
    return nested
