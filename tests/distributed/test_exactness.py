"""Two and three processes do what one does with their frames together: every gradient, every number, every decision."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.distributed.cases import CASES
from tests.distributed.worker import LIMIT, WORLDS

# Of a clock or of this machine, not of the training.
OWN = ("time", "per_second", "memory")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * LIMIT + 120)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_labelled: Any) -> Path:
    """What all cases left, of each number of processes: the processes are started once for all of them."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("cases")
    write_labelled(data / "data.xyz", frames=25)
    write_labelled(data / "replay.xyz", frames=8, seed=1)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PL_", "HYDRA"))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.distributed.worker", str(data), str(folder)],
        cwd=Path(__file__).parents[2],
        env=own | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=len(WORLDS) * LIMIT + 60,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"[-6000:]
    return folder


def load(folder: Path, world: int, case: str) -> list[dict[str, Any]]:
    """What each process left."""
    return [torch.load(folder / str(world) / case / f"{rank}.pt", weights_only=False) for rank in range(world)]


def read_columns(folder: Path, world: int, case: str) -> dict[str, list[float]]:
    """Columns of metrics.csv without their gaps."""
    with (folder / str(world) / case / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {
        name: [float(row[name]) for row in rows if row[name]]
        for name in rows[0]
        if not any(word in name for word in OWN)
    }


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize("case", CASES)
def test_gradients(folder, case, world):
    """To 1e-12 of the largest component of each step; those that one process does not have, none has."""
    (single,) = load(folder, 1, case)
    for process in load(folder, world, case):
        assert len(process["gradients"]) == len(single["gradients"]) > 3
        for own, expected in zip(process["gradients"], single["gradients"], strict=True):
            assert own.keys() == expected.keys()
            scale = max(float(gradient.abs().max()) for gradient in expected.values())
            assert scale > 1e-4
            for name, gradient in expected.items():
                assert float((own[name] - gradient).abs().max()) <= 1e-12 * scale, name


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize("case", CASES)
def test_logged_numbers(folder, case, world):
    single, several = (read_columns(folder, number, case) for number in (1, world))
    assert single.keys() == several.keys()
    assert {"train_loss_epoch/weighted_sum", "val0_epoch/weighted_sum", "val1_epoch/weighted_sum"} <= single.keys()
    assert any(name.startswith("test0_epoch") for name in single)
    for name, values in single.items():
        assert several[name] == pytest.approx(values, rel=1e-10, abs=1e-14, nan_ok=True), name


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize("case", CASES)
def test_every_frame_is_taken_once(folder, case, world):
    """The frames of a step, of all processes together, are those of one process; the parts differ by one at most."""
    (single,), several = load(folder, 1, case), load(folder, world, case)
    parts = list(zip(*(process["frames"] for process in several), strict=True))
    assert [[frame for part in step for frame in part] for step in parts] == single["frames"]
    assert all(max(map(len, step)) - min(map(len, step)) <= 1 for step in parts)
    assert case.startswith("sampling") or any(not part for step in parts for part in step)


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize("case", CASES)
def test_processes_decide_alike(folder, case, world):
    """Weights, rates, best checkpoints, early stopping, scores: to the last bit among processes, and those of one."""
    (single,), several = load(folder, 1, case), load(folder, world, case)
    for process in several:
        own, first = process["decided"], several[0]["decided"]
        assert all(torch.equal(own["weights"][name], first["weights"][name]) for name in first["weights"])
        assert {**own, "weights": 0} == {**first, "weights": 0}
    expected, found = single["decided"], several[0]["decided"]
    assert found["epochs"] == expected["epochs"]
    assert found["steps"] == expected["steps"]
    assert [name for name, _ in found["best"]] == [name for name, _ in expected["best"]]
    assert [score for _, score in found["best"]] == pytest.approx([score for _, score in expected["best"]], rel=1e-10)
    assert [count for count, _ in found["waited"]] == [count for count, _ in expected["waited"]]
    assert found["rates"] == pytest.approx(expected["rates"], rel=1e-14)
    assert found["scores"] == pytest.approx(expected["scores"], rel=1e-10)
    assert found["coefficients"] == pytest.approx(expected["coefficients"], rel=1e-10)
    for name, weight in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize("case", CASES)
def test_files(folder, case, world):
    """One process writes: the same files, and the same errors of the test in metrics.json."""
    places = [folder / str(number) / case / "run" for number in (1, world)]
    names = [{path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()} for place in places]
    assert names[0] == names[1]
    tests = [json.loads((place / "metrics.json").read_text()) for place in places]
    assert flatten(tests[1]) == pytest.approx(flatten(tests[0]), rel=1e-9, nan_ok=True)


def flatten(value: Any, key: str = "") -> dict[str, float]:
    """Numbers of nested mappings by their whole key."""
    if isinstance(value, dict):
        return {n: v for name, entry in value.items() for n, v in flatten(entry, f"{key}/{name}").items()}
    return {key: float(value)} if isinstance(value, int | float) else {}


@pytest.mark.parametrize("world", WORLDS[1:])
def test_another_number_of_processes_goes_on(folder, world):
    """One process stopped within an epoch, and two went on; two stopped, three went on: nothing is lost or repeated."""
    first = next(iter(CASES))
    whole, resumed = read_columns(folder, 1, first), read_columns(folder, world, "resumed")
    assert whole.keys() == resumed.keys()
    for name, values in whole.items():
        assert resumed[name] == pytest.approx(values, rel=1e-10, abs=1e-14, nan_ok=True), name
    (single,), several = load(folder, 1, first), load(folder, world, "resumed")
    assert len(several[0]["gradients"]) == 2  # of six
    for name, weight in single["decided"]["weights"].items():
        torch.testing.assert_close(several[0]["decided"]["weights"][name], weight, rtol=1e-12, atol=1e-12, msg=name)


def test_the_decisions_are_taken(folder):
    """The case of them stops early, after the rate came down, so that it cannot pass by doing nothing."""
    (single,) = load(folder, 1, "average, plateau, early stopping, best")
    assert single["decided"]["epochs"] < 8
    assert single["decided"]["rates"][0] < 1e-4
    assert len(single["decided"]["best"]) == 2
    (drawn,) = load(folder, 1, "sampling by errors")
    assert len(set(drawn["decided"]["scores"])) > 5
