"""``nequip-train --multirun`` as a user types it: one table at the end, with the numbers of the runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cli.test_output import folder, run  # noqa: F401 (a fixture)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_four_runs(folder: Path) -> None:  # noqa: F811
    """Two learning rates and two seeds; one rate is absurd, and its runs fail without keeping the others from it."""
    rates = "training_module.optimizer.lr=0.01,1e9"
    status, output, errors = run(
        *("config.yaml", "--multirun", "seed=1,2", rates, "hydra.sweep.dir=many", "trainer.max_epochs=2"),
        "training_module.on_divergence=ignore",
    )
    assert status == 2, output + errors
    assert errors.count("error: ") == 2
    assert output.count("duplicates") == 1  # the table of the data
    assert output.count("data: the same as those of a run before") == 3
    table = rows(folder / "many" / "runs.csv")
    assert [row["run"] for row in table][2:] == ["1", "3"]
    assert {row["run"] for row in table[:2]} == {"0", "2"}
    best = []
    for row in table[:2]:
        one = folder / "many" / row["run"]
        assert (row["status"], row["folder"]) == ("done", str(one))
        assert float(row["training_module.optimizer.lr"]) == 0.01
        assert row["seed"] == {"0": "1", "2": "2"}[row["run"]]
        logged = [line for line in rows(one / "metrics.csv") if line["val0_epoch/weighted_sum"]]
        values = [float(line["val0_epoch/weighted_sum"]) for line in logged]
        assert float(row["best"]) == min(values)
        assert int(row["epoch"]) == values.index(min(values))
        assert float(row["val0_epoch/forces_rmse"]) == float(
            logged[values.index(min(values))]["val0_epoch/forces_rmse"]
        )
        best.append(min(values))
    assert best == sorted(best)
    assert all(row["status"].startswith("failed: epoch 0, step ") and row["best"] == "" for row in table[2:])
    assert output.rstrip().endswith(f"runs: {folder}/many/runs.csv\nplot: {folder}/many/runs.png")
    assert "Runs by val0_epoch/weighted_sum" in output


@pytest.mark.slow
def test_other_data_are_told(folder: Path) -> None:  # noqa: F811
    """Without training the present value counts, and test errors are in the file."""
    status, output, errors = run(
        "config.yaml", "data.val=5,6", "data.test=4", "run=[val,test]", "-m", "hydra.sweep.dir=many"
    )
    assert status == 0, output + errors
    assert output.count("duplicates") == 2
    assert "the same as those of a run before" not in output
    for row in rows(folder / "many" / "runs.csv"):
        one = folder / "many" / row["run"]
        (logged,) = [line for line in rows(one / "metrics.csv") if line.get("val0_epoch/weighted_sum")]
        assert float(row["best"]) == float(logged["val0_epoch/weighted_sum"])
        written = json.loads((one / "metrics.json").read_text())["test"]["forces_rmse"]
        assert float(row["test0_epoch/forces_rmse"]) == pytest.approx(written, rel=1e-9)


@pytest.mark.slow
def test_by_several_commands(folder: Path) -> None:  # noqa: F811
    """Each command does one run, as the tasks of an array do, and notes it beside the others."""

    def here(number: int, *changes: str) -> tuple[int, str, str]:
        place = f"hydra.run.dir=many/{number}"
        return run("config.yaml", "--one-of-several", place, "trainer.max_epochs=1", *changes)

    status, output, errors = here(0, "seed=1")
    assert status == 0, output + errors
    status, output, errors = here(
        1, "seed=2", "training_module.optimizer.lr=1e9", "training_module.on_divergence=ignore"
    )
    assert status == 2
    assert errors.count("error: ") == 1
    first, second = rows(folder / "many" / "runs.csv")
    assert (first["run"], first["seed"], first["status"]) == ("0", "1", "done")
    assert first["folder"] == str(folder / "many" / "0")
    assert (second["run"], second["seed"], second["best"]) == ("1", "2", "")
    assert second["status"].startswith("failed: epoch 0, step ")
    assert "Runs by val0_epoch/weighted_sum" in output
    assert output.rstrip().endswith(f"plot: {folder}/many/runs.png")
    # Done again, its line is written over; the other command's stays.
    status, output, errors = here(1, "seed=2")
    assert status == 0, output + errors
    assert [row["status"] for row in rows(folder / "many" / "runs.csv")] == ["done", "done"]


def test_one_of_several_is_named_by_its_number(folder: Path) -> None:  # noqa: F811
    status, _, errors = run("config.yaml", "--one-of-several", "hydra.run.dir=many/first")
    assert status == 2
    assert errors.startswith("error: the folder of a run with --one-of-several is named by its number, but this is ")
    status, _, errors = run("config.yaml", "--one-of-several", "-m", "seed=1,2")
    assert status == 2
    assert errors.startswith("error: --multirun notes its runs by itself\n  -> leave out --one-of-several")
