"""The benchmark on a GPU: its plan, budget, failures and table, and one cell on the CPU. No GPU is used."""

import json
import os
import subprocess
import sys
import time

import pytest

FAKE = """
import sys
sys.path.insert(0, {folder!r})
{body}
"""
SERVES = "import workers\nworkers.serve(lambda: 2.0, {'atoms': 54, 'edges': 9}, peak=lambda: 7.0)"
FAILS = "import warnings; warnings.warn('noise')\nraise ValueError('no such kernel')"
SLEEPS = "import time; time.sleep(60)"
WITHOUT_VENV = """#!/bin/sh
if [ "$2" = venv ]; then echo "Error: no ensurepip" >&2; exit 1; fi
exec {python} "$@"
"""


@pytest.fixture
def gpu(load):
    return load("gpu")


@pytest.fixture
def bench(gpu, tmp_path):
    """A bench on the CPU that has a minute; this Python has every module."""
    options = gpu.parse(["--device", "cpu", "--dry-run", "--json", str(tmp_path / "gpu.json"), "--threads", "1"])
    environment = (sys.executable, {"modules": list(gpu_modules(gpu))})
    bench = gpu.Bench(options, tmp_path, time.time() + 60, {"ours": environment, "nequip": environment})
    bench.frames = lambda: tmp_path / "frames.xyz"
    return bench


def gpu_modules(gpu):
    return sys.modules["gpu_machine"].MODULES


def fake_workers(monkeypatch, tmp_path, load, body):
    """Training workers do this instead."""
    workers = load("workers")
    (tmp_path / "train_worker.py").write_text(FAKE.format(folder=str(workers.FOLDER), body=body))
    monkeypatch.setattr(workers, "FOLDER", tmp_path)


def train(gpu, code="ours batched", **rest):
    return gpu.Cell("train", code, "l1", 2, **rest)


# --- the plan


