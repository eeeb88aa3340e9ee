"""Print what a run is about to do: before its first step, or alone by ``--check``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import lightning
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nequip_like.arguments import NOT_KNOWN_YET
from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.report import inspection_table, labels_text
from nequip_like.data.sampling.force_supervision import ForceSupervision
from nequip_like.data.sampling.policies import UNIFORM
from nequip_like.inference.evaluation import Evaluation
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.weights import format_weight
from nequip_like.summaries import print_line
from nequip_like.training.averaged_module import SWALightningModule
from nequip_like.training.baseline import worse_than_baseline
from nequip_like.training.callbacks.words import SHOWN, group_by_set
from nequip_like.training.checkpointing.callback import ResumableCheckpoint
from nequip_like.training.memory.estimate import estimate_run
from nequip_like.training.module import NequIPLightningModule
from nequip_like.whole_files import path_of
from nequip_like.workflow.config.check import CheckedConfig
from nequip_like.workflow.config.dry_build import METRICS
from nequip_like.workflow.config.sections import describe_left_out
from nequip_like.workflow.config.values import is_known
from nequip_like.workflow.finetune.settings import read_settings
from nequip_like.workflow.pretrain.settings import FRAMES, read_pretraining
from nequip_like.workflow.pretrain.teachers import describe_teacher

_SUMMARIZED = [f"{q}_{kind}" for q in ("per_atom_energy", "forces", "stress") for kind in ("mae", "rmse")]


def print_data(console: Console, data: DataModule) -> None:
    """Print what was found in the data: frames, species, labels, ranges, warnings."""
    console.print(inspection_table(data.inspections))
    for inspection in data.inspections:
        for warning in inspection.warnings:
            console.print(f"[yellow]warning:[/yellow] {escape(f'{inspection.name}: {warning}')}", soft_wrap=True)
    if data.reference is not None:
        console.print(data.reference.describe())


def print_data_once(console: Console, data: DataModule, printed: set[str]) -> None:
    """Print what was found in the data, or that it is what was printed before.

    Args:
        console: Where to print.
        data: The data.
        printed: What was printed before; what is printed now is added.
    """
    with console.capture() as capture:
        print_data(console, data)
    text = capture.get()
    if text in printed:
        print_line(console, "data: the same as those of a run before")
    elif text:
        printed.add(text)
        console.file.write(text)
        console.file.flush()


def print_training(
    console: Console,
    data: DataModule,
    module: NequIPLightningModule,
    monitor: str,
    folder: Path,
    trainer: lightning.Trainer | None = None,
) -> None:
    """Print what is trained and monitored, the size of the model, what its steps need, and where output goes.

    Args:
        console: Where to print.
        data: The data.
        module: The training module.
        monitor: The metric that is followed.
        folder: The output folder.
        trainer: What will train, to estimate what its steps need of memory; None to leave that out.
    """
    table = Table(title="Training", title_justify="left", show_header=False)
    if module.loss is not None:
        table.add_row("loss", _format_terms(module.loss))
    if (manager := _find_monitored(monitor, module)) is not None:
        table.add_row("monitored", f"{monitor} (weighted_sum: {_format_terms(manager)})")
    for stage, sets in (("train", {"train": data.train_set}), ("val", data.val_sets), ("test", data.test_sets)):
        table.add_row(f"labels, {stage}", _describe_labels(sets))
    table.add_row("untrained labels", _list_untrained(data.train_set, module))
    if data.mixed is not None:
        table.add_row("mixture", _describe_mixture(data))
    if data.force_supervision is not None:
        table.add_row("forces", _describe_force_supervision(data.force_supervision))
    if data.replay_set is not None:
        table.add_row("replay", _describe_replay(data))
    trained = sum(p.numel() for p in module.model.parameters() if p.requires_grad)
    species = " ".join(module.model.type_names)
    table.add_row("model", f"{trained:,} trained parameters, species {species}{_describe_average(module)}")
    table.add_row("kernel", module.model.kernel_in_use)
    memory = [] if trainer is None else estimate_run(data, module.model, trainer)
    for step in memory:
        table.add_row(f"memory, {step.task}", step.describe())
    table.add_row("output", escape(str(folder)))
    console.print(table)
    for step in memory:
        if step.warning:
            console.print(f"[yellow]warning:[/yellow] {escape(step.warning)}", soft_wrap=True)


def print_best(console: Console, trainer: lightning.Trainer, module: NequIPLightningModule) -> None:
    """Print the order of several best checkpoints, and which weights of the best are exported."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ResumableCheckpoint) and len(order := callback.ranking()) > 1:
            print_line(console, f"best checkpoints by {callback.monitor}:")
            for checkpoint in order:
                print_line(console, f"  {checkpoint.describe()}")
    if isinstance(module, SWALightningModule) and not module.average_began:
        print_line(console, "exported: the raw weights, for none counted in the mean yet")
    elif module.averaging is not None:
        print_line(console, f"exported: the {module.evaluated} weights")


