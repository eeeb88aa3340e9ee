"""Predictions of files with what a user sees of them: a bar in a terminal, and a line at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nequip_like.model.potential import Potential
from nequip_like.summaries import print_line
from nequip_like.workflow.prediction.run import PredictionSummary, predict_files


def predict_and_print(
    model: str | Path | Potential,
    files: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    console: Console | None = None,
    **options: Any,
) -> PredictionSummary:
    """Predict files, show how far it is, and say what was written.

    Args:
        model: As for :func:`~nequip_like.workflow.prediction.run.predict_files`.
        files: As there.
        output: As there.
        console: Where to print; the terminal by default.
        **options: The other arguments of ``predict_files``.

    Returns:
        What was written.

    Raises:
        Exception: As ``predict_files``.
    """
    console = console or Console()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"))
    begin = time.monotonic()
    # Without a terminal nothing is drawn: a log keeps each line.
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("reading", total=None)

        def show(done: int, runs: int, frames: int) -> None:
            bar.update(task, completed=done, total=runs, description=f"{frames} frames")

        summary = predict_files(model, files, output, progress=show, **options)
    seconds = time.monotonic() - begin
    resumed = f", {summary.resumed} of them before" if summary.resumed else ""
    rate = (summary.frames - summary.resumed) / max(seconds, 1e-9)
    print_line(
        console, f"written: {summary.path}, {summary.frames} frames{resumed}, {seconds:.1f} s ({rate:.0f} frames/s)"
    )
    if summary.base:
        print_line(console, f"note: predictions are differences to {summary.base}, which has to be added")
    if summary.skipped:
        print_line(console, f"warning: frames left out: {summary.skipped}, first: {summary.first_skipped}")
        print_line(console, f"  all of them: {summary.skipped_path}")
    if summary.nonfinite:
        print_line(
            console,
            f"warning: predictions of {summary.nonfinite} frames are not finite, first: {summary.first_nonfinite}",
        )
    return summary
