"""What a run is about to do, told before its first step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection import inspection_table, labels_text
from nequip_like.train.metrics_manager import MetricsManager
from nequip_like.train.module import NequIPLightningModule


def print_data(console: Console, data: DataModule) -> None:
    """Print what was found in the data: frames, species, labels, ranges, warnings."""
    console.print(inspection_table(data.inspections))
    for inspection in data.inspections:
        for warning in inspection.warnings:
            console.print(f"[yellow]warning:[/yellow] {escape(f'{inspection.name}: {warning}')}", soft_wrap=True)
    if data.reference is not None:
        console.print(data.reference.describe())


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
    trained = sum(p.numel() for p in module.model.parameters() if p.requires_grad)
    averaged = ", with an exponential moving average that is evaluated" if module.uses_ema else ""
    table.add_row("model", f"{trained:,} trained parameters, species {' '.join(module.model.type_names)}{averaged}")
    table.add_row("kernel", module.model.kernel_in_use)
    table.add_row("output", str(folder))
    console.print(table)


def _terms(manager: MetricsManager) -> str:
    return ", ".join(
        f"{coeff:.3g} {name}" for name, _, _, coeff in manager.describe() if coeff is not None and coeff > 0
    )


def _labels(sets: Mapping[str, GraphDataset]) -> str:
    if not sets:
        return "no data"
    return "; ".join(f"{name}: {labels_text(dataset.labels, len(dataset))}" for name, dataset in sets.items())


def _untrained(dataset: GraphDataset, module: NequIPLightningModule) -> str:
    used = module.loss.required_fields() if module.loss is not None else set()
    return ", ".join(sorted(set(dataset.labels) - used)) or "none"
