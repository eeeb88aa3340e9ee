"""Runs that compare a model with labelled data, and write the errors as JSON and as tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nequip_like.data.sources import held_out_sources
from nequip_like.errors import ConfigError, naming_arguments
from nequip_like.inference.device import resolve_device
from nequip_like.inference.energy_only import energies_only
from nequip_like.inference.predictor import DEFAULT_BATCH_SIZE
from nequip_like.model.families import FAMILIES
from nequip_like.workflow.evaluate import test_model
from nequip_like.workflow.runner import keys
from nequip_like.workflow.runner.backend import PlannedRun, Report, RunOutcome
from nequip_like.workflow.runner.built_in.context import RunContext
from nequip_like.workflow.runner.built_in.error_metrics import compute_run_metrics
from nequip_like.workflow.runner.built_in.evaluation_files import write_evaluation
from nequip_like.workflow.runner.built_in.model_source import check_model_is_there, load_model, locate_model
from nequip_like.workflow.runner.built_in.training_config import select_set_frames
from nequip_like.workflow.runner.files import check_inputs, find_problem, locate_output
from nequip_like.workflow.runner.requests import RunRequest

_USED = (*keys.EVALUATED, "test", "indices", "indices_path", "test_indices", "trust_pickle", "batch_size")
_LABELS = ("key_mapping", "units")
_SET = "data"  # name of the data set


@dataclass(frozen=True)
class EvaluationPlan:
    """What is evaluated.

    Attributes:
        entry: The data set, as a config's ``data.test`` names one.
        batch_size: Structures at a time.
        energy_only: Whether forces are left out.
        amp: Whether half precision is used.
    """

    entry: Mapping[str, Any]
    batch_size: Any
    energy_only: bool
    amp: bool


def plan_evaluation(request: RunRequest, awaited: Collection[Path] = ()) -> PlannedRun:
    """Check an evaluation.

    Raises:
        NequipLikeError: For the first mistake.
    """
    data, notes = request.section("data"), list[str]()
    check_data_keys(request, (*_USED, *_LABELS))
    entry, chosen_notes = _choose_data(data)
    with naming_arguments("data", ("test",)):
        held_out_sources({_SET: entry}, "test", None, None) if not _reads_awaited(entry, awaited) else None
    waits = check_inputs(request, awaited)
    if not waits:
        check_model_is_there(request)
    amp = read_amp(request, notes)
    plan = EvaluationPlan(
        entry, data.get("batch_size", DEFAULT_BATCH_SIZE), bool(request.section("eval").get("energy_only")), amp
    )
    what = "energies" if plan.energy_only else "energies, forces and stress"
    describes = (
        f"evaluate {locate_model(request)} on {_name_files(entry['file'])}: {what}",
        f"write to {locate_output(request)}",
    )
    return PlannedRun(request, describes, (*chosen_notes, *notes), waits, plan)


def run_evaluation(plan: PlannedRun, report: Report, context: RunContext) -> RunOutcome:
    """Evaluate, and write ``metrics.json`` and the tables that were asked for."""
    request, content = plan.request, plan.content
    potential, card = load_model(request, context.families)
    check_family(request, potential.config.get("family"))
    report(f"model: {card['path']}")
    autocast = torch.autocast("cuda", torch.float16) if content.amp else nullcontext()
    with energies_only(potential, content.energy_only), autocast:
        evaluation = test_model(potential, {_SET: content.entry}, batch_size=content.batch_size, device=request.device)[
            _SET
        ]
    metrics = compute_run_metrics(evaluation)
    files = write_evaluation(request, evaluation, metrics, str(card["path"]), content.energy_only)
    report(f"written: {', '.join(str(file) for file in files.values())}")
    return RunOutcome(files, metrics)


def check_data_keys(request: RunRequest, used: Collection[str]) -> None:
    """Refuse keys of the section data that a task has no use for.

    Raises:
        ConfigError: Naming the key.
    """
    for key, value in request.section("data").items():
        if key not in used and not (key in ("train", "val", "train_indices", "val_indices") or value is None):
            raise ConfigError(f"data.{key} is given, which task: {request.task} has no use for", "leave it out")


def check_family(request: RunRequest, family: Any) -> None:
    """Refuse a model that is not of the family that the run names.

    Raises:
        ConfigError: Naming both.
    """
    if family in FAMILIES and family != keys.name_family(request.backend):
        raise ConfigError(
            f"backend is {request.backend}, but the model {locate_model(request)} is of the family {family}",
            f"write backend: {family}",
        )


def read_amp(request: RunRequest, notes: list[str]) -> bool:
    """Whether half precision is asked for and can be had; a note where it cannot."""
    if not request.section("eval").get("amp"):
        return False
    if resolve_device(request.device).type == "cuda":
        return True
    notes.append("eval.amp has no effect on a CPU")
    return False


def list_evaluated(data: Mapping[str, Any]) -> list[str]:
    """The files that evaluate and infer read."""
    for key in (*keys.EVALUATED, "test"):
        if (files := data.get(key)) is not None:
            if not isinstance(files, str | list):
                raise ConfigError(f"data.{key} is {files}, a part of data that are split", "name a file")
            return [files] if isinstance(files, str) else files
    raise ConfigError("no data are named", "name the file: data: {path: test.xyz}")


def _choose_data(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    own = {"indices": data.get("indices"), "indices_path": data.get("indices_path")}
    chosen, notes = select_set_frames(data, "test", own)
    further = {key: data[key] for key in _LABELS if data.get(key) is not None}
    if data.get("trust_pickle"):
        further["trust_pickle"] = True
    return {"file": list_evaluated(data), **chosen, **further}, notes


def _reads_awaited(entry: Mapping[str, Any], awaited: Collection[Path]) -> bool:
    file = entry.get("indices_path")
    return isinstance(file, str) and bool(awaited) and find_problem(Path(file)) is not None


def _name_files(files: list[str]) -> str:
    return files[0] if len(files) == 1 else f"{len(files)} files"
