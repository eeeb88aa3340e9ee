"""The end of a run: its record and report, a summary, and what dashboards get."""

from __future__ import annotations

from collections.abc import Mapping

import lightning
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from nequip_like.inference.evaluation import Evaluations
from nequip_like.report.page.run_content import REPORT_FILE
from nequip_like.summaries import print_line
from nequip_like.workflow import printing, resume
from nequip_like.workflow.run_folder.earlier_run import CONFIG_FILE
from nequip_like.workflow.run_folder.records import RunRecord


@rank_zero_only
def close_run(
    console: Console,
    trainer: lightning.Trainer,
    record: RunRecord,
    metrics: Mapping[str, float],
    evaluations: Evaluations | None,
    report: bool,
) -> None:
    """Write the record and the report, print the summary, and give dashboards the results.

    Args:
        console: Where to print.
        trainer: The trainer.
        record: The record of the run.
        metrics: Errors of the weights that were kept, by logged name.
        evaluations: Of the test sets, if there was a test.
        report: Whether ``report.html`` is wanted.

    Raises:
        OutputError: If a file cannot be written.
    """
    record.finish(trainer)
    if report:
        from nequip_like.report.page.report_file import write_report  # here: the start of a run has no use for it

        write_report(record.folder, evaluations)
    files = {"model": record.folder / resume.MODEL_FILE, "report": record.folder / REPORT_FILE}
    listed_files = files if record.has_trained else {"report": files["report"]}
    printing.print_summary(console, record.describe_best(), metrics, evaluations, record.describe_times(), listed_files)
    from nequip_like.report.boards.results import log_results

    records = {name: record.folder / name for name in (CONFIG_FILE, "metrics.json")}
    model_files = {**files, **records} if record.has_trained else {}
    for command in log_results(trainer, evaluations, model_files, metrics, record.best_step):
        print_line(console, f"upload: {command}")
