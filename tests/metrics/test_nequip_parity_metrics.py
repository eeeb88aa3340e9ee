"""The logged numbers, loss gradients and statistics of nequip 0.19.1, stored by benchmarks/nequip_parity_metrics.py.

The benchmark, which also compares the numbers of nequip itself, runs in tests/model/test_nequip_parity.py on request.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parent / "reference" / "nequip_metrics.npz"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        path = BENCHMARKS / "nequip_parity_metrics.py"
        spec = importlib.util.spec_from_file_location("nequip_parity_metrics", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.fixture(scope="module")
def rows(benchmark):
    return {row["case"]: row for row in benchmark.compare(*benchmark.load(REFERENCE))}


def test_same_numbers(benchmark, rows):
    assert len(rows) == 28
    for row in rows.values():
        assert benchmark.is_equal(row), row
    assert sum(row["values"] for row in rows.values()) > 800


def test_where_nequip_is_wrong_its_numbers_are_others(rows):
    """A row that corrects nothing is no correction."""
    corrected = {name for name, row in rows.items() if row["note"]}
    assert corrected == {
        "batch without any stress",
        "per type, batch without any forces",
        "per type, absent species",
        "stratified Huber, unsorted",
        "stratified Huber, keys as text",
        "RMSE of a perfect prediction",
        "statistics, an isolated atom",
        "statistics, some forces missing",
    }
    assert {name for name, row in rows.items() if not row["as nequip"]} == corrected


def test_comparison_sees_a_difference(benchmark):
    """Of a value, of a name, of NaN."""
    peer, batches, frames = benchmark.load(REFERENCE)
    assert benchmark.difference(1.0 + 1e-11, 1.0) > benchmark.LIMIT
    assert benchmark.difference(float("nan"), 1.0) == float("inf")
    key = "EnergyForceLoss|epoch|forces_mse"
    for changed in ({key: peer[key] * (1 + 1e-11)}, {f"{key}_more": peer[key]}):
        found = {row["case"]: row for row in benchmark.compare({**peer, **changed}, batches, frames)}
        assert not benchmark.is_equal(found["EnergyForceLoss"])
        assert benchmark.is_equal(found["EnergyForceStressLoss"])
