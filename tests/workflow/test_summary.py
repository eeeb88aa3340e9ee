"""The last words of a run: a table on a terminal, one line in a log."""

import io
from types import SimpleNamespace

from rich.console import Console

from nequip_like.workflow.printing import print_summary

EVALUATIONS = {
    "300 [K]": SimpleNamespace(metrics={"forces_mae": 0.0123, "forces_rmse": 0.02, "per_atom_energy_mae": 0.001})
}


def said(terminal, folder):
    (folder / "model.safetensors").touch()
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100, no_color=True)
    files = {"model": folder / "model.safetensors", "report": folder / "none.html"}
    print_summary(console, "val0 0.5 at epoch 3", {"val0_epoch/forces_rmse": 0.1}, EVALUATIONS, "75s", files)
    return out.getvalue()


def test_one_line_in_a_log(tmp_path):
    assert said(False, tmp_path) == (
        "result | best: val0 0.5 at epoch 3 | val0: F rmse 100 meV/A | "
        "test 300 [K]: E mae 1 meV/atom, F mae 12.3 meV/A, F rmse 20 meV/A | time: 75s | "
        f"model: {tmp_path}/model.safetensors\n"
    )


def test_a_table_on_a_terminal(tmp_path):
    text = said(True, tmp_path)
    assert "Result" in text
    assert "test 300 [K]" in text
    assert "F mae 12.3 meV/A" in text
    assert "report" not in text
