"""What a run is about to do, told before its first step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import lightning
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection import inspection_table, labels_text
from nequip_like.train.averaged_module import SWALightningModule
from nequip_like.train.checkpoints import ResumableCheckpoint
from nequip_like.train.metrics_manager import MetricsManager
from nequip_like.train.module import NequIPLightningModule
from nequip_like.train.term_weights import shown_weight
from nequip_like.train.zero_forces import worse_than_zero


def print_data(console: Console, data: DataModule) -> None:
    """Print what was found in the data: frames, species, labels, ranges, warnings."""
    console.print(inspection_table(data.inspections))
    for inspection in data.inspections:
        for warning in inspection.warnings:
            console.print(f"[yellow]warning:[/yellow] {escape(f'{inspection.name}: {warning}')}", soft_wrap=True)
    if data.reference is not None:
        console.print(data.reference.describe())


def print_data_once(console: Console, data: DataModule, told: set[str]) -> None:
    """Print what was found in the data, or that it is what was printed before.

    Args:
        console: Where to print.
        data: The data.
        told: What was printed before; what is printed now is added.
    """
    with console.capture() as capture:
        print_data(console, data)
    text = capture.get()
    if text in told:
        _print_line(console, "data: the same as those of a run before")
    elif text:
        told.add(text)
        console.file.write(text)
        console.file.flush()


def print_training(
    console: Console, data: DataModule, module: NequIPLightningModule, monitor: str, folder: Path
) -> None:
    """Print what is trained and monitored, the size of the model, and where output goes."""
    table = Table(title="Training", title_justify="left", show_header=False)
    if module.loss is not None:
        table.add_row("loss", _terms(module.loss))
    if module.val_metrics:
        table.add_row("monitored", f"{monitor} (weighted_sum: {_terms(cast(MetricsManager, module.val_metrics[0]))})")
    for stage, sets in (("train", {"train": data.train_set}), ("val", data.val_sets), ("test", data.test_sets)):
        table.add_row(f"labels, {stage}", _labels(sets))
    table.add_row("untrained labels", _untrained(data.train_set, module))
    if data.replay_set is not None:
        table.add_row("replay", _replayed(data))
    trained = sum(p.numel() for p in module.model.parameters() if p.requires_grad)
    species = " ".join(module.model.type_names)
    table.add_row("model", f"{trained:,} trained parameters, species {species}{_average(module)}")
    table.add_row("kernel", module.model.kernel_in_use)
    table.add_row("output", escape(str(folder)))
    console.print(table)


def print_best(console: Console, trainer: lightning.Trainer, module: NequIPLightningModule) -> None:
    """Print the order of several best checkpoints, and which weights of the best are exported."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ResumableCheckpoint) and len(order := callback.ranking()) > 1:
            _print_line(console, f"best checkpoints by {callback.monitor}:")
            for checkpoint in order:
                _print_line(console, f"  {checkpoint.describe()}")
    if isinstance(module, SWALightningModule) and not module.average_began:
        _print_line(console, "exported: the raw weights, for none counted in the mean yet")
    elif module.averaging is not None:
        _print_line(console, f"exported: the {module.evaluated} weights")


def print_worse_than_zero(console: Console, trainer: lightning.Trainer, values: Mapping[str, float]) -> None:
    """Say it if the forces of the exported weights are further from the labels than zero is.

    Args:
        console: Where to print.
        trainer: The trainer, after training.
        values: Errors of the exported weights, by logged name.
    """
    for found in worse_than_zero(trainer, values):
        _print_line(console, found.describe())


def _print_line(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _replayed(data: DataModule) -> str:
    own, drawn, weight = len(data.train_set), data.num_replayed, data.replay_weight
    share = drawn / (own + drawn)
    known = len(data.trained_on) - own
    return f"{drawn} of {known} frames in each epoch, beside {own} of train: {share:.2%} of it; weight {weight:g}"


def _terms(manager: MetricsManager) -> str:
    return ", ".join(
        f"{shown_weight(coeff)} {name}" for name, _, _, coeff in manager.describe() if coeff is not None and coeff > 0
    )


def _average(module: NequIPLightningModule) -> str:
    """What is averaged, and whether it is the average that is evaluated and exported."""
    if module.averaging is None:
        return ""
    kind = {"ema": "an exponential moving average", "swa": "a mean (SWA)"}.get(module.averaging, module.averaging)
    return f", with {kind} that is evaluated" if module.evaluated == "averaged" else f", with {kind}; raw weights count"


def _labels(sets: Mapping[str, GraphDataset]) -> str:
    if not sets:
        return "no data"
    return "; ".join(f"{name}: {labels_text(dataset.labels, len(dataset))}" for name, dataset in sets.items())


def _untrained(dataset: GraphDataset, module: NequIPLightningModule) -> str:
    used = module.loss.required_fields() if module.loss is not None else set()
    return ", ".join(sorted(set(dataset.labels) - used)) or "none"
