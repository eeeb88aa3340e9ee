"""Run the jobs of a ``--multirun``: each is noted when it ends, and one that fails does not stop the others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from nequip_like.cli.errors import INTERRUPTED, SIGNALLED, run_cli

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from nequip_like.report.sweeps.runs import Run
    from nequip_like.workflow.train import TrainingResult

Train = Callable[["DictConfig", set[str]], "TrainingResult"]
Launch = Callable[[Callable[["DictConfig"], "Run"]], None]


def run_several(folder: Path, train: Train, launch: Launch, debug: bool, *, apart: bool = False) -> None:
    """Do several runs, and print, write and draw a table of them.

    Args:
        folder: The folder that theirs are in.
        train: What is done for each: gets its config, and what those before have printed of their data.
        launch: Calls a function for the config of each run.
        debug: Let the errors of users through.
        apart: The runs are in processes of their own, several at a time: what each prints goes to a file of its folder.

    Raises:
        SystemExit: With a status that is not 0 if a run failed or was stopped.
    """
    from nequip_like.report.sweeps.runs import forget_runs, report_runs
    from nequip_like.workflow.sweeps.study import STUDY_FILE

    if not (folder / STUDY_FILE).exists():  # a study goes on: its runs are those of this table
        forget_runs(folder)
    printed_data: set[str] = set()

    def task(config: DictConfig) -> Run:
        return _run_one(folder, lambda: train(config, printed_data), debug, apart)[0]

    try:
        launch(task)
    finally:
        runs = report_runs(folder)
    if any(run.status.startswith("failed") for run in runs):
        sys.exit(2)


def run_one_of_several(
    folder: Path, train: Callable[[DictConfig], TrainingResult], launch: Launch, debug: bool
) -> None:
    """Do one of several runs whose others are done by other commands, and print, write and draw a table of all so far.

    Args:
        folder: The folder of the run, whose name is its number, among those of the others.
        train: Is called for it.
        launch: Calls a function for its config.
        debug: Let the errors of users through.

    Raises:
        ConfigError: If the folder has another name.
        SystemExit: With a status that is not 0 if the run failed or was stopped.
    """
    from nequip_like.errors import ConfigError
    from nequip_like.process_settings import rank
    from nequip_like.report.sweeps.runs import report_runs

    if not folder.name.isdecimal():
        raise ConfigError(
            f"the folder of a run with --one-of-several is named by its number, but this is {folder}",
            "give hydra.run.dir=runs/NAME/0, runs/NAME/1, ...",
        )
    status = 0

    def task(config: DictConfig) -> Run:
        nonlocal status
        run, status = _run_one(folder.parent, lambda: train(config), debug, number=int(folder.name))
        return run

    launch(task)
    if rank() == 0:
        report_runs(folder.parent)
    if status:
        sys.exit(status)


def _run_one(
    folder: Path,
    train: Callable[[], TrainingResult],
    debug: bool,
    apart: bool = False,
    number: int | None = None,
) -> tuple[Run, int]:
    """Do a run and note it; gives it with what came of it, and the exit status that a command of its own would have."""
    from hydra.core.hydra_config import HydraConfig

    from nequip_like.errors import NequipLikeError
    from nequip_like.process_settings import keep_memory, rank
    from nequip_like.report.sweeps.runs import PRUNED, Result, Run, note_run
    from nequip_like.workflow.commands import read_typed_overrides
    from nequip_like.workflow.sweeps.pruning import PrunedError
    from nequip_like.workflow.trials import PRINTED, printed_to

    job = HydraConfig.get()
    run = Run(int(job.job.num) if number is None else number, str(job.runtime.output_dir), read_typed_overrides())
    status, result = "failed", None
    outcome: Result | None = None
    if apart:
        keep_memory()

    def attempt() -> None:
        nonlocal status, result, outcome
        try:
            with printed_to(Path(run.folder) / PRINTED) if apart else nullcontext():
                outcome = result = train()
        except PrunedError as end:
            status, outcome = f"{PRUNED}: {end.message}", end
            print(status, flush=True)
            return
        except NequipLikeError as error:
            status = f"failed: {' '.join(error.message.split())}"
            raise
        status = "done" if result.stopped_by is None else f"stopped by {result.stopped_by.name}"

    try:
        code = run_cli(attempt, debug=debug)
    finally:
        if rank() == 0:
            run = note_run(folder, run, status, outcome)
    if apart:
        print(run.describe(), flush=True)
    if result is not None and result.stopped_by is not None:
        sys.exit(SIGNALLED + result.stopped_by)
    if code == INTERRUPTED:
        sys.exit(code)
    return run, code
