"""The notebook runs from its first cell to its last, and holds the pictures of such a run."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "tutorials" / "first_potential.ipynb"


def code_cells():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_cells_run_in_order(tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(ROOT / "tutorials" / "data")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "notebook"}
    before = matplotlib.get_backend()
    matplotlib.use("agg")
    try:
        for i, cell in enumerate(code_cells()):
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {i}", "exec"), names)
    finally:
        names["plt"].close("all")
        matplotlib.use(before)
    errors = {name: evaluation.metrics["forces_rmse"] for name, evaluation in names["evaluations"].items()}
    assert errors["test_300K"] < 0.25  # eV/Angstrom; forces there are 1.13
    assert errors["test_300K"] < errors["test_600K"]
    total = names["total"]
    assert len(total) == 501
    assert max(total) - min(total) < 0.1 * (max(names["potential"]) - min(names["potential"]))


def test_it_was_run_in_order_without_an_error():
    cells = code_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3


def test_links_lead_to_files():
    for link in ("README.md", "../docs/reference/configuration.md"):
        assert f"]({link})" in NOTEBOOK.read_text()
        assert (NOTEBOOK.parent / link).is_file()
