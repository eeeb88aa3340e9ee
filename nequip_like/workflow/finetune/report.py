"""Print what a fine-tuning begins with, and check before its first step that it equals its source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import lightning
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.distributed import get_random_state, set_random_state
from nequip_like.errors import ModelError
from nequip_like.inference.predictor import Predictor
from nequip_like.model.nequip import NequIPEnergy
from nequip_like.model.potential import Potential
from nequip_like.training.callbacks.console import before_line
from nequip_like.training.module import NequIPLightningModule
from nequip_like.workflow.finetune.run import FineTuning

_FRAMES = 8
# Of energies per atom and of forces, in eV and Angstrom, relative to the largest force if that is more than 1.
_EXACT = {torch.float64: 1e-7, torch.float32: 1e-4}
_OFF = 0.2  # eV/atom; more than any binding energy is wrong by, so the labels have other reference energies
_MANY = 12


@dataclass(frozen=True)
class Agreement:
    """Differences between a model and its source, and between the source and the labels, on a few frames.

    Attributes:
        frames: Number of frames; with species that the source knows.
        energy: Largest difference of energies per atom, eV, beside what refitted shifts add.
        forces: Largest difference of force components, eV/Angstrom.
        energy_error: Mean of label minus source, eV/atom; NaN without labels.
        forces_error: Root mean square of the source's force errors, eV/Angstrom; NaN without labels.
    """

    frames: int
    energy: float
    forces: float
    energy_error: float
    forces_error: float


def compare_with_source(tuning: FineTuning, model: Potential, data: DataModule) -> Agreement | None:
    """Compare a model with its source.

    Args:
        tuning: The fine-tuning, which was begun and not gone on with.
        model: Its model before the first step.
        data: The data.

    Returns:
        None if no training frame has only species that the source knows.

    Raises:
        ModelError: If they differ by more than rounding.
    """
    num_types = len(tuning.source.type_names)
    frames = [frame for frame in data.train_set.frames if int(frame[fields.ATOM_TYPES].max()) < num_types][:_FRAMES]
    if not frames:
        return None
    changes = tuning.info["shift_changes"]
    shift_changes = torch.tensor([changes.get(name, 0.0) for name in model.type_names], dtype=torch.float64)
    source_predictions, predictions = Predictor(tuning.source).predict(frames), Predictor(model).predict(frames)
    energy = forces = 0.0
    largest = 1.0
    errors: list[Tensor] = []
    force_errors: list[Tensor] = []
    for frame, original, prediction in zip(frames, source_predictions, predictions, strict=True):
        atoms = len(frame[fields.ATOM_TYPES])
        expected_energy = original[fields.TOTAL_ENERGY] + shift_changes[frame[fields.ATOM_TYPES]].sum()
        energy = max(energy, _largest(prediction[fields.TOTAL_ENERGY] - expected_energy) / atoms)
        if fields.TOTAL_ENERGY in frame:
            errors.append((frame[fields.TOTAL_ENERGY] - original[fields.TOTAL_ENERGY]).flatten() / atoms)
        if fields.FORCES in original:
            forces = max(forces, _largest(prediction[fields.FORCES] - original[fields.FORCES]))
            largest = max(largest, _largest(original[fields.FORCES]))
            if fields.FORCES in frame:
                force_errors.append((frame[fields.FORCES] - original[fields.FORCES]).flatten())
    if not max(energy, forces) <= largest * _EXACT[cast(NequIPEnergy, model.energy_model).dtype]:
        raise ModelError(
            f"the fine-tuned model does not begin as its source: energies differ by {energy:.1e} eV/atom, forces by "
            f"{forces:.1e} eV/Angstrom",
            "this is a fault of nequip_like; model.kernel=batched may help, and please report it",
        )
    return Agreement(len(frames), energy, forces, _mean(errors), _mean(force_errors, square=True))


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


def _mean(parts: list[Tensor], square: bool = False) -> float:
    values = torch.cat(parts) if parts else torch.empty(0)
    values = values[~torch.isnan(values)]
    return float(values.square().mean().sqrt() if square else values.mean()) if len(values) else float("nan")


def print_start(console: Console, tuning: FineTuning | None, module: NequIPLightningModule, data: DataModule) -> None:
    """Print what a fine-tuning begins with and what it trains, and check that it begins as its source.

    Args:
        console: Where to print.
        tuning: The fine-tuning; None for other runs, of which there is nothing to tell.
        module: Its weights before the first step, raw and those that are evaluated.
        data: The data.

    Raises:
        ModelError: If the model is not the source's.
    """
    if tuning is None:
        return
    table = Table(title="Fine-tuning", title_justify="left", show_header=False)
    for row in _list_rows(tuning, module.model):
        table.add_row(*map(escape, row))
    for row in [] if tuning.resumed else _describe_first_step(tuning, module.evaluation_model, data):
        table.add_row(*map(escape, row))
    console.print(table)


def validate_source(
    console: Console,
    tuning: FineTuning | None,
    trainer: lightning.Trainer,
    module: NequIPLightningModule,
    data: DataModule,
    metrics: Mapping[str, float],
) -> dict[str, float]:
    """Validate a fine-tuned model on the new data before its first step, and print the line "before".

    Loggers get the values at step 0. Checkpoints and the model file hold them, so a run that goes on has them, too.
    Random numbers are drawn as if nothing had been validated.

    Args:
        console: Where to print.
        tuning: The fine-tuning; None for other runs.
        trainer: The trainer.
        module: Its weights before the first step.
        data: The data.
        metrics: Values of a validation that was done just before, if one was.

    Returns:
        Finite values by logged name; nothing for other runs and without validation data.
    """
    if tuning is None or not data.val_sets or not module.val_metrics:
        return {}
    start_metrics: dict[str, float] = tuning.info.get("before", {})
    if tuning.resumed:
        return dict(start_metrics)
    if not metrics:
        # Checkpoints hold both, and are to be those of a run without this.
        random, progress = get_random_state(), trainer.validate_loop.batch_progress
        count = progress.state_dict()
        trainer.validate(module, datamodule=data, verbose=False)
        set_random_state(random)
        progress.load_state_dict(count)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    start_metrics = {name: value for name, value in metrics.items() if name.startswith("val") and math.isfinite(value)}
    tuning.info["before"] = start_metrics
    console.print(before_line(trainer, start_metrics), markup=False, highlight=False, soft_wrap=True)
    return dict(start_metrics)


def _list_rows(tuning: FineTuning, model: Potential) -> list[tuple[str, str]]:
    begun = "goes on from" if tuning.resumed else "source"
    rows = [(begun, tuning.source_path), ("cutoff", f"{model.cutoff:g} Angstrom, as the source")]
    new_species = tuning.info["new_species"]
    starts = "".join(f"; new: {name}, begins as {start}" for name, start in new_species.items())
    rows.append(("species", " ".join(model.type_names) + starts))
    rows += [("shifts", _describe_shifts(tuning)), *_describe_trained(tuning, model)]
    if new_species and not any("type_embedding" in name and p.requires_grad for name, p in model.named_parameters()):
        rows.append(
            (
                "note",
                f"the embedding of {', '.join(new_species)} stays as it begins; "
                "name type_embedding in finetune.modules",
            )
        )
    return rows


def _describe_shifts(tuning: FineTuning) -> str:
    changes = tuning.info["shift_changes"]
    if not changes:
        return "as the source"
    changes_text = ", ".join(f"{name} {change:+.6f}" for name, change in changes.items())
    refit = tuning.refit
    rule = "" if refit is None else f", by rule '{refit.rule}'" + (f", {refit.note}" if refit.note else "")
    residual = "" if refit is None else f"; labels differ then by {refit.residual_rms:.4f} eV/atom rms from the source"
    return f"changed by (eV) {changes_text}{rule}{residual}; energies of replayed frames move with them"


def _describe_trained(tuning: FineTuning, model: Potential) -> list[tuple[str, str]]:
    parameters = dict(model.named_parameters())
    trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    count, total = (sum(p.numel() for p in group.values()) for group in (trained, parameters))
    # The weights of one layer in one word.
    layers = list(dict.fromkeys(name.removeprefix("energy_model.").rpartition(".")[0] or name for name in trained))
    layer_names = ", ".join(layers[:_MANY]) + (f" and {len(layers) - _MANY} more" if len(layers) > _MANY else "")
    rows = [("trained", f"{count:,} of {total:,} parameters, in {layer_names}")]
    if (lora := tuning.settings.lora) is not None:
        rows.append(("LoRA", f"rank {lora.rank}, alpha {lora.alpha:g}, on {tuning.adapted} weights"))
    return rows


def _describe_first_step(tuning: FineTuning, model: Potential, data: DataModule) -> list[tuple[str, str]]:
    match = compare_with_source(tuning, model, data)
    if match is None:
        return [("step 0", "not compared with the source: each training frame has a new species")]
    shift_note = " beside the changed shifts" if tuning.info["shift_changes"] else ""
    text = (
        f"the source's, on {match.frames} frames: energies to {match.energy:.1e} eV/atom{shift_note}, forces to "
        f"{match.forces:.1e} eV/Angstrom"
    )
    errors = f"energies {match.energy_error:+.4f} eV/atom (mean), forces {match.forces_error:.4f} eV/Angstrom (rms)"
    rows = [("step 0", text), ("labels - source", errors)]
    if tuning.settings.shifts == "keep" and abs(match.energy_error) > _OFF:
        rows.append(
            ("note", "the labels have other reference energies than the source; finetune.shifts=refit takes this off")
        )
    return rows
