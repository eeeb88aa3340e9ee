"""What a new run does with the files of an earlier one in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from nequip_like.errors import OutputError
from nequip_like.workflow.run_folder.earlier_run import (
    check_config_is_ours,
    check_source_stays,
    format_config_head,
    move_earlier,
)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_files_of_a_run_are_moved_and_others_stay(tmp_path):
    run = ("checkpoints/last.ckpt", "model.safetensors", "metrics.csv", "training.pdf", "config.yaml", "metrics.json")
    own = ("training.xyz", "data/metrics.csv", ".hydra/config.yaml", ".running-host-1-ab", "train.log")
    fill(tmp_path, *run, *own)
    assert move_earlier(tmp_path) == tmp_path / "earlier-run"
    assert files(tmp_path) == {*own, *(f"earlier-run/{name}" for name in run)}
    assert move_earlier(tmp_path) is None
    fill(tmp_path, "model.safetensors")
    assert move_earlier(tmp_path) == tmp_path / "earlier-run-2"


def test_where_nothing_was_trained_nothing_is_moved(tmp_path):
    fill(tmp_path, "metrics.json", "parity.png", "predictions.extxyz", "config.yaml")
    assert move_earlier(tmp_path) is None
    assert files(tmp_path) == {"metrics.json", "parity.png", "predictions.extxyz", "config.yaml"}


def test_a_config_of_the_user_is_refused(tmp_path):
    check_config_is_ours(tmp_path)
    (tmp_path / "config.yaml").write_text(format_config_head("python 3.11.7, torch 2.13", "seed=1") + "seed: 1\n")
    check_config_is_ours(tmp_path)
    (tmp_path / "config.yaml").write_text("defaults: [train, _self_]\n")
    with pytest.raises(OutputError, match=f"^{tmp_path}/config.yaml would be written over"):
        check_config_is_ours(tmp_path)


@pytest.mark.parametrize("source", [".", "model.safetensors", "checkpoints/best.ckpt"])
def test_a_source_that_would_be_moved_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=f"^finetune.source={source} is of the run in {tmp_path}, whose files"):
        check_source_stays(tmp_path, source)


def test_any_other_source_stays(tmp_path):
    for source in ("earlier-run/model.safetensors", "start.safetensors", "checkpoints-of-old/best.ckpt"):
        check_source_stays(tmp_path, tmp_path / source)
