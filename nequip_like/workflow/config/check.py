"""The check of a whole config, before a folder is made, data are read or devices are touched."""

from __future__ import annotations

import importlib.resources
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nequip_like.arguments import Count, Range, annotations_of, check, shown
from nequip_like.data.datamodule import DataModule
from nequip_like.errors import ConfigError
from nequip_like.inference.last_layer_fit import UncertaintySettings
from nequip_like.metrics.manager import MetricsManager
from nequip_like.model.finetuning import FINE_TUNED
from nequip_like.model.potential import Potential
from nequip_like.nn.pair_potential import ZBL
from nequip_like.optim.build import GROUP_KEYS
from nequip_like.summaries import Summarized
from nequip_like.training.callbacks.console import Style
from nequip_like.training.checkpointing.callback import RunName
from nequip_like.training.module import NequIPLightningModule
from nequip_like.workflow import resume
from nequip_like.workflow.config import sections, trust
from nequip_like.workflow.config.base_targets import check_base
from nequip_like.workflow.config.budget import check_budget, follow_budget
from nequip_like.workflow.config.data_parts import check_each_has_frames
from nequip_like.workflow.config.dry_build import Parts, check_parts
from nequip_like.workflow.config.key_places import place_hint
from nequip_like.workflow.config.signatures import arguments_of, check_node, limits_of, unknown_argument
from nequip_like.workflow.config.values import is_known, values_before_data
from nequip_like.workflow.finetune.settings import read_settings
from nequip_like.workflow.finetune.source import check_model, check_settings, read_source
from nequip_like.workflow.pretrain.settings import check_surroundings, read_pretraining
from nequip_like.workflow.pretrain.teachers import check_teacher
from nequip_like.workflow.slurm.tasks import check_slurm_tasks


@dataclass(frozen=True)
class _Section:
    """What a section of the config builds, and what the code adds to its arguments."""

    kind: type | None = None
    supplied: tuple[str, ...] = ()
    num_positional: int = 0
    extra: tuple[str, ...] = ()


_METRICS = _Section(MetricsManager, supplied=("type_names",))
_SECTIONS = {
    "data": _Section(DataModule),
    "model": _Section(Potential),
    "training_module": _Section(NequIPLightningModule),
    "training_module.model": _Section(Potential),
    "training_module.loss": _METRICS,
    "training_module.train_metrics": _METRICS,
    "training_module.val_metrics": _METRICS,
    "training_module.test_metrics": _METRICS,
    "training_module.optimizer": _Section(Optimizer, num_positional=1, extra=GROUP_KEYS),
    "training_module.optimizer.param_groups": _Section(supplied=("model",)),
    "trainer": _Section(lightning.Trainer),
}
_SCHEDULE = _Section(LRScheduler, num_positional=1, supplied=("schedulers",), extra=("schedulers",))
_TOP_LEVEL = {
    "seed": Annotated[int, Range(low=0, high=2**32 - 1)],
    "monitored_metric": str | None,
    "ckpt_path": str | None,
    "output_dir": str,
    "run_name": RunName | None,
    "console": Style,
    "validate_every_n_updates": Count | None,
}
_NEEDED = ("data", "training_module", "training_module.model", "trainer")


@dataclass(repr=False)
class CheckedConfig(Summarized):
    """A config that was checked: what a run and the print of its plan need of it.

    Attributes:
        values: The values of the config; what the data will tell is NOT_KNOWN_YET.
        tasks: The tasks, in order.
        trusted: The user's packages.
        parts: The parts that could be built without data.
    """

    values: dict[str, Any]
    tasks: list[str]
    trusted: tuple[str, ...]
    parts: Parts = field(default_factory=Parts)

    def summary(self) -> dict[str, Any]:
        """The tasks, the sections, and the packages of the user."""
        return {"tasks": self.tasks, "sections": " ".join(map(str, self.values)), "trusted": list(self.trusted)}


def check_config(config: DictConfig) -> CheckedConfig:
    """Check everything that can be known of a config before the data are read.

    Keys and tasks; each ``_target_`` (trusted, existing, of the right kind), its arguments (names, types, ranges, none
    missing); losses and metrics, and whether what is followed is logged; cutoffs and species of model and data.

    Args:
        config: The composed config. It is not changed, and no file of data is opened.

    Raises:
        ConfigError: For the first mistake, naming its key.
    """
    sections.check_section_keys(config)
    config = config.copy()
    follow_budget(config)
    values = values_before_data(config)
    tasks = sections.read_tasks(values)
    values.pop("hydra", None)
    trusted = trust.user_packages(values.get("trusted_packages"))
    for key, annotation in _TOP_LEVEL.items():
        if key in values:
            check(key, values[key], annotation)
    resume.check_choice(values)
    sections.read_report(values.get("report"))
    UncertaintySettings.read(values.get("uncertainty"))
    for key in _NEEDED:
        _check_present(values, key)
    for name in ("callbacks", "logger"):
        _check_named(name, values.get(name))
    nodes = dict(trust.nodes(values))
    # All are judged before the first is asked for its arguments.
    targets = {key: trust.look_up(key, node["_target_"], trusted) for key, node in nodes.items()}
    unsure: dict[str, Callable[[], ConfigError]] = {}
    unresolved: Any = OmegaConf.to_container(config, resolve=False)
    for key, target in targets.items():
        _check_target(key, nodes[key], target, trusted, unsure, unresolved)
    check_budget(values, targets)
    sections.check_trainer(values["trainer"])
    check_slurm_tasks(values["trainer"])
    check_each_has_frames(values["data"], values["trainer"])
    _check_cycle(values)
    _check_console(values)
    _check_finetune(config, values)
    _check_pretraining(values, trusted)
    _check_base(values["data"], trusted)
    return CheckedConfig(values, tasks, trusted, check_parts(values, tasks, targets, bool(trusted), unsure))


