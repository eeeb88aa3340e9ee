"""The sections of a config: which there are, which tasks they ask for, and their values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nequip_like.arguments import check, check_known_keys, shown
from nequip_like.errors import ConfigError, closest_hint, first_line
from nequip_like.report.pictures import read_formats
from nequip_like.workflow.config.key_places import place_hint
from nequip_like.workflow.config.values import own_error, require_known

# Groups of configs, one file for each choice.
GROUPS = (
    *("data", "model", "training_module", "targets", "optimizer", "lr_scheduler"),
    *("trainer", "callbacks", "logger", "experiment"),
)


TASKS = ("train", "val", "test")
# Arguments of the section `data` whose own errors begin with their names.
DATA_ARGUMENTS = (
    *("train", "val", "test", "replay", "sampling", "statistics", "key_mapping", "units", "reference_energies"),
    *("base_targets", "batch_size", "global_batch_size", "val_batch_size", "drop_last"),
)


AUTO = "auto"
_DATA = "nequip_like.data.datamodule.DataModule"


_REQUIRED = ("run", "data", "training_module", "trainer", "seed", "output_dir")


# global_options: NequIP has ignored it since 0.14, and its configs still have it.
_OPTIONAL = (
    "model",
    "cutoff_radius",
    "chemical_species",
    "monitored_metric",
    "budget",
    "ckpt_path",
    "resume",
    "finetune",
    "pretrain",
    "run_name",
    "console",
    "validate_every_n_updates",
    "callbacks",
    "logger",
    "report",
    "uncertainty",
    "global_options",
    "trusted_packages",
)
_REPORT = ("format", "html")


# Arguments of training_module whose parts say what is wrong with them.
OWN_ARGUMENTS = ("optimizer", "lr_scheduler", "gradient_clip", "on_non_finite", "on_divergence")


def check_section_keys(config: DictConfig) -> None:
    """Refuse a config that lacks a section, or has one that nothing uses: most likely a typing mistake.

    Keys of the user's own are welcome if some value refers to them: ``${my_number}``.

    Raises:
        ConfigError: For such a key.
    """
    if missing := [key for key in _REQUIRED if key not in config]:
        raise ConfigError(
            f"the config has no '{missing[0]}'", "begin it with a line that takes in the defaults: [train, _self_]"
        )
    allowed = (*_REQUIRED, *_OPTIONAL)
    for group in GROUPS:
        if isinstance(choice := _read_unresolved(config, group), str) and re.fullmatch(r"[\w./-]+", choice):
            raise ConfigError(
                f"{group} is '{choice}', a choice, which a config makes in its list defaults",
                f"defaults: [train, {{override {group}: {choice}}}, _self_], or on the command line {group}={choice}",
            )
    text = OmegaConf.to_yaml(config)
    for key in map(str, config):
        if key not in allowed and not re.search(rf"\$\{{[^}}]*\b{re.escape(key)}\b", text):
            unresolved: Any = OmegaConf.to_container(config, resolve=False)
            hint = place_hint(key, unresolved, key) or closest_hint(key, allowed)
            listing = ", ".join(name for name in allowed if name != "global_options")
            raise ConfigError(f"nothing uses '{key}' of the config", f"{hint}known are {listing}")


def _read_unresolved(config: DictConfig, key: str) -> Any:
    node = config._get_node(key) if key in config else None
    return node._value() if isinstance(node, Node) else None


def read_tasks(config: Mapping[str, Any]) -> list[str]:
    """Read and check the tasks of ``run``; ``auto`` is all that there are data for.

    Args:
        config: The config, or its values.

    Raises:
        ConfigError: For an unknown task, more than one ``train``, or nothing to do.
    """
    requested = config["run"]
    if requested == AUTO:
        data = config["data"] if isinstance(config["data"], Mapping | DictConfig) else {}
        # A data module of another kind may have sets that no key tells of.
        without_key = data.get("_target_") != _DATA
        return [task for task in TASKS if task == "train" or data.get(task, without_key)]
    run = list(requested) if isinstance(requested, Sequence) and not isinstance(requested, str) else [requested]
    unknown = [task for task in run if task not in TASKS]
    if unknown or not run or run.count("train") > 1:
        raise ConfigError(
            f"run is {run}", f"give a list of {', '.join(TASKS)} with at least one entry, and 'train' once at most"
        )
    return run


def describe_left_out(config: Mapping[str, Any]) -> str:
    """Describe which tasks ``run: auto`` leaves out, in words; empty if none."""
    without = [task for task in TASKS if task not in read_tasks(config)] if config["run"] == AUTO else []
    return "; ".join(f"no {task}, for data.{task} is not given" for task in without)


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


def check_named_nodes(section: str, nodes: Any) -> None:
    """Refuse callbacks or loggers that have no names.

    Raises:
        ConfigError: Naming the section.
    """
    if not isinstance(nodes, Mapping):
        raise ConfigError(
            f"{section} is a {type(nodes).__name__}", "give a mapping from names to nodes with a _target_"
        )


def resolve_section(section: str, config: DictConfig) -> Any:
    """Resolve a section to plain values.

    Raises:
        ConfigError: If a value is missing, or an interpolation cannot be resolved.
    """
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        if (package_error := own_error(error)) is not None:
            raise package_error from None
        key = getattr(error, "full_key", None) or section
        raise ConfigError(f"{key}: {first_line(error)}", f"see the section {section} of the config") from error


def check_tasks(run: Sequence[str], metrics: Collection[str], has_data: Mapping[str, bool]) -> None:
    """Check that each task has its data and its metrics.

    Args:
        run: The tasks, in order.
        metrics: Which of loss, val_metrics and test_metrics are given.
        has_data: Whether train, val and test have theirs.

    Raises:
        ConfigError: Naming the task.
    """
    needs = {"train": ("loss", "val_metrics"), "val": ("val_metrics",), "test": ("test_metrics",)}
    for task in run:
        if lacking := " and ".join(name for name in needs[task] if name not in metrics):
            raise ConfigError(f"run has '{task}', but training_module lacks {lacking}", f"give {lacking}")
        if not has_data[task]:
            raise ConfigError(
                f"run has '{task}', but there is no {task} data",
                f"give data.{task}, or leave '{task}' out: run={'[' + ','.join(t for t in run if t != task) + ']'}",
            )


@dataclass(frozen=True)
class ReportSettings:
    """What the section ``report`` says.

    Attributes:
        formats: Formats of the pictures.
        html: Whether ``report.html`` is written.
    """

    formats: Sequence[str] = ("png",)
    html: bool = True


def read_report(section: Any) -> ReportSettings:
    """Read what a run reports; what the config does not say is as the defaults are.

    Args:
        section: The section as plain values; None if the config has none.

    Raises:
        ConfigError: If the section has another key, a format is not known, or a switch is no switch.
    """
    if section is None:
        return ReportSettings()
    if not isinstance(section, Mapping):
        raise ConfigError(f"report is {shown(section)}", "give a mapping: report: {format: [png, pdf]}")
    check_known_keys("report", section, _REPORT)
    require_known("report", section)
    html = section.get("html", True)
    check("report.html", html, bool)
    return ReportSettings(read_formats(section.get("format", ["png"])), html)
