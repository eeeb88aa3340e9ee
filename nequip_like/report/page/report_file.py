"""The report of one run, and the comparison of several: files that a browser shows without anything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from nequip_like.inference.evaluation import Evaluation
from nequip_like.report.page.comparison import write_comparison
from nequip_like.report.page.markup import write_page
from nequip_like.report.page.run_content import REPORT_FILE, RunContent, read_run
from nequip_like.report.page.sections import (
    write_data,
    write_environment,
    write_result,
    write_settings,
    write_times,
    write_training,
)
from nequip_like.report.page.tested import write_tests
from nequip_like.whole_files import path_of, written_whole

COMPARISON_FILE = "comparison.html"


def write_report(
    folder: str | Path, evaluations: Mapping[str, Evaluation] | None = None, path: str | Path | None = None
) -> Path:
    """Write the report of a run, out of what its folder holds.

    Args:
        folder: The folder of a run, or of a test.
        evaluations: Of its test sets, if they are at hand; the file is the same without them.
        path: Where; ``report.html`` in the folder by default.

    Returns:
        The file.

    Raises:
        DataError: If the folder is none of a run, or a file in it cannot be read.
        OutputError: If the report cannot be written.
    """
    run = read_run(folder, evaluations)
    path = run.folder / REPORT_FILE if path is None else path_of(path)
    with written_whole(path) as partial:
        partial.write_text(write_page(f"Run {run.folder.name}", _write_run(run)), encoding="utf-8")
    return path


def compare_runs(folders: Sequence[str | Path], path: str | Path, error: str = "") -> Path:
    """Write a page that compares runs: a table, the best first, curves over each other, differences of configs.

    Args:
        folders: Folders of runs.
        path: The file.
        error: The error that the table is sorted by, ``SET/METRIC``; the RMSE of the forces, or else of the energies,
            on the first test set by default.

    Returns:
        The file.

    Raises:
        DataError: If a folder is none of a run, or no run has the error.
        OutputError: If the page cannot be written.
    """
    runs = [read_run(folder) for folder in folders]
    text = write_page(f"{len(runs)} runs", write_comparison(runs, error))
    path = path_of(path)
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def _write_run(run: RunContent) -> Iterator[str]:
    sections = [
        *write_training(run),
        *write_tests(run),
        *write_data(run),
        *write_settings(run),
        *write_times(run),
        *write_environment(run),
    ]
    yield f"<header><h1>Run {escape(run.folder.name)}</h1>"
    if run.sessions:
        yield f'<p class="quiet">begun {escape(str(run.sessions[0].get("begun", "")))} UTC</p>'
    yield f"<nav>{''.join(_list_links(run, sections))}</nav></header>"
    yield from write_result(run)
    yield from sections


def _list_links(run: RunContent, sections: Sequence[str]) -> Iterator[str]:
    anchors = {"training": "Training"}
    anchors |= {f"test{i}": f"Test set {name}" for i, name in enumerate(run.metrics)}
    anchors |= {"data": "Data", "configuration": "Configuration", "times": "Times", "environment": "Environment"}
    text = "".join(section for section in sections if section.startswith("<h2"))
    for anchor, name in anchors.items():
        if f'id="{anchor}"' in text:
            yield f'<a href="#{anchor}">{escape(name)}</a> '
