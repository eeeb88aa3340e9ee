"""Runs that train: new ones, fine-tunings, and runs that go on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf, open_dict

from nequip_like.artifacts import write_artifacts
from nequip_like.model.finetuning import FINE_TUNED
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.config.machine_check import check_machine
from nequip_like.workflow.finetune.settings import Settings, read_settings
from nequip_like.workflow.finetune.source import check_settings
from nequip_like.workflow.resume import CHECKPOINT_FOLDER, find_newest
from nequip_like.workflow.runner import keys
from nequip_like.workflow.runner.backend import PlannedRun, Report, RunOutcome
from nequip_like.workflow.runner.built_in.context import RunContext
from nequip_like.workflow.runner.built_in.evaluation import check_family
from nequip_like.workflow.runner.built_in.model_source import (
    load_model,
    locate_checkpoint,
    locate_model,
    locate_source,
)
from nequip_like.workflow.runner.built_in.training_config import build_config, list_typed, translate_training
from nequip_like.workflow.runner.files import check_inputs, check_model_stays, is_below
from nequip_like.workflow.runner.requests import RunRequest
from nequip_like.workflow.slurm.tasks import check_single_process
from nequip_like.workflow.train import train


@dataclass(frozen=True)
class TrainingPlan:
    """A training that was checked.

    Attributes:
        config: The composed config, without where it begins or goes on.
        typed: What it changes of the package's config, as overrides.
    """

    config: DictConfig
    typed: tuple[str, ...]


def plan_training(request: RunRequest, context: RunContext, awaited: Collection[Path] = ()) -> PlannedRun:
    """Check a training, all of it: a mistake would be found by nobody hours later, when its turn has come.

    Args:
        request: The run.
        context: What the command line gives.
        awaited: Folders that runs before it will have filled; what depends on them is checked when they have.

    Raises:
        NequipLikeError: For the first mistake.
    """
    check_model_stays(request)
    changes = translate_training(request)
    waits = check_inputs(request, awaited)
    config = build_config(request, changes, context.compose, context.trusted_packages)
    if not waits:
        _check_source(request, context)
    checked = check_config(_add_beginning(config.copy(), request, waits))
    check_single_process(checked.values["trainer"])
    if not waits:
        check_machine(checked)
    plan = TrainingPlan(config, tuple(list_typed(request, changes)))
    return PlannedRun(request, _describe(request, plan), tuple(changes.notes), waits, plan)


def run_training(plan: PlannedRun, report: Report, context: RunContext, goes_on: bool) -> RunOutcome:
    """Train, and write the artifacts of what was trained.

    Args:
        plan: What :func:`plan_training` gave.
        report: Tells the user how it goes.
        context: What the command line gives.
        goes_on: Go on from the newest checkpoint in the run's folder, if there is one.
    """
    request, content = plan.request, plan.content
    config = content.config.copy()
    newest = find_newest(request.run_dir / CHECKPOINT_FOLDER) if goes_on else None
    if newest is not None and request.task == "resume" and not is_below(locate_model(request), [request.run_dir]):
        report(
            f"note: it goes on from its own {newest.path}, not again from {locate_model(request)}: --again does that"
        )
    goes_on = newest is not None
    with open_dict(config):
        if request.task == "finetune":
            config.finetune.source = str(locate_source(request, context.families))
        if goes_on:
            config.resume = "auto"
        elif request.task == "resume":
            config.ckpt_path = str(locate_checkpoint(request))
    result = train(config, typed=content.typed)
    files = {"model": result.model_file, "checkpoint": result.best_checkpoint}
    if result.stopped_by is None and result.model_file is not None and _wants_artifacts(request):
        files["manifest"] = write_artifacts(result.model_file, request.artifacts)
        report(f"artifacts: {files['manifest']}")
    return RunOutcome({name: file for name, file in files.items() if file}, dict(result.metrics), result.stopped_by)


def _check_source(request: RunRequest, context: RunContext) -> None:
    """Refuse a fine-tuning of a model that is of another family than the run names."""
    if request.task == "finetune":
        check_family(request, load_model(request, context.families)[0].config.get("family"))


def _add_beginning(config: DictConfig, request: RunRequest, waits: bool) -> DictConfig:
    """Let a config begin or go on where the run does, for its check; what is not there yet is left out."""
    with open_dict(config):
        if request.task == "finetune":
            model = locate_model(request)
            config.finetune.source = str(model)
            if waits:  # the section is judged without its source, and the rest of the config without the section
                settings = read_settings(OmegaConf.to_container(config.finetune, resolve=True))
                family = FINE_TUNED[keys.name_family(request.backend)]
                check_settings(cast(Settings, settings), family, str(model))
                config.finetune = {"source": None}
        elif request.task == "resume" and not waits:
            config.ckpt_path = str(locate_checkpoint(request))
    return config


def _wants_artifacts(request: RunRequest) -> bool:
    return bool(request.section("export").get("standard_artifacts", True))


def _describe(request: RunRequest, plan: TrainingPlan) -> tuple[str, ...]:
    begin = {"finetune": "begin with", "resume": "go on from"}.get(request.task)
    model = [] if begin is None else [f"{begin} {locate_model(request)}"]
    return (
        f"{request.task} {request.backend} into {request.run_dir}",
        *model,
        f"as nequip-train {' '.join(plan.typed)}",
    )
