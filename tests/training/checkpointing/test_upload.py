"""Checkpoints are handed to a function of the user's, whole, and its failures do not end the training."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.training.checkpointing.upload import RemoteStorageSync, hand_over
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.train import train

seen: list[tuple[str, int, str]] = []


def upload(path: Path, bucket: str = "none") -> None:
    """What a user would write; looks into each file."""
    steps = -1 if path.suffix == ".json" else int(torch.load(path, weights_only=True)["global_step"])
    seen.append((path.name, steps, bucket))


def refuse(path: Path) -> None:
    """An upload that fails."""
    raise OSError("no route to\nhost")


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


def hook(function: str, *settings: str) -> str:
    node = ",".join([f"_target_:{__name__}.{function}", *settings])
    return f"+callbacks.upload={{_target_:nequip_like.training.checkpointing.upload.RemoteStorageSync,sync:{{{node}}}}}"


def test_each_whole_checkpoint_is_handed_over(compose: Any) -> None:
    train(compose("run=[train]", "trusted_packages=[tests]", hook("upload", "bucket:mine")))
    assert [entry for entry in seen if entry[0] == "last.ckpt"] == [("last.ckpt", 3, "mine"), ("last.ckpt", 6, "mine")]
    assert ("best.ckpt", 3, "mine") in seen
    assert {name for name, _, _ in seen} == {"best.ckpt", "last.ckpt"}


def test_several_best_are_handed_over_with_their_order(compose: Any) -> None:
    two = "callbacks.best_checkpoint.save_top_k=2"
    train(compose("run=[train]", "trusted_packages=[tests]", hook("upload"), two))
    assert {name for name, _, _ in seen} == {
        *("best.ckpt", "best.json", "last.ckpt"),
        *("best-epoch0-step3.ckpt", "best-epoch1-step6.ckpt"),
    }


def test_failure_is_told_and_training_goes_on(compose: Any, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="sync of") as warned:
        result = train(compose("run=[train]", "trusted_packages=[tests]", hook("refuse")))
    told = [str(warning.message) for warning in warned if "sync of" in str(warning.message)]
    assert f"sync of {tmp_path}/run/checkpoints/best.ckpt failed (1 so far): OSError: no route to host" in told[0]
    assert len(told) >= 3
    assert all("\n" not in line and line.endswith("training goes on") for line in told)
    assert result.model_file is not None


def test_futures_are_waited_for_at_the_end(tmp_path: Path) -> None:
    done: list[Path] = []
    with ThreadPoolExecutor(1) as pool:
        gate: Future[None] = Future()

        def slow(path: Path) -> Future[None]:
            return pool.submit(lambda: (gate.result(), done.append(path))[1])

        sync = RemoteStorageSync(slow)
        sync.saved(tmp_path / "a")
        sync.saved(tmp_path / "b")
        assert done == []
        gate.set_result(None)
        sync.finish()
    assert done == [tmp_path / "a", tmp_path / "b"]


def test_futures_that_fail_are_told(tmp_path: Path) -> None:
    """At the next file if they are over by then, else at the end; also those that were cancelled."""
    futures: list[Future[None]] = [Future(), Future()]
    waiting = iter(futures)
    sync = RemoteStorageSync(lambda path: next(waiting))
    sync.saved("a.ckpt")
    futures[0].set_exception(TimeoutError("too slow"))
    with pytest.warns(UserWarning, match=r"sync of a\.ckpt failed \(1 so far\): TimeoutError: too slow"):
        sync.saved("b.ckpt")
    futures[1].cancel()
    with pytest.warns(UserWarning, match=r"sync of b\.ckpt failed \(2 so far\): CancelledError"):
        sync.finish()
    sync.finish()


def test_only_the_first_process_hands_over() -> None:
    found: list[Path] = []
    callbacks = [RemoteStorageSync(found.append)]
    hand_over(SimpleNamespace(is_global_zero=False, callbacks=callbacks), "a")  # type: ignore[arg-type]
    assert found == []
    hand_over(SimpleNamespace(is_global_zero=True, callbacks=callbacks), "a", "b")  # type: ignore[arg-type]
    assert found == [Path("a"), Path("b")]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (hook("upload"), r"callbacks\.upload\.sync\._target_ is .* in no trusted package"),
        (hook("uploads"), r"has no 'uploads'"),
        (hook("upload", "backet:x"), r"callbacks\.upload\.sync\.backet: upload takes no 'backet'"),
        (hook("upload", "bucket:3"), r"callbacks\.upload\.sync\.bucket is 3"),
        (hook("upload").replace("sync:", "function:"), r"callbacks\.upload"),
        (
            "+callbacks.upload={_target_:nequip_like.training.checkpointing.upload.RemoteStorageSync,sync:upload}",
            "sync",
        ),
    ],
)
def test_the_config_check_knows_the_hook(override: str, message: str, compose: Any) -> None:
    trust = () if "no trusted" in message else ("trusted_packages=[tests]",)
    with pytest.raises(ConfigError, match=message):
        check_config(compose(override, *trust))
    check_config(compose(hook("upload", "bucket:x"), "trusted_packages=[tests]"))
