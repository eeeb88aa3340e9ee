"""The table of several runs: varied values, the best first, the same numbers in a file."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from nequip_like.report.sweeps.runs import Run, find_varying_keys, forget_runs, note_run, read_runs, report_runs


@dataclass
class Found:
    best: float | None
    best_epoch: int | None = 4
    monitored: str = "val0_epoch/forces_rmse"
    larger_is_better: bool = False
    best_metrics: dict = field(default_factory=dict)


def note(folder, number, best, *overrides, **options):
    run = Run(number, str(folder / str(number)), ["run=[train]", *overrides])
    note_run(folder, run, "done", Found(best, best_metrics={"val0_epoch/forces_rmse": best}, **options))


@pytest.fixture
def three(tmp_path):
    note(tmp_path, 0, 0.25, "seed=1", "lr=0.1")
    note(tmp_path, 1, 0.125, "seed=2", "lr=0.1")
    note_run(tmp_path, Run(2, str(tmp_path / "2"), ["run=[train]", "seed=3", "lr=9"]), "failed: the loss is nan", None)
    return tmp_path


def test_the_best_first(three):
    assert [run.number for run in read_runs(three)] == [1, 0, 2]
    assert find_varying_keys(read_runs(three)) == ["seed", "lr"]


def test_file(three):
    """Written when each run ends."""
    with (three / "runs.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["run", "seed", "lr", "monitored_metric", "best", "epoch", "status", "folder", "val0_epoch/forces_rmse"],
        ["1", "2", "0.1", "val0_epoch/forces_rmse", "0.125", "4", "done", str(three / "1"), "0.125"],
        ["0", "1", "0.1", "val0_epoch/forces_rmse", "0.25", "4", "done", str(three / "0"), "0.25"],
        ["2", "3", "9", "", "", "", "failed: the loss is nan", str(three / "2"), ""],
    ]


def test_printed(three, capsys):
    runs = report_runs(three, Console(width=100))
    lines = capsys.readouterr().out.splitlines()
    assert [run.number for run in runs] == [1, 0, 2]
    assert lines[0].strip() == "Runs by val0_epoch/forces_rmse"
    assert [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines[4:7]] == [
        ["1", "2", "0.1", "0.1250", "4", "done"],
        ["0", "1", "0.1", "0.2500", "4", "done"],
        ["2", "3", "9", "", "", "failed: the loss is nan"],
    ]
    assert lines[-2:] == [f"runs: {three}/runs.csv", f"plot: {three}/runs.png"]
    assert (three / "runs.png").read_bytes()[:4] == b"\x89PNG"


def test_large_values_that_are_good(tmp_path):
    note(tmp_path, 0, 0.5, "seed=1", larger_is_better=True)
    note(tmp_path, 1, 0.75, "seed=2", larger_is_better=True)
    note(tmp_path, 2, float("nan"), "seed=3", larger_is_better=True)
    assert [run.number for run in read_runs(tmp_path)] == [1, 0, 2]


def test_earlier_runs_are_forgotten(three):
    forget_runs(three)
    assert report_runs(three) == []
    note(three, 0, 0.5, "seed=1")
    assert find_varying_keys(read_runs(three)) == ["run", "seed"]  # of one run all that it was given


def test_a_run_that_ends_while_the_table_is_drawn(three, monkeypatch, capsys):
    """Tasks of an array end at the same time: the table of the one that writes last has all of them."""

    def draw(runs, path):
        if len(runs) == 3:  # meanwhile another task ends, and is done with its own table
            note(three, 3, float("nan"), "seed=4", "lr=0.1")
        return [path]

    monkeypatch.setattr("nequip_like.report.sweeps.plot.plot_runs", draw)
    assert [run.number for run in report_runs(three)] == [1, 0, 2, 3]
    with (three / "runs.csv").open(newline="") as file:
        assert [row["run"] for row in csv.DictReader(file)] == ["1", "0", "2", "3"]
    assert f"plot: {three}/runs.png" in capsys.readouterr().out