def print_worse_than_baseline(console: Console, trainer: lightning.Trainer, values: Mapping[str, float]) -> None:
    """Warn if forces, energies or stress of the exported weights are no better than those of the baseline.

    Args:
        console: Where to print.
        trainer: The trainer, after training.
        values: Errors of the exported weights, by logged name.
    """
    for comparison in worse_than_baseline(trainer, values, early=True):
        print_line(console, comparison.describe())


def print_summary(
    console: Console,
    best: str,
    metrics: Mapping[str, float],
    evaluations: Mapping[str, Evaluation] | None,
    times: str,
    files: Mapping[str, Path],
) -> None:
    """Print at last what came out: a table on a terminal, one line in a log.

    Args:
        console: Where to print.
        best: The weights that were kept, in words; empty without training.
        metrics: Their errors on the validation sets, by logged name.
        evaluations: Of the test sets, if there was a test.
        times: How long it took, in words.
        files: What is looked at first, by what it is.
    """
    rows = [("best", best)] if best else []
    for prefix, values in group_by_set(metrics).items():
        rows.append((prefix, _describe_errors(values)))
    for name, evaluation in (evaluations or {}).items():
        rows.append((f"test {name}", _describe_errors(evaluation.metrics)))
    rows.append(("time", times))
    rows += [(name, str(path)) for name, path in files.items() if path.is_file()]
    rows = [(name, text) for name, text in rows if text]
    if not console.is_terminal:
        print_line(console, " | ".join(["result", *(f"{name}: {text}" for name, text in rows)]))
        return
    table = Table(title="Result", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(escape(name), escape(text))
    console.print(table)


def _describe_errors(values: Mapping[str, float]) -> str:
    """Errors of energies per atom, forces and stress, whichever of MAE and RMSE there are, as a line shows them."""
    shown = {name: SHOWN[name] for name in _SUMMARIZED if name in values}
    return ", ".join(f"{s.label} {values[name] * s.factor:.4g} {s.unit}" for name, s in shown.items())


def _describe_mixture(data: DataModule) -> str:
    counts = {} if data.mixed is None else dict(zip(data.mixed.names, data.mixed.count_frames(), strict=True))
    samples = sum(data.num_drawn.values())
    drawn = (
        f"{name} {number} of {counts[name]} frames ({number / samples:.1%})" for name, number in data.num_drawn.items()
    )
    return f"in each epoch{'' if data.sampling.policy == UNIFORM else ', on average'}: {', '.join(drawn)}"


def _describe_force_supervision(supervision: ForceSupervision) -> str:
    supervised, labelled = supervision.count_frames()
    every = supervision.sampling.force_resample_num_epochs
    when = f"drawn anew every {every} epochs" if every > 1 else "drawn anew each epoch" if every else "always the same"
    scaled = ", errors in the loss scaled for it" if supervision.scales else ""
    return f"those of {supervised} of {labelled} frames are trained on, {when}{scaled}"


def _describe_replay(data: DataModule) -> str:
    num_train, drawn, weight = len(data.train_set), data.num_replayed, data.replay_weight
    share = drawn / (num_train + drawn)
    num_available = len(data.trained_on) - num_train
    frames = f"{drawn} of {num_available} frames in each epoch, beside {num_train} of train"
    return f"{frames}: {share:.2%} of it; weight {weight:g}"


def _find_monitored(monitor: str, module: NequIPLightningModule) -> MetricsManager | None:
    """Find the loss or the metrics that log the monitored value; of several validation sets all have the same."""
    if monitor.startswith("train_loss"):
        return module.loss
    if monitor.startswith("train_metric"):
        return module.train_metrics
    return cast(MetricsManager, module.val_metrics[0]) if module.val_metrics else None


def _format_terms(manager: MetricsManager) -> str:
    return ", ".join(
        f"{format_weight(coeff)} {name}" for name, _, _, coeff in manager.describe() if coeff is not None and coeff > 0
    )


def _describe_average(module: NequIPLightningModule) -> str:
    """Describe the average of the weights, and whether it is what is evaluated and exported."""
    if module.averaging is None:
        return ""
    kind = {"ema": "an exponential moving average", "swa": "a mean (SWA)"}.get(module.averaging, module.averaging)
    return f", with {kind} that is evaluated" if module.evaluated == "averaged" else f", with {kind}; raw weights count"


def _describe_labels(sets: Mapping[str, GraphDataset]) -> str:
    if not sets:
        return "no data"
    return "; ".join(f"{name}: {labels_text(dataset.labels, len(dataset))}" for name, dataset in sets.items())


def _list_untrained(dataset: GraphDataset, module: NequIPLightningModule) -> str:
    trained_labels = module.loss.required_fields() if module.loss is not None else set()
    return ", ".join(sorted(set(dataset.labels) - trained_labels)) or "none"


_NOT_CHECKED = "Not checked: structures and labels in the files of data; they are read when the run starts."
_MODEL_SIZES = ("preset", "num_layers", "l_max", "parity", "num_features", "model_dtype", "pair_potential", "seed")


def print_plan(checked: CheckedConfig, console: Console | None = None) -> None:
    """Print what would run.

    Args:
        checked: A config that was checked.
        console: Where to print; the terminal by default.
    """
    text = ["The config is sound. It would run", *_format_table(plan(checked)), _NOT_CHECKED]
    print_line(console or Console(), "\n".join(text))


def print_plans(checked: Mapping[str, CheckedConfig], console: Console | None = None) -> None:
    """Print what several runs would do: the first as a whole, and of each other what differs from the first.

    Args:
        checked: Their configs, which were checked, by what tells the runs apart.
        console: Where to print; the terminal by default.
    """
    (title, first), *later = ((title, plan(config)) for title, config in checked.items())
    text = [f"The configs are sound. There would be {len(checked)} runs", title, *_format_table(first)]
    for title, lines in later:
        differences = {name: description for name, description in lines.items() if description != first.get(name)}
        text += [title, *_format_table(differences)]
        text += [f"  no {name}" for name in first if name not in lines]
    text.append(_NOT_CHECKED)
    print_line(console or Console(), "\n".join(text))


def _format_table(lines: Mapping[str, str]) -> list[str]:
    width = max(map(len, lines), default=0)
    return [f"  {name:{width}}  {description}" for name, description in lines.items()]


def plan(checked: CheckedConfig) -> dict[str, str]:
    """Plan a run: lines of text by name, as :func:`print_plan` prints them."""
    values = checked.values
    note = describe_left_out(values)
    lines = {"tasks": ", ".join(checked.tasks) + (f" ({note})" if note else "")}
    for stage in ("train", "val", "test"):
        lines[f"{stage} data"] = _format_value(values["data"].get(stage))
    lines["species"] = _format_value(values["training_module"]["model"].get("type_names"))
    lines["cutoff"] = f"{_format_value(values['data'].get('cutoff_radius'))} Angstrom"
    lines["model"] = _describe_model(values["training_module"]["model"])
    if (tuning := read_settings(values.get("finetune"))) is not None:
        lines |= {"species": "those of the model, and new ones", "cutoff": "the model's"}
        lines["model"] = f"that of {tuning.source}, fine-tuned"
    if (pretraining := read_pretraining(values.get("pretrain"))) is not None:
        teacher, frames = describe_teacher(pretraining.teacher), pretraining.frames or f"up to {FRAMES}"
        lines["pretraining"] = f"{frames} structures labelled by {teacher}"
    for name in METRICS:
        if name in checked.parts.managers:
            known = is_known(values["training_module"][name])
            lines[name.replace("_", " ")] = _list_terms(checked.parts.managers[name], known)
    if "train" in checked.tasks:
        lines |= _plan_training(checked)
    devices = _format_pairs(values["trainer"], ("accelerator", "devices", "num_nodes", "strategy"))
    lines["devices"] = ", ".join(devices) or "by default"
    if checked.trusted:
        lines["trusted packages"] = ", ".join(checked.trusted)
    if values.get("ckpt_path") is not None:
        lines["checkpoint"] = str(values["ckpt_path"])
    lines["output"] = str(path_of(str(values["output_dir"])).absolute())
    return lines


def _plan_training(checked: CheckedConfig) -> dict[str, str]:
    module, trainer = checked.values["training_module"], checked.values["trainer"]
    followed: dict[str, list[str]] = {}
    for key, name in checked.parts.monitored.items():
        followed.setdefault(name, []).append(key.split(".")[1])
    schedule = module.get("lr_scheduler")
    return {
        "monitored": "; ".join(f"{name} ({', '.join(by)})" for name, by in followed.items()) or "nothing",
        "optimizer": _describe_node(module["optimizer"]),
        "learning rate": "constant" if schedule is None else _describe_node(schedule.get("scheduler", schedule)),
        "batch size": _describe_batches(checked.values["data"]),
        **({} if checked.values.get("budget") is None else {"budget": _format_value(checked.values["budget"])}),
        "length": ", ".join(_format_pairs(trainer, ("max_epochs", "max_steps", "max_time"), _is_limit)) or "no limit",
        "class": module["_target_"].rpartition(".")[2],
    }


def _describe_batches(data: Mapping[str, Any]) -> str:
    if (size := data.get("global_batch_size")) is not None:
        return f"{_format_value(size)} of all processes together"
    return _format_value(data.get("batch_size", "by default"))


def _is_limit(value: Any) -> bool:
    return value not in (None, -1)


def _format_pairs(node: Mapping[str, Any], names: Sequence[str], is_shown: Callable[[Any], bool] = bool) -> list[str]:
    return [f"{name} {_format_value(node[name])}" for name in names if name in node and is_shown(node[name])]


def _describe_model(model: Mapping[str, Any]) -> str:
    sizes = [f"{name} {_format_value(model[name])}" for name in _MODEL_SIZES if model.get(name) is not None]
    return f"{model['_target_'].rpartition('.')[2]}: {', '.join(sizes)}"


def _describe_node(node: Mapping[str, Any]) -> str:
    """Describe a node: its class and its arguments without further nodes."""
    arguments = [
        f"{name} {_format_value(value)}" for name, value in node.items() if name != "_target_" and not _is_node(value)
    ]
    return " ".join([node["_target_"].rpartition(".")[2], *([f"({', '.join(arguments)})"] if arguments else [])])


def _is_node(value: Any) -> bool:
    is_length = isinstance(value, Mapping) and value.keys() <= {"epochs", "steps", "share"}
    return isinstance(value, Mapping | list) and not is_length


def _list_terms(manager: MetricsManager, known: bool) -> str:
    """List the terms of a weighted sum; without their coefficients where the data will tell one of them."""
    rows = manager.describe()
    summed = [f"{format_weight(coeff)} {name}" if known else name for name, _, _, coeff in rows if coeff]
    observed = len(rows) - len(summed)
    weights = "" if known else ", with coefficients from the data"
    return ", ".join(summed or ["no weighted sum"]) + weights + (f"; {observed} more observed" if observed else "")


def _format_value(value: Any) -> str:
    if value is NOT_KNOWN_YET:
        return "from the data"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_format_value(entry)}" for name, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_format_value, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)
