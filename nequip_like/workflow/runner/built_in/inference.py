"""Runs that predict files."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nequip_like.errors import ConfigError, naming
from nequip_like.workflow.prediction.formats import choose_format
from nequip_like.workflow.prediction.printing import predict_and_print
from nequip_like.workflow.prediction.run import DEFAULT_BATCH
from nequip_like.workflow.runner import keys
from nequip_like.workflow.runner.backend import PlannedRun, Report, RunOutcome
from nequip_like.workflow.runner.built_in.context import RunContext
from nequip_like.workflow.runner.built_in.evaluation import check_data_keys, check_family, list_evaluated, read_amp
from nequip_like.workflow.runner.built_in.model_source import check_model_is_there, load_model, locate_model
from nequip_like.workflow.runner.files import check_inputs, list_outputs
from nequip_like.workflow.runner.requests import RunRequest

_USED = (*keys.EVALUATED, "test", "trust_pickle", "batch_size")
_CHOOSING = ("indices", "indices_path", "test_indices")


@dataclass(frozen=True)
class InferencePlan:
    """What is predicted.

    Attributes:
        files: The files.
        output: The file to be written.
        batch_size: Structures at a time.
        energy_only: Whether forces are left out.
        amp: Whether half precision is used.
        on_error: What a broken structure does: ``stop`` or ``skip``.
    """

    files: list[str]
    output: Path
    batch_size: Any
    energy_only: bool
    amp: bool
    on_error: Literal["stop", "skip"]


def plan_inference(request: RunRequest, awaited: Collection[Path] = ()) -> PlannedRun:
    """Check a prediction of files.

    Raises:
        NequipLikeError: For the first mistake.
    """
    data, output, notes = request.section("data"), request.section("output"), list[str]()
    if chosen := [key for key in _CHOOSING if data.get(key) is not None]:
        raise ConfigError(
            f"data.{chosen[0]} is given, but task: infer predicts all structures of its files",
            "leave it out, or write the chosen ones to a file of their own: nequip-data convert",
        )
    if given := [key for key in ("metrics_json", "metrics_csv") if output.get(key) is not None]:
        raise ConfigError(f"output.{given[0]} is given, which task: infer has no use for", "write task: evaluate")
    if output.get("predictions") and output.get("predictions_csv"):
        raise ConfigError("output.predictions and output.predictions_csv are both given", "give one of them")
    check_data_keys(request, _USED)
    (file,) = list_outputs(request)
    with naming("output.predictions"):
        choose_format(file, _read_format(output))
    waits = check_inputs(request, awaited)
    if not waits:
        check_model_is_there(request)
    energy_only = bool(request.section("eval").get("energy_only"))
    files = list_evaluated(data)
    size, on_error = data.get("batch_size", DEFAULT_BATCH), request.section("eval").get("on_error", "stop")
    plan = InferencePlan(files, file, size, energy_only, read_amp(request, notes), on_error)
    named = files[0] if len(files) == 1 else f"{len(files)} files"
    what = "energies" if energy_only else "energies, forces and stress"
    describes = (f"infer {named} by {locate_model(request)}: {what}", f"write {file}")
    return PlannedRun(request, describes, tuple(notes), waits, plan)


def run_inference(plan: PlannedRun, report: Report, context: RunContext, goes_on: bool) -> RunOutcome:
    """Predict; a prediction that was stopped goes on."""
    request, content = plan.request, plan.content
    potential, card = load_model(request, context.families)
    check_family(request, potential.config.get("family"))
    report(f"model: {card['path']}")
    content.output.parent.mkdir(parents=True, exist_ok=True)
    summary = predict_and_print(
        potential,
        content.files,
        content.output,
        format=_read_format(request.section("output")),
        batch_size=content.batch_size,
        energy_only=content.energy_only,
        amp=content.amp,
        device=request.device,
        resume=goes_on,
        on_error=content.on_error,
        overwrite=True,  # what is in the way and is not of this run was refused before
        trust_pickle=bool(request.section("data").get("trust_pickle")),
    )
    files = {"predictions": summary.path} | ({"skipped": summary.skipped_path} if summary.skipped_path else {})
    return RunOutcome(files, {"frames": float(summary.frames), "skipped": float(summary.skipped)})


def _read_format(output: Any) -> str | None:
    return "csv" if output.get("predictions_csv") else None
