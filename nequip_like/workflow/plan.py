"""What a checked config would do, in a few lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from nequip_like.arguments import NOT_KNOWN_YET
from nequip_like.train.metrics_manager import MetricsManager
from nequip_like.train.term_weights import shown_weight
from nequip_like.whole_files import path_of
from nequip_like.workflow.config_check import CheckedConfig
from nequip_like.workflow.finetune_settings import read_settings
from nequip_like.workflow.parts_check import METRICS
from nequip_like.workflow.setup import left_out

_MODEL_SIZES = ("preset", "num_layers", "l_max", "parity", "num_features", "model_dtype", "pair_potential", "seed")


def print_plan(checked: CheckedConfig, console: Console | None = None) -> None:
    """Print what would run.

    Args:
        checked: A config that was checked.
        console: Where to print; the terminal by default.
    """
    lines = plan(checked)
    width = max(map(len, lines))
    text = "\n".join(
        ["The config is sound. It would run", *(f"  {name:{width}}  {said}" for name, said in lines.items())]
    )
    # Not wrapped: paths stay whole.
    (console or Console()).print(text, markup=False, highlight=False, soft_wrap=True)


def plan(checked: CheckedConfig) -> dict[str, str]:
    """The same as lines of text by name."""
    values = checked.values
    note = left_out(values)
    lines = {"tasks": ", ".join(checked.tasks) + (f" ({note})" if note else "")}
    for stage in ("train", "val", "test"):
        lines[f"{stage} data"] = _said(values["data"].get(stage))
    lines["species"] = _said(values["training_module"]["model"].get("type_names"))
    lines["cutoff"] = f"{_said(values['data'].get('cutoff_radius'))} Angstrom"
    lines["model"] = _model(values["training_module"]["model"])
    if (tuning := read_settings(values.get("finetune"))) is not None:
        lines |= {"species": "those of the model, and new ones", "cutoff": "the model's"}
        lines["model"] = f"that of {tuning.source}, fine-tuned"
    for name in METRICS:
        if name in checked.parts.managers:
            lines[name.replace("_", " ")] = _terms(checked.parts.managers[name])
    if "train" in checked.tasks:
        lines |= _training(checked)
    devices = _pairs(values["trainer"], ("accelerator", "devices", "num_nodes", "strategy"))
    lines["devices"] = ", ".join(devices) or "by default"
    if checked.trusted:
        lines["trusted packages"] = ", ".join(checked.trusted)
    if values.get("ckpt_path") is not None:
        lines["checkpoint"] = str(values["ckpt_path"])
    lines["output"] = str(path_of(str(values["output_dir"])).absolute())
    return lines


def _training(checked: CheckedConfig) -> dict[str, str]:
    module, trainer = checked.values["training_module"], checked.values["trainer"]
    followed: dict[str, list[str]] = {}
    for key, name in checked.parts.monitored.items():
        followed.setdefault(name, []).append(key.split(".")[1])
    schedule = module.get("lr_scheduler")
    return {
        "monitored": "; ".join(f"{name} ({', '.join(by)})" for name, by in followed.items()) or "nothing",
        "optimizer": _node(module["optimizer"]),
        "learning rate": "constant" if schedule is None else _node(schedule.get("scheduler", schedule)),
        "batch size": _said(checked.values["data"].get("batch_size", "by default")),
        "length": ", ".join(_pairs(trainer, ("max_epochs", "max_steps", "max_time"), _is_limit)) or "no limit",
        "class": module["_target_"].rpartition(".")[2],
    }


def _is_limit(value: Any) -> bool:
    return value not in (None, -1)


def _pairs(node: Mapping[str, Any], names: Sequence[str], shown: Callable[[Any], bool] = bool) -> list[str]:
    return [f"{name} {_said(node[name])}" for name in names if name in node and shown(node[name])]


def _model(model: Mapping[str, Any]) -> str:
    sizes = [f"{name} {_said(model[name])}" for name in _MODEL_SIZES if model.get(name) is not None]
    return f"{model['_target_'].rpartition('.')[2]}: {', '.join(sizes)}"


def _node(node: Mapping[str, Any]) -> str:
    """Class of a node and its plain arguments."""
    plain = [f"{name} {_said(value)}" for name, value in node.items() if name != "_target_" and not _is_node(value)]
    return " ".join([node["_target_"].rpartition(".")[2], *([f"({', '.join(plain)})"] if plain else [])])


def _is_node(value: Any) -> bool:
    is_length = isinstance(value, Mapping) and value.keys() <= {"epochs", "steps"}
    return isinstance(value, Mapping | list) and not is_length


def _terms(manager: MetricsManager) -> str:
    rows = manager.describe()
    summed = [f"{shown_weight(coeff)} {name}" for name, _, _, coeff in rows if coeff]
    observed = len(rows) - len(summed)
    return ", ".join(summed or ["no weighted sum"]) + (f"; {observed} more observed" if observed else "")


def _said(value: Any) -> str:
    if value is NOT_KNOWN_YET:
        return "from the data"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_said(entry)}" for name, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_said, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)
