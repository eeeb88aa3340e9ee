"""Runs that write a model as artifacts."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from nequip_like.artifacts import write_artifacts
from nequip_like.inference.loading import carry_card
from nequip_like.workflow.runner.backend import PlannedRun, Report, RunOutcome
from nequip_like.workflow.runner.built_in.context import RunContext
from nequip_like.workflow.runner.built_in.evaluation import check_family
from nequip_like.workflow.runner.built_in.model_source import check_model_is_there, load_model, locate_model
from nequip_like.workflow.runner.files import check_inputs
from nequip_like.workflow.runner.requests import RunRequest


def plan_export(request: RunRequest, awaited: Collection[Path] = ()) -> PlannedRun:
    """Check an export.

    Raises:
        NequipLikeError: For the first mistake.
    """
    waits = check_inputs(request, awaited)
    if not waits:
        check_model_is_there(request)
    return PlannedRun(request, (f"export {locate_model(request)} to {request.artifacts}",), waits=waits)


def run_export(plan: PlannedRun, report: Report, context: RunContext) -> RunOutcome:
    """Write ``model.safetensors``, ``model.json`` and ``manifest.json``, on the CPU, with their SHA-256."""
    request = plan.request
    potential, card = load_model(request, context.families)
    check_family(request, potential.config.get("family"))
    # A file's own entry in the manifest says which file the model was in; with other weights there is none.
    model = potential if "weights" in request.model or context.families else locate_model(request)
    told = carry_card(card) if model is potential else None
    manifest = write_artifacts(model, request.artifacts, card=told)
    report(f"artifacts: {manifest}")
    return RunOutcome({"manifest": manifest, "model": manifest.parent / "model.safetensors"})