def test_plan_has_everything_once_and_the_tests_of_the_kernels_first(load):
    cells = load("gpu_cells")
    plan = cells.plan()
    assert len(plan) == len(set(plan))
    assert [cell.code for cell in plan[:2]] == ["tests/nn/test_triton.py", "tests/nn/test_cue.py"]
    sizes = {cell.place for cell in plan}
    assert {("train", case, batch) for case in ("l1", "l2", "l3") for batch in (5, 64, 256)} <= sizes
    assert {("md", case, atoms // 3) for case in ("l1", "l2", "l3") for atoms in (192, 9999)} <= sizes
    for precision in ("float32", "tf32", "bf16"):
        assert any(cell.precision == precision and cell.is_ours for cell in plan)
    # A kernel is compared with our batched one, and NequIP reads its weights: that one comes before the others.
    for index, cell in enumerate(plan):
        if cell.size:
            assert cells.Cell(cell.kind, "ours batched", cell.case, cell.size) in plan[: index + 1]


def test_options(gpu, tmp_path, capsys):
    options = gpu.parse([])
    assert (options.device, options.minutes, options.batches) == ("cuda", 8.0, (64, 5, 256))
    options = gpu.parse(["--dry-run", "--device", "cpu", "--batches", "3", "--minutes", "0.5"])
    assert (options.cases, options.batches, options.waters) == (("l1",), [3], (8,))
    for wrong in (["--water", str(tmp_path / "none.xyz")], ["--peer", "mace=/bin/sh"], ["--cases", "l9"]):
        with pytest.raises(SystemExit):
            gpu.parse(wrong)
    assert "there is no file" in capsys.readouterr().err


# --- the budget


def test_a_cell_without_time_is_skipped(gpu, bench, monkeypatch):
    bench.deadline = time.time() + 5
    monkeypatch.setattr(gpu.Bench, "run_worker", None)  # must not be called
    assert bench.row(train(gpu)) == {"status": "skipped", "why": "out of time"}


@pytest.mark.parametrize(("left", "seconds"), [(1000, 60), (30, 30)])
def test_a_cell_gets_its_limit_or_what_is_left(gpu, bench, monkeypatch, left, seconds):
    given = []
    monkeypatch.setattr(gpu.Bench, "run_worker", lambda self, cell, python, seconds: given.append(seconds) or {})
    bench.deadline = time.time() + left + gpu.RESERVE
    bench.row(train(gpu))
    assert given == [pytest.approx(seconds, abs=1)]


def test_stopped_by_the_budget_is_no_failure_and_by_its_limit_is(gpu, bench, load, monkeypatch, tmp_path):
    fake_workers(monkeypatch, tmp_path, load, SLEEPS)
    bench.deadline = time.time() + gpu.RESERVE + 1.5
    assert bench.row(train(gpu)) == {"status": "skipped", "why": "out of time"}
    bench.deadline = time.time() + 100
    monkeypatch.setattr(sys.modules["gpu_cells"], "LIMIT", 0.5)
    assert bench.row(train(gpu)) == {"status": "failed", "why": "not done within 0.5 s"}


# --- cells


def test_a_cell_is_measured(gpu, bench, load, monkeypatch, tmp_path):
    fake_workers(monkeypatch, tmp_path, load, SERVES)
    row = bench.row(train(gpu))
    assert {key: row[key] for key in ("status", "value", "atoms", "edges", "peak_mb", "steps")} == {
        **{"status": "measured", "value": 2.0, "atoms": 54, "edges": 9, "peak_mb": 7.0, "steps": 50}
    }
    assert 0 <= row["ms_min"] <= row["ms"] <= row["ms_max"]


def test_a_failure_is_recorded_with_its_last_error_line(gpu, bench, load, monkeypatch, tmp_path):
    fake_workers(monkeypatch, tmp_path, load, FAILS)
    assert bench.row(train(gpu)) == {"status": "failed", "why": "ValueError: no such kernel"}


def test_what_is_not_installed_is_skipped(gpu, bench):
    bench.environments["nequip"] = (sys.executable, {"modules": ["nequip"]})
    row = bench.row(train(gpu, "nequip_oeq"))
    assert row == {"status": "skipped", "why": "openequivariance is not installed"}
    assert bench.row(train(gpu, "ours triton")) == {"status": "skipped", "why": "runs on a GPU only"}


@pytest.mark.parametrize(
    ("code", "precision", "status"),
    [("ours triton", "float32", "failed"), ("ours triton", "tf32", None), ("nequip", "float32", None)],
)
def test_other_numbers_are_a_failure_of_ours_in_float32(gpu, bench, code, precision, status):
    bench.rows[train(gpu)] = {"value": 2.0}
    agreement = bench.agreement(train(gpu, code, precision=precision), 2.001)
    assert agreement["difference"] == pytest.approx(5e-4)
    assert agreement.get("status") == status
    assert "status" not in bench.agreement(train(gpu, code), 2.00001)
    assert bench.agreement(train(gpu), 2.0) == {}
    assert bench.agreement(train(gpu, code), float("nan")).get("status") == ("failed" if "ours" in code else None)


@pytest.mark.parametrize(
    ("rows", "failed"),
    [
        ({"ours batched": "measured", "nequip": "failed"}, False),
        ({"ours batched": "measured", "ours triton": "failed"}, True),
        ({"ours batched": "measured", "ours triton": "skipped"}, False),
        ({"ours batched": "skipped", "nequip": "measured"}, True),
    ],
)
def test_exit_status(gpu, rows, failed):
    cells = {train(gpu, code): {"status": status, "why": "out of time"} for code, status in rows.items()}
    assert gpu.has_failed(cells, "cuda") == failed


def test_a_kernel_that_could_not_be_installed_is_a_failure_on_a_gpu(gpu):
    missing = {"status": "skipped", "why": "triton is not installed"}
    rows = {train(gpu): {"status": "measured"}, train(gpu, "ours triton"): missing}
    assert [gpu.has_failed(rows, device) for device in ("cuda", "cpu")] == [True, False]


# --- what is written


def test_errors_of_libraries(load):
    last = load("gpu_machine").last_error_line
    assert last("Traceback\ntorch.OutOfMemoryError: no\n  -> advice\n") == "torch.OutOfMemoryError: no"
    assert (last("a\nb\n\n"), last("")) == ("b", "no message")


def test_table(load):
    cell = {"kind": "train", "case": "l1", "size": 64, "precision": "float32"}
    times = {"status": "measured", "ms": 2.0, "ms_min": 1.5, "ms_max": 2.25, "first_s": 8.0, "peak_mb": 512.0}
    result = {
        **{"card": "NVIDIA H100", "cuda": "13.0", "driver": None, "used_s": 470.0},
        "install": [{"name": "openequivariance", "status": "failed", "seconds": "3", "why": "ERROR: no compiler"}],
        "cells": [
            {**cell, "code": "ours triton", **times, "difference": 1.5e-7},
            {**cell, "code": "nequip", **times, "ms": 9.0},
            {**cell, "kind": "md", "code": "ours batched", "status": "skipped", "why": "out of time"},
        ],
    }
    lines = load("gpu_table").table(result).splitlines()
    assert lines[0] == "# NVIDIA H100"
    assert "- cuda: 13.0" in lines
    assert "- install openequivariance: failed in 3 s: ERROR: no compiler" in lines
    assert lines[-3:] == [
        "| train | l1 | 64 frames | float32 | ours triton | 2 (1.5 to 2.25) | 4.5 | 8 | 512 | 1.5e-07 | measured |",
        "| train | l1 | 64 frames | float32 | nequip | 9 (1.5 to 2.25) | 1 | 8 | 512 |  | measured |",
        "| md | l1 | 192 atoms | float32 | ours batched |  |  |  |  |  | skipped: out of time |",
    ]


@pytest.mark.slow
def test_one_cell_on_the_cpu(gpu, monkeypatch, tmp_path):
    """The whole way, with droplets of water that are made up, to the JSON file and the table."""
    skipped = gpu.Cell("md", "nequip_cueq_compiled", "l1", 8)
    monkeypatch.setattr(gpu.gpu_cells, "plan", lambda *_: [train(gpu), skipped])
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    path = tmp_path / "out.json"
    assert gpu.main(["--device", "cpu", "--dry-run", "--json", str(path), "--threads", "1"]) == 0
    result = json.loads(path.read_text())
    row, other = result["cells"]
    assert (row["status"], row["code"], row["atoms"], row["parameters"]) == ("measured", "ours batched", 54, 297120)
    assert row["ms"] > 0
    assert (other["status"], other["why"].endswith("is not installed")) == ("skipped", True)
    assert result["card"] in path.with_suffix(".md").read_text()


@pytest.mark.slow
def test_script_says_what_it_could_not_install(load, tmp_path):
    """On a machine without venv and GPU there still is a result, and the exit status is that of a failure."""
    stub = tmp_path / "python"
    stub.write_text(WITHOUT_VENV.format(python=sys.executable))
    stub.chmod(0o755)
    script = load("workers").FOLDER / "gpu.sh"
    environment = {**os.environ, "PYTHON": str(stub), "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", str(script), "--minutes", "0.5", "--json", "gpu.json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    result = json.loads((tmp_path / "gpu.json").read_text())
    (row,) = result["install"]
    assert (row["name"], row["status"], row["why"]) == ("venv", "failed", "Error: no ensurepip")
    assert {row["status"] for row in result["cells"]} == {"failed"}
    assert result["why"]


@pytest.mark.slow
def test_script_runs_dry(load, tmp_path):
    script = load("workers").FOLDER / "gpu.sh"
    command = ["bash", str(script), "--dry-run", "--device", "cpu", "--threads", "1"]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())["cells"]
    measured = {(row["kind"], row["precision"]) for row in rows if row["status"] == "measured"}
    assert {("train", "float32"), ("train", "tf32"), ("train", "bf16"), ("md", "float32")} <= measured
