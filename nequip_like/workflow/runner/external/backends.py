"""Trainers of others as backends of the runner: any that speaks the protocol, and programs that need not."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

from nequip_like.workflow.runner.backend import PlannedRun, Report, RunOutcome
from nequip_like.workflow.runner.external.calling import build_command, check_environment
from nequip_like.workflow.runner.external.trainer import run_command, run_trainer
from nequip_like.workflow.runner.files import check_inputs, check_model_stays
from nequip_like.workflow.runner.requests import RunRequest


class ExternalBackend:
    """``backend: external``: a trainer that speaks the protocol; ``task: backend``: a program that need not."""

    def plan(self, request: RunRequest, awaited: Collection[Path] = ()) -> PlannedRun:
        """Check the command, which is not started.

        Args:
            request: What the file says.
            awaited: Folders that earlier runs will have filled.

        Raises:
            ConfigError: If the program is not there, or ``backend_env`` sets what is not its own.
        """
        check_environment(request)
        check_model_stays(request)
        waits = check_inputs(request, awaited)
        command = build_command(request, awaited)
        task = "a command" if request.task == "backend" else request.task
        environment = ", ".join(sorted(request.environment))
        describes = (
            f"{task} by a program of others",
            f"command: {shlex.join(command)}",
            f"in {request.command_folder}",
            *([f"with {environment}"] if environment else []),
        )
        return PlannedRun(request, describes, waits=waits, content=command)

    def run(self, plan: PlannedRun, report: Report, goes_on: bool = False) -> RunOutcome:
        """Run it.

        Args:
            plan: What :meth:`plan` gave.
            report: Tells the user how it goes.
            goes_on: The run was stopped before.

        Raises:
            BackendError: If it fails, with the last lines that it printed.
        """
        if plan.request.task == "backend":
            return run_command(plan.request, plan.content, report)
        return run_trainer(plan.request, plan.content, report, goes_on=goes_on)
