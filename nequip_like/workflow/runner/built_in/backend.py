"""Our own library as a backend: what each task calls."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from nequip_like.errors import ConfigError
from nequip_like.workflow.runner.backend import PlannedRun, Report, RunOutcome
from nequip_like.workflow.runner.built_in.context import RunContext
from nequip_like.workflow.runner.built_in.evaluation import plan_evaluation, run_evaluation
from nequip_like.workflow.runner.built_in.export import plan_export, run_export
from nequip_like.workflow.runner.built_in.inference import plan_inference, run_inference
from nequip_like.workflow.runner.built_in.training import plan_training, run_training
from nequip_like.workflow.runner.requests import RunRequest

_OF_OTHERS = {
    "backend_python": "our own runs are done by the Python that runs nequip-run",
    "backend_env": "set variables where nequip-run is started",
    "backend_time_limit": "give a budget: backend_args: [budget=2h]",
    "backend_silence_limit": "it is for trainers of others",
}


class BuiltInBackend:
    """Model families of ours, in this process.

    Args:
        context: What the command line gives.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def plan(self, request: RunRequest, awaited: Collection[Path] = ()) -> PlannedRun:
        """As :meth:`nequip_like.workflow.runner.backend.Backend.plan`."""
        for key, advice in _OF_OTHERS.items():
            if request.given.get(key):
                raise ConfigError(f"{key} is for trainers of others, not for backend: {request.backend}", advice)
        if request.trains:
            return plan_training(request, self._context, awaited)
        if request.arguments:
            raise ConfigError(
                f"backend_args is given, but task: {request.task} has no config that they would change", "leave it out"
            )
        planned = {"evaluate": plan_evaluation, "infer": plan_inference, "export": plan_export}
        return planned[request.task](request, awaited)

    def run(self, plan: PlannedRun, report: Report, goes_on: bool = False) -> RunOutcome:
        """As :meth:`nequip_like.workflow.runner.backend.Backend.run`."""
        task = plan.request.task
        if task == "evaluate":
            return run_evaluation(plan, report, self._context)
        if task == "infer":
            return run_inference(plan, report, self._context, goes_on)
        if task == "export":
            return run_export(plan, report, self._context)
        return run_training(plan, report, self._context, goes_on)
