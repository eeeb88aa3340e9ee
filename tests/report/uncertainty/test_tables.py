"""Tables and the plot of uncertainties, of numbers that are known."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from nequip_like.inference.uncertainty_quality import judge_uncertainty
from nequip_like.report.uncertainty.committee_table import compute_statistics, make_committee_table
from nequip_like.report.uncertainty.quality_plot import plot_uncertainty
from nequip_like.report.uncertainty.quality_table import make_quality_table


def print_table(table):
    printed = io.StringIO()
    Console(file=printed, width=80).print(table)
    return printed.getvalue()


def test_statistics_over_members():
    statistics = compute_statistics([{"a": 1.0, "b": 5.0}, {"a": 2.0}, {"a": 6.0}])
    assert statistics["a"] == {"mean": 3.0, "std": pytest.approx((14 / 3) ** 0.5), "min": 1.0, "max": 6.0, "n": 3}
    assert statistics["b"] == {"mean": 5.0, "std": 0.0, "min": 5.0, "max": 5.0, "n": 1}
    assert compute_statistics([]) == {}


def test_committee_table_fits_a_terminal():
    name = "val0_epoch/per_atom_energy_maxabserr"
    table = print_table(make_committee_table(compute_statistics([{name: 0.1}, {name: 0.3}])))
    (row,) = [line for line in table.splitlines() if name in line]
    assert "0.2000 ± 0.1000" in row
    assert row.rstrip(" │").endswith("2")


@pytest.fixture
def evaluation():
    errors, spreads = np.array([0.001, -0.004, 0.0005]), np.array([0.001, 0.002, 0.001])
    quality = judge_uncertainty("per_atom_energy", errors, spreads)
    return SimpleNamespace(uncertainty={"per_atom_energy": quality})


def test_quality_table(evaluation):
    printed = print_table(make_quality_table("hot", evaluation))
    assert "hot: uncertainty" in printed
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in printed.splitlines() if "│" in line}
    assert rows["errors within the claimed 50 %"] == "33.3 %"
    assert rows["errors within the claimed 90 %"] == rows["errors within the claimed 95 %"] == "66.7 %"
    assert rows["sharpness"] == "1.414"
    assert rows["Spearman correlation with errors"] == "0.87"
    assert "meV/atom" in printed
    assert make_quality_table("hot", SimpleNamespace(uncertainty={})) is None


def test_quality_plot(tmp_path, evaluation):
    files = plot_uncertainty({"hot": evaluation}, tmp_path / "uncertainty.png", ["png", "svg"])
    assert [file.name for file in files] == ["uncertainty.png", "uncertainty.svg"]
    text = files[1].read_text()
    assert text.count('id="axes_') >= 3
    assert plot_uncertainty({"cold": SimpleNamespace(uncertainty={})}, tmp_path / "none.png") == []
    assert not (tmp_path / "none.png").exists()
