"""What a run writes down of itself: sessions, times, the best epoch; and the report that is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from nequip_like.data.io.annotations import Annotations
from nequip_like.report.page.report_file import write_report
from nequip_like.workflow.run_folder.machine import describe_machine
from nequip_like.workflow.run_folder.records import describe_labels
from nequip_like.workflow.train import train


def test_a_run_and_the_one_that_goes_on_with_it(compose: Any, capsys: pytest.CaptureFixture[str]) -> None:
    result = train(compose("run=[train,test]", "trainer.max_epochs=1", "report.html=true"))
    folder = result.folder
    first = json.loads((folder / "run.json").read_text())
    assert first["best"]["value"] == result.best
    assert first["best"]["metrics"]["val0_epoch/forces_rmse"] == result.best_metrics["val0_epoch/forces_rmse"]
    (session,) = first["sessions"]
    assert (session["steps"], session["frames"], session["epochs"]) == (3, 14, 1.0)
    assert session["seconds"] > session["training_seconds"] + session["validation_seconds"]
    assert [entry["name"] for entry in first["data"]] == ["train", "val", "test"]
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("result | "))
    metrics = json.loads((folder / "metrics.json").read_text())["test"]
    assert f"test test: E mae {1e3 * metrics['per_atom_energy_mae']:.4g} meV/atom" in line
    assert line.endswith(f"model: {folder}/model.safetensors | report: {folder}/report.html")
    # Made anew from the files, the report is the same.
    text = (folder / "report.html").read_bytes()
    assert write_report(folder).read_bytes() == text
    assert f'title="{metrics["forces_mae"]!r} eV/Å"'.encode() in text

    train(compose("run=[train]", "trainer.max_epochs=2", "resume=auto"))
    assert "frames/s" in capsys.readouterr().out
    sessions = json.loads((folder / "run.json").read_text())["sessions"]
    assert [(entry["steps"], entry["epochs"]) for entry in sessions] == [(3, 1.0), (3, 1.0)]
    assert sessions[0] == session


def test_a_run_without_a_report(compose: Any) -> None:
    folder = train(compose("run=[train]", "trainer.max_epochs=1", "report.html=false")).folder
    assert (folder / "run.json").is_file()
    assert not (folder / "report.html").exists()


class Labelled:
    """As much of a data set as is asked for."""

    def __init__(self, annotations: list[Annotations]) -> None:
        self.annotations = annotations

    def __len__(self) -> int:
        return len(self.annotations)


def test_levels_of_theory() -> None:
    frames = [Annotations({"level_of_theory": "PBE", "licence": "CC0", "other": 1})] * 2
    frames += [Annotations({"level_of_theory": "r2SCAN", "licence": "CC0"})]
    assert describe_labels(Labelled(frames)) == {
        "level_of_theory": "PBE (2 of 3 frames)\nr2SCAN (1 of 3 frames)",
        "licence": "CC0",
    }


def test_the_machine_has_no_name() -> None:
    import platform

    facts = describe_machine(torch.device("cpu"), processes=2)
    assert {"system", "processor", "cores", "device", "processes"} <= set(facts)
    assert facts["processes"] == "2"
    if len(platform.node()) > 3:
        assert platform.node() not in " ".join(facts.values())
