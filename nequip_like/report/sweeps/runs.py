"""One table of several runs: their overrides, their best values, and how they ended."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nequip_like.report.tables import format_number
from nequip_like.summaries import print_line
from nequip_like.whole_files import written_whole

RUNS_FILE = "runs.csv"
PLOT_FILE = "runs.png"
PRUNED = "pruned"  # the first word of how a run ended that its search ended
_NOTES = ".runs"  # one file for each run, for runs may end at the same time, on several machines
_SHOWN = 60  # characters of an error
_DIGITS = 8  # characters of a number that is shown as it was typed


@dataclass(frozen=True)
class Run:
    """One of several runs.

    Attributes:
        number: Its number, from 0.
        folder: Where it wrote.
        overrides: What it was given, ``key=value``.
        status: ``done``, ``stopped by ...``, ``pruned: ...`` or ``failed: ...``.
        monitored: What was followed.
        best: Its best value; None without one.
        larger_is_better: Whether large values are good.
        epoch: Epoch of the best value, from 0.
        metrics: Validation errors at the best value, and test errors.
    """

    number: int
    folder: str
    overrides: Sequence[str]
    status: str = "failed"
    monitored: str = ""
    best: float | None = None
    larger_is_better: bool = False
    epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def describe(self) -> str:
        """As a line: ``run 3: seed=1: done, 0.0123 at epoch 8``."""
        value = "" if self.best is None else f", {format_number(self.best)}"
        epoch = "" if self.epoch is None else f" at epoch {self.epoch}"
        return f"run {self.number}: {' '.join(self.overrides)}: {self.status}{value}{epoch}"


class Result(Protocol):
    """What training tells of the best model."""

    @property
    def monitored(self) -> str: ...  # noqa: D102
    @property
    def best(self) -> float | None: ...  # noqa: D102
    @property
    def larger_is_better(self) -> bool: ...  # noqa: D102
    @property
    def best_epoch(self) -> int | None: ...  # noqa: D102
    @property
    def best_metrics(self) -> Mapping[str, float]: ...  # noqa: D102


def forget_runs(folder: Path) -> None:
    """Delete the notes of earlier runs in a folder."""
    for note in _list_notes(folder):
        note.unlink()


def note_run(folder: Path, run: Run, status: str, result: Result | None) -> Run:
    """Keep what came of a run, and write the table of all that have ended.

    Args:
        folder: The folder that the runs' folders are in.
        run: The run.
        status: How it ended.
        result: What it found, if it did not fail.

    Returns:
        The run with what came of it.

    Raises:
        OutputError: If a file cannot be written.
    """
    run = replace(run, status=status)
    if result is not None:
        run = replace(
            run,
            monitored=result.monitored,
            best=result.best,
            larger_is_better=result.larger_is_better,
            epoch=result.best_epoch,
            metrics=dict(result.best_metrics),
        )
    with written_whole(folder / _NOTES / f"{run.number}.json") as partial:
        partial.write_text(json.dumps(asdict(run)))
    _write_all(folder, draw=False)
    return run


def report_runs(folder: Path, console: Console | None = None) -> list[Run]:
    """Print the table of all runs in a folder, the best first, write it, and draw it.

    Args:
        folder: The folder that the runs' folders are in.
        console: Where to print; the terminal by default.

    Returns:
        The runs, the best first.

    Raises:
        OutputError: If a file cannot be written.
    """
    runs, pictures = _write_all(folder, draw=True)
    if runs:
        console = console or Console()
        console.print(runs_table(runs))
        for what, path in [("runs", folder / RUNS_FILE), *(("plot", picture) for picture in pictures)]:
            print_line(console, f"{what}: {path}")
    return runs


def read_runs(folder: Path) -> list[Run]:
    """Read the runs that were noted in a folder: the best first, those without a value last."""
    return _sort_runs(_read_notes(folder))


def find_varying_keys(runs: Sequence[Run]) -> list[str]:
    """Keys whose values differ between runs; of a single run all that it was given.

    Example:
        >>> runs = [Run(i, f"run/{i}", ["seed=0", f"cutoff_radius={cutoff}"]) for i, cutoff in enumerate((4.0, 5.0))]
        >>> find_varying_keys(runs)
        ['cutoff_radius']
    """
    values_of_runs = [read_values(run) for run in runs]
    keys = dict.fromkeys(key for values in values_of_runs for key in values)
    return [key for key in keys if len(runs) == 1 or len({values.get(key) for values in values_of_runs}) > 1]


def runs_table(runs: Sequence[Run]) -> Table:
    """Number, varied values, best value and its epoch, and how each run ended."""
    monitored = {run.monitored for run in runs if run.monitored}
    table = Table(title=f"Runs by {monitored.pop() if len(monitored) == 1 else 'what each followed'}")
    table.title_justify = "left"
    table.add_column("run", justify="right")
    keys = find_varying_keys(runs)
    for key in keys:
        table.add_column(Text(key), overflow="fold")
    for heading in ("best", "epoch"):
        table.add_column(heading, justify="right")
    table.add_column("status", overflow="fold")
    for run in runs:
        values = read_values(run)
        ended = run.status if len(run.status) <= _SHOWN else f"{run.status[:_SHOWN]}..."
        table.add_row(
            str(run.number),
            *(Text(_shorten(values.get(key, ""))) for key in keys),
            "" if run.best is None else format_number(run.best),
            "" if run.epoch is None else str(run.epoch),
            Text(ended),
        )
    return table


def _write_all(folder: Path, draw: bool) -> tuple[list[Run], list[Path]]:
    """Write the table of all runs that were noted, and draw it; once more if a run was noted meanwhile.

    So whoever writes last has seen all notes, however many runs end at the same time.
    """
    notes: list[str] = []
    runs: list[Run] = []
    pictures: list[Path] = []
    while notes != (now := _read_notes(folder)):
        notes, runs = now, _sort_runs(now)
        _write(folder, runs)
        if draw and any(run.best is not None for run in runs):
            from nequip_like.report.sweeps.plot import plot_runs  # here: matplotlib takes its time

            pictures = plot_runs(runs, folder / PLOT_FILE)
    return runs, pictures


def _write(folder: Path, runs: Sequence[Run]) -> None:
    keys, names = find_varying_keys(runs), list(dict.fromkeys(name for run in runs for name in run.metrics))
    head = ["run", *keys, "monitored_metric", "best", "epoch", "status", "folder", *names]
    with written_whole(folder / RUNS_FILE) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for run in runs:
            values = read_values(run)
            metrics = [run.metrics.get(name, "") for name in names]
            outcome = [run.monitored, _format_value(run.best), _format_value(run.epoch), run.status, run.folder]
            writer.writerow([run.number, *(values.get(key, "") for key in keys), *outcome, *metrics])


def _list_notes(folder: Path) -> list[Path]:
    return sorted((folder / _NOTES).glob("[0-9]*.json"))


def _read_notes(folder: Path) -> list[str]:
    return [path.read_text() for path in _list_notes(folder)]


def _sort_runs(notes: Sequence[str]) -> list[Run]:
    return sorted((Run(**json.loads(note)) for note in notes), key=_order)


def read_values(run: Run) -> dict[str, str]:
    """What a run was given, by key; that it was gone on with is no value of it."""
    pairs = (override.partition("=") for override in run.overrides if not override.startswith("resume="))
    return {key: value for key, _, value in pairs}


def _shorten(value: str) -> str:
    """A chosen number with four digits; anything else as it is."""
    try:
        number = float(value)
    except ValueError:
        return value
    return value if len(value) <= _DIGITS else f"{number:.4g}"


def _format_value(value: float | None) -> str:
    return "" if value is None else repr(value)


def _order(run: Run) -> tuple[int, float, int]:
    """The best first; those that were pruned behind all that were not, and those without a value last."""
    if run.best is None or math.isnan(run.best):
        return 2, 0.0, run.number
    return int(run.status.startswith(PRUNED)), -run.best if run.larger_is_better else run.best, run.number
