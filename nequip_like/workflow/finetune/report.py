"""Print what a fine-tuning begins with, and how good that is before its first step."""

from __future__ import annotations

import math
from collections.abc import Mapping

import lightning
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nequip_like.data.datamodule import DataModule
from nequip_like.distributed import get_random_state, set_random_state
from nequip_like.model.potential import Potential
from nequip_like.summaries import print_line
from nequip_like.training.callbacks.console import before_line
from nequip_like.training.module import NequIPLightningModule
from nequip_like.workflow.finetune.agreement import compare_with_source
from nequip_like.workflow.finetune.run import FineTuning

_OFF = 0.2  # eV/atom; more than any binding energy is wrong by, so the labels have other reference energies
_MANY = 12
_FROM_SCRATCH = 0.01  # a learning rate that random weights want


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
    for row in [] if tuning.resumed else _describe_rate(module):
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
    print_line(console, before_line(trainer, start_metrics))
    return dict(start_metrics)


def print_worse_than_source(
    console: Console, monitored: str, before: float | None, best: float | None, larger_is_better: bool = False
) -> None:
    """Warn if the new data are predicted worse after a fine-tuning than by its source.

    Args:
        console: Where to print.
        monitored: Name of the monitored value.
        before: Its value of the source; None if it was not validated.
        best: That of the exported weights.
        larger_is_better: Whether a larger value is a better one.
    """
    if before is not None and best is not None and (best < before if larger_is_better else best > before):
        line = f"worse than the source: {monitored} is {best:.4g}, and was {before:.4g} before the first step"
        print_line(console, f"{line}; a lower rate: training_module.optimizer.lr")


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


def _describe_rate(module: NequIPLightningModule) -> list[tuple[str, str]]:
    rate = (module.optimizer_config or {}).get("lr")
    if not isinstance(rate, int | float) or rate < _FROM_SCRATCH:
        return []
    advice = "a tenth keeps more of what the source knows"
    return [("note", f"training_module.optimizer.lr={rate:g} is a rate for a training from scratch; {advice}")]


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
