"""Check before the first step that each task has data, metrics and labels, and that monitored values are logged."""

from __future__ import annotations

from collections.abc import Sequence

import lightning

from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import FORCES, LABELS, STRESS, TOTAL_ENERGY
from nequip_like.errors import ConfigError, DataError, closest_hint
from nequip_like.metrics.manager import MetricsManager
from nequip_like.training.module import NequIPLightningModule
from nequip_like.workflow.config.sections import check_tasks


def check_run(run: Sequence[str], data: DataModule, module: NequIPLightningModule, trainer: lightning.Trainer) -> None:
    """Refuse a run that would end later, perhaps after hours of training.

    Args:
        run: The tasks, in order.
        data: The data.
        module: The training module.
        trainer: The trainer with its callbacks.

    Raises:
        ConfigError: If a task lacks data or metrics, or if what is followed is not logged.
        DataError: If a data set lacks a label that its loss or metrics need.
    """
    check_tasks(
        run,
        [name for name in ("loss", "val_metrics", "test_metrics") if getattr(module, name)],
        {"train": True, "val": bool(data.val_sets), "test": bool(data.test_sets)},
    )
    check_labels(run, data, module)
    if "train" in run:
        _check_monitored(trainer, module, data)


def check_labels(run: Sequence[str], data: DataModule, module: NequIPLightningModule) -> None:
    """Refuse data sets that lack a label which their loss or metrics need.

    Args:
        run: The tasks, in order.
        data: The data.
        module: The training module.

    Raises:
        DataError: Naming the set and the label.
    """
    pairs: list[tuple[str, MetricsManager, str, GraphDataset]] = []
    if "train" in run and module.loss is not None:
        pairs.append(("loss", module.loss, "train", data.train_set))
    if "train" in run and module.train_metrics is not None:
        pairs.append(("train_metrics", module.train_metrics, "train", data.train_set))
    for stage, managers, sets in (
        ("val", module.val_metrics, data.val_sets),
        ("test", module.test_metrics, data.test_sets),
    ):
        if stage in run or (stage == "val" and "train" in run):
            for manager, (name, dataset) in zip(managers, sets.items(), strict=False):
                if isinstance(manager, MetricsManager):
                    pairs.append((f"{stage}_metrics", manager, name, dataset))
    for part, manager, name, dataset in pairs:
        if missing := sorted(manager.required_fields() & set(LABELS) - set(dataset.labels)):
            raise DataError(
                f"no frame of the data set '{name}' has {' or '.join(missing)}, which training_module.{part} needs",
                f"{_find_fitting_targets(dataset)}declare the label's name in the file: data.key_mapping",
            )


def _find_fitting_targets(dataset: GraphDataset) -> str:
    """Name the choices of ``targets`` that a data set has all labels for, as the begin of an advice; empty if none."""
    needed = {"energy": {TOTAL_ENERGY}, "force": {FORCES}, "energy_force": {TOTAL_ENERGY, FORCES}}
    needed["energy_force_stress"] = {TOTAL_ENERGY, FORCES, STRESS}
    fitting = [name for name, labels in needed.items() if labels <= set(dataset.labels)]
    return f"choose targets={' or '.join(fitting)}, or " if fitting else ""


def _check_monitored(trainer: lightning.Trainer, module: NequIPLightningModule, data: DataModule) -> None:
    """Check that monitored values are logged: a typing mistake is found now and not after the first epoch."""
    names = module.validation_names() if data.val_sets else []
    followed = [
        (type(callback).__name__, name)
        for callback in trainer.callbacks  # type: ignore[attr-defined] # set by Lightning's callback connector
        for name in (getattr(callback, "monitor", None), *getattr(callback, "monitored", ()))
    ]
    followed.append(("lr_scheduler", (module.lr_scheduler_config or {}).get("monitor")))
    for follower, name in followed:
        if isinstance(name, str) and name.startswith("val") and name not in names:
            hint = closest_hint(name, names)
            raise ConfigError(
                f"{follower} follows '{name}', which is not logged",
                f"{hint}there are {', '.join(names)}" if names else "give data.val, or take these parts out",
            )