def _check_cycle(values: Mapping[str, Any]) -> None:
    """Refuse a validation by updates beside the trainer's own keys for it."""
    trainer = values["trainer"]
    usual = {"val_check_interval": (None, 1.0), "check_val_every_n_epoch": (None, 1)}
    for name, defaults in usual.items():
        if values.get("validate_every_n_updates") is not None and trainer.get(name) not in defaults:
            raise ConfigError(
                f"validate_every_n_updates and trainer.{name} are both given",
                f"leave one of them out: trainer.{name}=null",
            )


def _check_console(values: Mapping[str, Any]) -> None:
    """Refuse a table that no callback would print."""
    nodes = [node for node in (values.get("callbacks") or {}).values() if node is not None]
    if values.get("console") == "table" and all(node.get("style") != "table" for node in nodes):
        raise ConfigError(
            "console is 'table', but no callback prints it",
            "leave callbacks.epoch_printer as it is in the defaults, with style: ${console}",
        )


def _check_finetune(config: DictConfig, values: Mapping[str, Any]) -> None:
    """The model to begin with is there, and the config does not contradict it; a run that goes on does not need it."""
    settings = read_settings(values.get("finetune"))
    if settings is not None and values.get("ckpt_path") is None and values.get("resume") is None:
        source, card = read_source(settings.source)
        check_settings(settings, FINE_TUNED[source.config["family"]], card["path"])
        check_model(config, source, card["path"], any_shifts=settings.shifts == "refit")


def _check_pretraining(values: Mapping[str, Any], trusted: tuple[str, ...]) -> None:
    """The teacher can be had, and nothing speaks against it; a run that goes on may not need it any more."""
    settings = read_pretraining(values.get("pretrain"))
    if settings is not None:
        check_surroundings(settings, values)
        if values.get("ckpt_path") is None and values.get("resume") is None:
            check_teacher(settings.teacher, trusted)


def _check_base(data: Mapping[str, Any], trusted: tuple[str, ...]) -> None:
    """What labels become differences to can be had."""
    if is_known(entry := data.get("base_targets")):
        check_base(entry, trusted)


def _check_present(values: Mapping[str, Any], key: str) -> None:
    above, _, name = key.rpartition(".")
    section = values[above] if above else values
    if not _has_target(section, name):
        node = section.get(name)
        if key == "training_module.model" and isinstance(node, Mapping) and node and "model" in values:
            # Hydra puts `++training_module.model.l_max=2` in the place of the interpolation.
            raise ConfigError(f"{key} has no _target_: it stands for model", f"write model.{next(iter(node))}=...")
        message = f"{key} has no _target_" if isinstance(node, Mapping) else f"{key} is {shown(node)}"
        raise ConfigError(message, "give a mapping with a _target_, the class that it configures")


def _has_target(section: Mapping[str, Any], name: str) -> bool:
    node = section.get(name)
    return isinstance(node, Mapping) and "_target_" in node


def _check_named(name: str, section: Any) -> None:
    """Refuse callbacks and loggers that are no mappings of named nodes."""
    if section is None:
        return
    sections.check_named_nodes(name, section)
    for key, node in section.items():
        if node is not None and not _has_target(section, key):
            raise ConfigError(f"{name}.{key} has no _target_", _advise_on_target(name, str(key)))


def _advise_on_target(group: str, option: str) -> str:
    """Tell how a node gets a class: many of ours are a choice that the defaults do not take."""
    if not importlib.resources.files("nequip_like.conf").joinpath(group, f"{option}.yaml").is_file():
        return "give it one, or write null to leave it out"
    choices = ("default", option) if group == "callbacks" else (option,)
    return (
        f"take it in: `override {group}: [{', '.join(choices)}]` among the defaults, or {group}=[{','.join(choices)}]"
    )


def _look_up_section(key: str) -> _Section:
    """Look up what a node has to be, by its key."""
    if key in _SECTIONS:
        return _SECTIONS[key]
    parent = key.rpartition(".")[0]
    if parent.startswith("callbacks.") and key.endswith(".sync"):
        return _Section(num_positional=1)  # a function of a path
    if parent == "callbacks":
        return _Section(Callback)
    if parent == "logger":
        return _Section(Logger)
    if key.startswith("training_module.lr_scheduler"):
        return _SCHEDULE
    if key.endswith("model.pair_potential"):
        return _Section(ZBL, num_positional=1)
    return _Section()


def _check_target(
    key: str,
    node: Mapping[str, Any],
    target: Any,
    trusted: tuple[str, ...],
    unsure: dict[str, Callable[[], ConfigError]],
    unresolved: Mapping[str, Any],
) -> None:
    section = _look_up_section(key)
    _check_kind(key, node["_target_"], target, section.kind)
    arguments = arguments_of(target, lambda module: trust.within(module, (trust.OWN, *trusted)))
    names = check_node(
        key,
        node,
        arguments,
        supplied=section.supplied,
        num_positional=section.num_positional,
        extra=section.extra,
        limits=limits_of(key),
        elsewhere=lambda name: place_hint(name, unresolved, f"{key}.{name}"),
    )
    if names:
        unsure[key] = lambda: unknown_argument(key, names[0], node["_target_"], arguments)


def _check_kind(key: str, name: str, target: Any, kind: type | None) -> None:
    """Refuse what cannot build what the section needs, as far as its class or annotation tells."""
    gives = target if inspect.isclass(target) else annotations_of(target).get("return")
    if kind is not None and inspect.isclass(gives) and not issubclass(gives, kind):
        raise ConfigError(
            f"{key}._target_ is '{name}', which gives {gives.__name__} and not {kind.__name__}",
            "name another class in its _target_",
        )
