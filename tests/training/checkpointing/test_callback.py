"""Checkpoints that cannot be written: an error or a warning, and the one before stays."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from nequip_like.errors import ConfigError, ModelFileError, OutputError
from nequip_like.training.checkpointing.callback import ResumableCheckpoint
from nequip_like.training.checkpointing.io import WholeFileCheckpointIO
from nequip_like.workflow.train import train


@pytest.fixture
def full_disk() -> Iterator[Any]:
    """Call it to let every file end at so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def no_rights() -> Iterator[Any]:
    """Call it to forbid writing into a folder, to the administrator as well."""
    folders: list[Path] = []
    header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None)
    libc.capget(header, rights)
    before = rights[0]

    def forbid(folder: Path) -> None:
        folders.append(folder)
        folder.chmod(0o500)
        rights[0] = before & ~0b110  # without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
        libc.capset(header, rights)

    yield forbid
    rights[0] = before
    libc.capset(header, rights)
    for folder in folders:
        folder.chmod(0o700)


# --- the file


def test_written_and_read(tmp_path: Path) -> None:
    files = WholeFileCheckpointIO()
    path = tmp_path / "a" / "x.ckpt"
    own = {"format_version": 2, "potential": {}}
    files.save_checkpoint({"state_dict": {"w": torch.ones(3)}, "nequip_like": own}, path)
    assert torch.equal(files.load_checkpoint(path)["state_dict"]["w"], torch.ones(3))
    assert os.listdir(path.parent) == ["x.ckpt"]
    files.remove_checkpoint(path)
    files.remove_checkpoint(path)
    assert not path.exists()
    with pytest.raises(ModelFileError, match="there is no checkpoint"):
        files.load_checkpoint(path)


def test_disk_that_is_full(tmp_path: Path, full_disk: Any) -> None:
    files = WholeFileCheckpointIO()
    path = tmp_path / "x.ckpt"
    path.write_text("old")
    full_disk(10_000)
    with pytest.raises(OutputError, match=r"cannot write .*x\.ckpt: File too large"):
        files.save_checkpoint({"w": torch.ones(10_000)}, path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.ckpt"]


def test_folder_that_is_read_only(tmp_path: Path, no_rights: Any) -> None:
    (tmp_path / "x.ckpt").write_text("old")
    no_rights(tmp_path)
    with pytest.raises(OutputError, match=r"cannot write .*x\.ckpt: Permission denied"):
        WholeFileCheckpointIO().save_checkpoint({"w": torch.ones(1)}, tmp_path / "x.ckpt")
    assert (tmp_path / "x.ckpt").read_text() == "old"


# --- the run


def run(compose: Any, folder: Path, *overrides: str) -> Any:
    return train(compose("run=[train]", "resume=auto", f"output_dir={folder}", "trainer.max_epochs=4", *overrides))


@pytest.fixture
def begun(compose: Any, tmp_path: Path) -> Path:
    """A run of two epochs, to go on with."""
    return run(compose, tmp_path / "run", "trainer.max_epochs=2").folder


def checkpoints(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "checkpoints").iterdir()}


def test_full_disk_stops_the_run(begun: Path, compose: Any, full_disk: Any) -> None:
    before = checkpoints(begun)
    full_disk(20_000)
    with pytest.raises(OutputError, match=r"cannot write .*\.ckpt: File too large") as caught:
        run(compose, begun)
    assert caught.value.advice == "look at the folder and its free space"
    assert checkpoints(begun) == before


def test_full_disk_and_training_goes_on(begun: Path, compose: Any, full_disk: Any) -> None:
    before = checkpoints(begun)
    full_disk(20_000)
    goes_on = [f"callbacks.{name}_checkpoint.on_failed_save=warn" for name in ("best", "last")]
    with (
        pytest.warns(UserWarning, match=r"(best|last)\.ckpt: File too large; training goes on without this") as warned,
        pytest.raises(OutputError, match=r"training\.png"),  # after training; the drawing does not fit either
    ):
        run(compose, begun, "report.format=png", *goes_on)
    assert len([warning for warning in warned if "last.ckpt" in str(warning.message)]) == 2  # two epochs
    assert checkpoints(begun) == before


def test_best_that_was_not_written_is_not_the_best(begun: Path, compose: Any, monkeypatch: Any) -> None:
    """A better epoch whose checkpoint failed: file and memory of the best agree, and the next one is written."""
    save = WholeFileCheckpointIO.save_checkpoint
    failed: list[str] = []

    def fails_once(self: Any, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        if Path(path).name == "best.ckpt" and not failed:
            failed.append(str(path))
            raise OutputError(f"cannot write {path}: disk full")
        save(self, checkpoint, path, storage_options)

    monkeypatch.setattr(WholeFileCheckpointIO, "save_checkpoint", fails_once)
    with pytest.warns(UserWarning, match=r"best\.ckpt: disk full; training goes on"):
        result = run(compose, begun, "callbacks.best_checkpoint.on_failed_save=warn")
    assert len(failed) == 1
    state = torch.load(begun / "checkpoints" / "last.ckpt", weights_only=True)
    best = torch.load(result.best_checkpoint, weights_only=True)
    remembered = next(
        value for name, value in state["callbacks"].items() if "val0_epoch" in name and "best_k" in str(value)
    )
    assert best["nequip_like"]["metrics"]["val0_epoch/weighted_sum"] == float(remembered["best_model_score"])
    assert best["epoch"] == 3


def test_read_only_folder_stops_the_run(begun: Path, compose: Any, no_rights: Any) -> None:
    before = checkpoints(begun)
    no_rights(begun / "checkpoints")
    with pytest.raises(OutputError, match=r"cannot write .*\.ckpt: Permission denied"):
        run(compose, begun)
    assert checkpoints(begun) == before


def test_lightning_is_asked_at_batches_only_where_these_matter(monkeypatch: Any) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(ModelCheckpoint, "on_train_batch_end", lambda self, *_: asked.append(self.filename))
    by_epochs = ResumableCheckpoint(filename="epochs", every_n_epochs=1)
    by_updates = ResumableCheckpoint(filename="updates", every_n_updates=2)
    by_minutes = ResumableCheckpoint(filename="minutes", every_n_minutes=5.0)
    trainer = SimpleNamespace(should_stop=False)
    for callback in (by_epochs, by_updates, by_minutes):
        callback.on_train_batch_end(trainer)  # type: ignore[arg-type]
    assert asked == ["updates", "minutes"]


def test_what_to_do_when_a_save_fails_is_checked() -> None:
    with pytest.raises(ConfigError, match="on_failed_save of a checkpoint is 'ignore'"):
        ResumableCheckpoint(on_failed_save="ignore")  # type: ignore[arg-type]
