"""Checkpoints that wait in memory: what is in the files while a run goes on, and after each way in which it can end."""

from __future__ import annotations

import os
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from nequip_like.errors import OutputError
from nequip_like.training.checkpointing import waiting as module
from nequip_like.training.checkpointing.callback import ResumableCheckpoint
from nequip_like.training.checkpointing.io import WholeFileCheckpointIO, find_waiting
from nequip_like.training.checkpointing.upload import RemoteStorageSync, takes_files
from nequip_like.training.checkpointing.waiting import WaitingCheckpoints, copy_state
from nequip_like.training.loggers.wandb_run import WandbRunLogger
from nequip_like.workflow.run_folder import held_folder
from nequip_like.workflow.setup import build_trainer
from nequip_like.workflow.train import train
from tests.workflow.test_resume import KillAt, content, differences, last


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Names of the files that were written, with the step of each, in order."""
    files: list[tuple[str, Any]] = []
    write = module.write_checkpoint

    def note(content: Any, path: Path) -> None:
        write(content, path)
        files.append((path.name, content["global_step"]))

    monkeypatch.setattr(module, "write_checkpoint", note)
    return files


def state(step: int) -> dict[str, Any]:
    own = {"format_version": 2, "potential": {}}
    return {"global_step": step, "state_dict": {"w": torch.full((2,), float(step))}, "nequip_like": own}


def step_of(path: Path) -> int:
    return int(content(path)["global_step"])


# --- the copy


def test_a_copy_has_all_that_is_written_and_shares_nothing_that_changes(tmp_path: Path) -> None:
    weights = torch.arange(6.0).reshape(2, 3)
    modules = OrderedDict(w=weights, t=weights.t())
    modules._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined] # as torch does it
    parameter = torch.nn.Parameter(torch.ones(2))
    state = {
        "state_dict": modules,
        "optimizer": [{"step": torch.tensor(3), "betas": (0.9, [0.999])}],
        0: {"half": weights.half(), "parameter": parameter, "set": {1, 2}, "none": None, "text": "a"},
    }
    copied = copy_state(state)
    torch.save(state, tmp_path / "state.pt")
    torch.save(copied, tmp_path / "copied.pt")
    (one, two) = (torch.load(tmp_path / name, weights_only=False) for name in ("state.pt", "copied.pt"))
    assert differences(one, two) == []
    assert type(copied["state_dict"]) is OrderedDict
    assert copied["state_dict"]._metadata == {"": {"version": 1}}
    assert copied["state_dict"]["t"].stride() == (1, 3)
    assert isinstance(copied[0]["parameter"], torch.nn.Parameter)
    weights.zero_()
    parameter.data.zero_()
    state["optimizer"][0]["step"] += 1  # type: ignore[index]
    state["optimizer"][0]["betas"][1].append(7)  # type: ignore[index]
    state[0]["set"].add(3)  # type: ignore[index]
    modules._metadata[""]["version"] = 2  # type: ignore[attr-defined]
    assert differences(copied["state_dict"]["w"], torch.arange(6.0).reshape(2, 3)) == []
    assert copied["state_dict"]._metadata == {"": {"version": 1}}
    assert copied["optimizer"] == [{"step": torch.tensor(3), "betas": (0.9, [0.999])}]
    assert copied[0]["parameter"].tolist() == [1.0, 1.0]
    assert copied[0]["set"] == {1, 2}


# --- files


def test_a_file_is_written_at_most_every_ten_seconds(tmp_path: Path, clock: Clock, written: Any) -> None:
    waiting, path = WaitingCheckpoints(), tmp_path / "last.ckpt"
    for step in range(26):
        with waiting.allowed():
            waiting.save(state(step), path)
        clock.now += 1.0
    assert written == [("last.ckpt", 0), ("last.ckpt", 10), ("last.ckpt", 20)]
    waiting.write()
    assert written[3:] == [("last.ckpt", 25)]
    waiting.write()
    assert len(written) == 4
    assert step_of(path) == 25


def test_what_waits_is_written_when_the_time_is_over(tmp_path: Path, clock: Clock, written: Any) -> None:
    waiting = WaitingCheckpoints()
    with waiting.allowed():
        waiting.save(state(0), tmp_path / "last.ckpt")
        clock.now += 4.0
        waiting.save(state(1), tmp_path / "last.ckpt")
    clock.now += 5.9
    waiting.write_in_time()
    assert written == [("last.ckpt", 0)]
    clock.now += 0.1
    waiting.write_in_time()
    waiting.write_in_time()
    assert written == [("last.ckpt", 0), ("last.ckpt", 1)]
    # From the time when the state was made on, and not when it was written: else more than ten seconds could be lost.
    clock.now = 1013.9
    with waiting.allowed():
        waiting.save(state(2), tmp_path / "last.ckpt")
        assert len(written) == 2
        clock.now = 1014.0
        waiting.save(state(3), tmp_path / "last.ckpt")
    assert written[2:] == [("last.ckpt", 3)]


def test_the_best_is_there_before_a_file_that_lists_it(tmp_path: Path, clock: Clock, written: Any) -> None:
    waiting = WaitingCheckpoints()

    def save(name: str, step: int) -> None:
        with waiting.allowed(is_listed=name == "best"):
            waiting.save(state(step), tmp_path / f"{name}.ckpt")

    for name in ("last", "best"):
        save(name, 0)
    save("best", 1)
    save("last", 1)  # lists best.ckpt of step 1
    save("best", 2)  # takes its place
    waiting.write()
    assert written[2:] == [("best.ckpt", 2), ("last.ckpt", 1)]
    save("last", 3)
    clock.now += 10.0
    save("best", 4)
    assert written[4:] == [("best.ckpt", 4), ("last.ckpt", 3)]
    save("best", 5)
    save("last", 5)  # 10 s after the state of step 3
    assert written[6:] == [("best.ckpt", 5), ("last.ckpt", 5)]


def test_one_that_may_not_wait_comes_after_those_that_wait(tmp_path: Path, clock: Clock, written: Any) -> None:
    waiting = WaitingCheckpoints()
    for step in range(2):
        with waiting.allowed():
            waiting.save(state(step), tmp_path / "last.ckpt")
            waiting.save(state(step), tmp_path / "other.ckpt")
    waiting.save(state(2), tmp_path / "other.ckpt")
    assert written[2:] == [("last.ckpt", 1), ("other.ckpt", 2)]
    waiting.write()
    assert len(written) == 4


def test_ways_out_of_the_memory(tmp_path: Path, clock: Clock, written: Any) -> None:
    """One that is read is written before; one that is removed never is; the end writes, and the next run at once."""
    files, path = WholeFileCheckpointIO(), tmp_path / "last.ckpt"

    def save(*steps: int) -> None:
        with files.waiting.allowed():
            for step in steps:
                files.save_checkpoint(state(step), path)

    save(0, 1)
    assert files.load_checkpoint(path)["global_step"] == 1
    save(2)
    files.remove_checkpoint(path)
    files.teardown()
    assert (written, path.exists()) == ([("last.ckpt", 0), ("last.ckpt", 1)], False)
    save(3, 4)
    assert written[2:] == [("last.ckpt", 3)]
    files.teardown()
    assert written[3:] == [("last.ckpt", 4)]
    save(5)
    assert written[4:] == [("last.ckpt", 5)]
    save(6)
    files.waiting.give_up()
    files.teardown()
    assert written[5:] == []


def test_after_one_that_cannot_be_written_the_files_before_stay(tmp_path: Path, clock: Clock, written: Any) -> None:
    """The last one would list a best one that is not there."""
    waiting = WaitingCheckpoints()
    for step in range(2):
        for name in ("best", "last"):
            with waiting.allowed(is_listed=name == "best"):
                waiting.save(state(step), tmp_path / f"{name}.ckpt")
    (tmp_path / "best.ckpt").unlink()
    (tmp_path / "best.ckpt").mkdir()
    with pytest.raises(OutputError, match=r"best\.ckpt is a folder"):
        waiting.write()
    waiting.write()
    assert written == [("best.ckpt", 0), ("last.ckpt", 0)]


def test_an_interrupt_while_a_file_is_written(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the run writes it, as it was then."""
    waiting, path, write = WaitingCheckpoints(), tmp_path / "last.ckpt", module.write_checkpoint
    with waiting.allowed():
        waiting.save(state(0), path)
        clock.now += 10.0
        interrupted = state(1)
        monkeypatch.setattr(module, "write_checkpoint", raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            waiting.save(interrupted, path)
    interrupted["state_dict"]["w"].zero_()
    monkeypatch.setattr(module, "write_checkpoint", write)
    waiting.write()
    assert content(path)["state_dict"]["w"].tolist() == [1.0, 1.0]


def raise_interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


# --- runs

BATCHES = 3  # of an epoch


@pytest.fixture
def run(compose: Any, tmp_path: Path) -> Callable[..., Path]:
    """Train into a folder: ``run("name", "trainer.max_epochs=4", callbacks=[...])``; returns the folder."""

    def run(name: str, *overrides: str, callbacks: Any = ()) -> Path:
        config = compose("run=[train]", "trainer.max_epochs=4", f"output_dir={tmp_path / name}", *overrides)
        return train(config, callbacks=callbacks).folder

    return run


class At(lightning.Callback):
    """Does something at the begin of the n-th batch."""

    def __init__(self, batch: int, action: Callable[[lightning.Trainer], Any]) -> None:
        self.batch, self.action, self.seen = batch, action, 0

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.seen += 1
        if self.seen == self.batch:
            self.action(trainer)


def raise_error(_: lightning.Trainer) -> None:
    raise RuntimeError("of this test")


def newest(files: list[tuple[str, Any]], name: str) -> Any:
    return [step for file, step in files if file == name][-1]


def test_a_run_leaves_the_files_of_one_that_writes_each_time(
    run: Any, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run("waits")
    ours = list(written)
    written.clear()
    monkeypatch.setattr("nequip_like.workflow.setup.WholeFileCheckpointIO", partial(WholeFileCheckpointIO, 0.0))
    each_time = run("each-time")
    assert [step for name, step in written if name == "last.ckpt"] == [BATCHES * n for n in (1, 2, 3, 4)]
    assert [step for name, step in ours if name == "last.ckpt"] == [BATCHES, 4 * BATCHES]
    assert len([name for name, _ in ours if name == "best.ckpt"]) <= 2
    for name in ("best.ckpt", "last.ckpt"):
        assert newest(ours, name) == newest(written, name)
        assert differences(content(folder / "checkpoints" / name), content(each_time / "checkpoints" / name)) == []


def test_files_are_new_where_others_look_at_the_end(run: Any, written: Any) -> None:
    """Callbacks of the user come last; that of the last checkpoint writes at the end of the last epoch."""
    seen: list[int] = []

    class Looks(lightning.Callback):
        def on_train_end(self, trainer: lightning.Trainer, *_: Any) -> None:
            seen.append(step_of(Path(trainer.checkpoint_callbacks[-1].best_model_path)))

    # In front, where Lightning calls it before any of the checkpoints' own hooks of this name.
    looks = "nequip_like.workflow.train.HeldFolder"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, lambda folder: Looks())
        run("run")
        run("stopped", callbacks=[At(BATCHES + 2, lambda trainer: os.kill(os.getpid(), signal.SIGTERM))])
    assert seen == [4 * BATCHES, BATCHES + 2]


@pytest.mark.parametrize(
    ("way", "error", "step"),
    [
        (raise_error, RuntimeError, 3 * BATCHES),
        pytest.param(raise_interrupt, KeyboardInterrupt, 3 * BATCHES, marks=pytest.mark.slow),
        pytest.param(lambda trainer: sys.exit(3), SystemExit, 3 * BATCHES, marks=pytest.mark.slow),
    ],
    ids=["error", "interrupt", "exit"],
)
def test_an_end_before_the_end_writes_the_newest(
    way: Any, error: Any, step: int, run: Any, written: Any, tmp_path: Path
) -> None:
    with pytest.raises(error):
        run("run", callbacks=[At(3 * BATCHES + 2, way)])
    assert [file for file in written if file[0] == "last.ckpt"] == [("last.ckpt", BATCHES), ("last.ckpt", step)]
    assert last(tmp_path / "run")["global_step"] == step


def test_the_file_cannot_be_written_at_the_end(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a run that ends well it is the error, of one that failed a line beside the error."""
    write = module.write_checkpoint

    def fails(content: Any, path: Path) -> None:
        if content["global_step"] > BATCHES:
            raise OutputError(f"cannot write {path}: disk full", "look at the folder and its free space")
        write(content, path)

    monkeypatch.setattr(module, "write_checkpoint", fails)
    with pytest.raises(OutputError, match=r"cannot write .*(best|last)\.ckpt: disk full"):
        run("full")
    with (
        pytest.warns(UserWarning, match=r"cannot write .*\.ckpt: disk full; the checkpoint before it stays"),
        pytest.raises(RuntimeError, match="of this test"),
    ):
        run("failed", callbacks=[At(2 * BATCHES + 2, raise_error)])
    for name in ("full", "failed"):
        assert last(tmp_path / name)["global_step"] == BATCHES


def test_written_between_two_epochs_when_the_time_is_over(run: Any, clock: Clock, written: Any) -> None:
    """After the batch in which that is the case, and not at the next save only."""

    def pass_time(_: lightning.Trainer) -> None:
        clock.now += 5.0

    run("run", callbacks=[At(batch, pass_time) for batch in (BATCHES + 2, 2 * BATCHES + 2)])
    steps = [step for name, step in written if name == "last.ckpt"]
    assert steps == [BATCHES, 2 * BATCHES, 4 * BATCHES]


def kill_while_they_wait() -> list[lightning.Callback]:
    return [KillAt(signal.SIGKILL, 3 * BATCHES + 2)]


def kill_between_both_files() -> list[lightning.Callback]:
    """Of the two that wait, the best one is written, and then the process is gone."""
    clock, write = Clock(), module.write_checkpoint

    def kill_after(content: Any, path: Path) -> None:
        write(content, path)
        if content["global_step"] > BATCHES:
            os.kill(os.getpid(), signal.SIGKILL)

    module.time, module.write_checkpoint = clock, kill_after  # type: ignore[assignment] # in a fork: nobody sees it
    return [At(2 * BATCHES + 2, lambda trainer: setattr(clock, "now", clock.now + 10.0))]


@pytest.mark.parametrize(
    ("prepare", "best"),
    [(kill_while_they_wait, BATCHES), pytest.param(kill_between_both_files, 2 * BATCHES, marks=pytest.mark.slow)],
    ids=["waiting", "between"],
)
def test_killed_while_checkpoints_wait(prepare: Any, best: int, run: Any, tmp_path: Path) -> None:
    """After SIGKILL the run goes on from the files before, and ends as the one that nobody killed, to the last bit."""
    whole = run("whole")
    pid = os.fork()
    if not pid:
        try:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
            run("killed", callbacks=prepare())
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    checkpoints = tmp_path / "killed" / "checkpoints"
    # What came after these was in memory.
    assert (step_of(checkpoints / "best.ckpt"), step_of(checkpoints / "last.ckpt")) == (best, BATCHES)
    run("killed", "resume=auto")
    for name in ("best.ckpt", "last.ckpt"):
        assert differences(content(whole / "checkpoints" / name), content(checkpoints / name)) == []


def test_whoever_is_told_of_a_best_model_finds_it_in_the_file(run: Any, tmp_path: Path) -> None:
    found: list[tuple[int, int]] = []

    def look(category: str, values: Any, epoch: int, step: int) -> None:
        found.append((step, step_of(tmp_path / "run" / "checkpoints" / "best.ckpt")))

    from nequip_like.training.callbacks import LogFunctions

    run("run", callbacks=[LogFunctions({"best_model": look})])
    assert len(found) > 1
    assert all(step == in_file for step, in_file in found)


def test_nothing_is_written_into_a_folder_that_another_run_took_over(
    run: Any, tmp_path: Path, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_folder(trainer: lightning.Trainer) -> None:
        for path in (tmp_path / "run").glob(".running-*"):
            path.unlink()
        for callback in trainer.callbacks:  # type: ignore[attr-defined] # set by Lightning's connector
            if isinstance(callback, held_folder.HeldFolder):
                callback._every = 0.0

    with pytest.raises(OutputError, match="does not belong to this run any more"):
        run("run", callbacks=[At(2 * BATCHES + 2, lose_folder)])
    assert [step for name, step in written if name == "last.ckpt"] == [BATCHES]


# --- which may wait


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ((), {"best", "last"}),
        (("run_name=a",), {"a_best", "a_last"}),
        (("callbacks=[default,periodic_checkpoint]",), {"best", "last"}),
        (("callbacks.best_checkpoint.save_top_k=2",), set()),
        (("callbacks.best_checkpoint.filename='best-{epoch}'",), set()),
        (("callbacks.last_checkpoint.on_failed_save=warn",), set()),
        (("callbacks.last_checkpoint.every_n_epochs=null", "+callbacks.last_checkpoint.every_n_updates=2"), {"best"}),
    ],
    ids=["default", "run_name", "periodic", "top_k", "names", "warn", "updates"],
)
def test_which_may_wait(overrides: tuple[str, ...], names: set[str], compose: Any) -> None:
    trainer = build_trainer(compose(*overrides))
    found: set[str] = set()
    for callback in trainer.checkpoint_callbacks:
        assert isinstance(callback, ResumableCheckpoint)
        if (waiting := callback._find_place_to_wait(trainer)) is not None:
            assert waiting is find_waiting(trainer)
            found.add(str(callback.filename))
    assert found == names


def test_none_waits_where_each_is_uploaded(compose: Any) -> None:
    trainer = build_trainer(compose())
    trainer.callbacks.append(RemoteStorageSync(print))  # type: ignore[attr-defined] # set by Lightning's connector
    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ResumableCheckpoint)]
    assert [callback._find_place_to_wait(trainer) for callback in callbacks] == [None, None]


def test_loggers_that_take_files(tmp_path: Path) -> None:
    class Takes(CSVLogger):
        def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
            pass

    assert not takes_files(CSVLogger(tmp_path))
    assert takes_files(Takes(tmp_path))
    assert not takes_files(TensorBoardLogger(tmp_path))


def test_wandb_takes_files_if_it_is_told_to(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    assert not takes_files(WandbRunLogger(tmp_path, mode="disabled"))
    assert takes_files(WandbRunLogger(tmp_path, mode="disabled", log_model=True))
