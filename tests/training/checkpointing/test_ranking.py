"""The best k checkpoints, the newest n, names, cycles, and what a failed run leaves behind."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import lightning
import pytest
import torch
from torch import Tensor

from nequip_like.errors import ConfigError
from nequip_like.inference.loading import find_model
from nequip_like.training import EMALightningModule
from nequip_like.training.checkpointing.callback import ResumableCheckpoint
from nequip_like.training.checkpointing.ranking import RankedCheckpoint, give_name, rank_checkpoints
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.train import TrainingResult, train

MONITOR = "val0_epoch/weighted_sum"
Run = Callable[..., TrainingResult]


class Scripted(EMALightningModule):
    """Validates to values that are written down: one for each epoch."""

    values: ClassVar[list[float]] = []

    def _end_evaluation(self, stage: str, evaluation: Any) -> dict[str, Tensor]:
        values = super()._end_evaluation(stage, evaluation)
        return {**values, "weighted_sum": torch.tensor(self.values[self.current_epoch], dtype=torch.float64)}


class Act(lightning.Callback):
    """Raises an error, or sends a signal, while a batch is computed."""

    def __init__(self, batch: int, number: int = 0) -> None:
        self.batch, self.number, self.seen = batch, number, 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.seen += 1
        if self.seen == self.batch:
            if not self.number:
                raise RuntimeError("the machine broke, say")
            os.kill(os.getpid(), self.number)


@pytest.fixture
def run(compose: Any, tmp_path: Path) -> Run:
    def run(name: str, *overrides: str) -> TrainingResult:
        always = ("run=[train]", "trusted_packages=[tests]", f"output_dir={tmp_path / name}")
        return train(compose(*always, *overrides))

    return run


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Overrides of a run with these validation values."""

    def scripted(values: list[float], k: int) -> list[str]:
        monkeypatch.setattr(Scripted, "values", values)
        return [
            f"training_module._target_={__name__}.Scripted",
            f"callbacks.best_checkpoint.save_top_k={k}",
            f"trainer.max_epochs={len(values)}",
        ]

    return scripted


def periodic(*settings: str) -> str:
    """Another checkpoint callback, ``periodic``."""
    always = ["_target_:nequip_like.training.checkpointing.callback.ResumableCheckpoint", "dirpath:${output_dir}/often"]
    return f"+callbacks.periodic={{{','.join([*always, 'auto_insert_metric_name:false', *settings])}}}"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def value_of(path: Path) -> float:
    return float(torch.load(path, weights_only=True)["nequip_like"]["logged"][MONITOR])


# --- best k


def test_three_best_of_five(run: Run, scripted: Any, capsys: pytest.CaptureFixture) -> None:
    """XequiNet's case: 5, 3, 4, 1, 2 with k = 3. The files hold 3, 1 and 2, and the best is 1, in the fourth epoch."""
    result = run("run", *scripted([5.0, 3.0, 4.0, 1.0, 2.0], 3))
    folder = result.folder / "checkpoints"
    kept = {"best-epoch1-step6.ckpt": 3.0, "best-epoch3-step12.ckpt": 1.0, "best-epoch4-step15.ckpt": 2.0}
    assert names(folder) == {"best.ckpt", "best.json", "last.ckpt", *kept}
    assert {name: value_of(folder / name) for name in kept} == kept
    assert value_of(folder / "best.ckpt") == 1.0
    assert result.best_checkpoint == folder / "best-epoch3-step12.ckpt"
    assert json.loads((folder / "best.json").read_text()) == {
        "monitor": MONITOR,
        "checkpoints": [
            {"rank": 1, "file": "best-epoch3-step12.ckpt", "value": 1.0, "epoch": 3, "step": 12},
            {"rank": 2, "file": "best-epoch4-step15.ckpt", "value": 2.0, "epoch": 4, "step": 15},
            {"rank": 3, "file": "best-epoch1-step6.ckpt", "value": 3.0, "epoch": 1, "step": 6},
        ],
    }
    told = capsys.readouterr().out.splitlines()
    first = told.index("best checkpoints by val0_epoch/weighted_sum:")
    assert told[first + 1 : first + 5] == [
        "  1. best-epoch3-step12.ckpt: 1 (epoch 3, step 12)",
        "  2. best-epoch4-step15.ckpt: 2 (epoch 4, step 15)",
        "  3. best-epoch1-step6.ckpt: 3 (epoch 1, step 6)",
        "exported: the averaged weights",
    ]


def test_seven_improvements_with_five_kept(run: Run, scripted: Any) -> None:
    """mlip's case: the five last, which are the five best."""
    folder = run("run", *scripted([7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 5)).folder / "checkpoints"
    kept = {path.name: value_of(path) for path in folder.glob("best-*.ckpt")}
    assert kept == {f"best-epoch{epoch}-step{3 * epoch + 3}.ckpt": 7.0 - epoch for epoch in range(2, 7)}


@pytest.mark.parametrize(
    "same_folder", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["same folder", "other folder"]
)
def test_ranks_go_on_in_a_resumed_run(same_folder: bool, run: Run, scripted: Any) -> None:
    way = scripted([2.0, 5.0, 1.0, 4.0, 3.0], 3)
    whole = run("whole", *way).folder / "checkpoints"
    part = run("part", *way, "trainer.max_epochs=3").folder / "checkpoints"
    if same_folder:
        rest = run("part", *way, "resume=auto").folder / "checkpoints"
    else:
        rest = run("rest", *way, f"ckpt_path={part}/last.ckpt").folder / "checkpoints"
    assert names(rest) == names(whole)
    assert (rest / "best.json").read_text() == (whole / "best.json").read_text()
    assert value_of(rest / "best.ckpt") == 1.0


def test_largest_may_be_the_best(run: Run, scripted: Any) -> None:
    early = "callbacks.early_stopping.mode=max"
    way = scripted([5.0, 3.0, 4.0], 2)
    folder = run("run", *way, "callbacks.best_checkpoint.mode=max", early).folder / "checkpoints"
    assert [entry["value"] for entry in json.loads((folder / "best.json").read_text())["checkpoints"]] == [5.0, 4.0]
    assert value_of(folder / "best.ckpt") == 5.0


def test_order_of_equal_values() -> None:
    """The earlier one is the better; what is not known of a file is -1."""
    found = rank_checkpoints(
        {"/x/a.ckpt": 1.0, "/x/b.ckpt": 1.0, "/x/c.ckpt": 0.5}, {"a.ckpt": [2, 9], "b.ckpt": [1, 6]}, True
    )
    assert found == [
        RankedCheckpoint(1, "c.ckpt", 0.5, -1, -1),
        RankedCheckpoint(2, "b.ckpt", 1.0, 1, 6),
        RankedCheckpoint(3, "a.ckpt", 1.0, 2, 9),
    ]


@pytest.mark.parametrize("links", [True, False], ids=["link", "copy"])
def test_another_name_for_a_file(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    give_name(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == (tmp_path / "a").read_text() == "new"
    assert names(tmp_path) == {"a", "b"}
    assert (tmp_path / "a").samefile(tmp_path / "b") == links


# --- cycles and the newest


def test_every_n_updates_with_the_newest_kept(run: Run) -> None:
    """12 updates, one file after each second, three of them kept; those at the end of an epoch come after it."""
    settings = ("filename:at", "every_n_updates:2", "keep_newest:3")
    folder = run("run", "trainer.max_epochs=4", periodic(*settings)).folder / "often"
    assert names(folder) == {"at-epoch2-step8.ckpt", "at-epoch3-step10.ckpt", "at-epoch3-step12.ckpt"}
    state = torch.load(folder / "at-epoch3-step12.ckpt", weights_only=True)
    assert state["global_step"] == 12
    assert state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 4


def test_every_n_updates_does_not_count_batches(run: Run) -> None:
    """Accumulation of 2: 3 batches an epoch are 2 updates. Each file is written after the batch that updates."""
    settings = ("filename:'step{step}'", "every_n_updates:1", "save_top_k:-1")
    folder = run("run", "trainer.accumulate_grad_batches=2", periodic(*settings)).folder / "often"
    assert names(folder) == {f"step{step}.ckpt" for step in (1, 2, 3, 4)}
    batches = torch.load(folder / "step3.ckpt", weights_only=True)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert batches["current"]["processed"] == 2


def test_newest_are_remembered_by_a_resumed_run(run: Run) -> None:
    way = periodic("filename:at", "every_n_updates:1", "keep_newest:2")
    run("run", "trainer.max_epochs=1", way)
    folder = run("run", "trainer.max_epochs=2", "resume=auto", way).folder / "often"
    assert names(folder) == {"at-epoch1-step5.ckpt", "at-epoch1-step6.ckpt"}


def test_every_n_minutes(run: Run) -> None:
    """A time that is over after each batch."""
    settings = ("filename:'step{step}'", "every_n_minutes:1e-9", "save_top_k:-1")
    folder = run("run", "trainer.max_epochs=1", periodic(*settings)).folder / "often"
    assert names(folder) == {f"step{step}.ckpt" for step in (1, 2, 3)}
    long = ("filename:'step{step}'", "every_n_minutes:1000", "save_top_k:-1")
    folder = run("long", "trainer.max_epochs=1", periodic(*long)).folder / "often"
    assert not list(folder.glob("step[12].ckpt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep_newest": 2, "monitor": "x"}, "keep_newest of a checkpoint goes without monitor"),
        ({"keep_newest": 2, "save_top_k": 3}, "keep_newest of a checkpoint goes without monitor"),
        ({"keep_newest": 0}, "keep_newest is 0"),
        ({"every_n_updates": 0}, "every_n_updates is 0"),
        ({"every_n_minutes": 0}, "every_n_minutes is 0"),
        ({"every_n_updates": 2, "every_n_epochs": 1}, "by epochs, by updates or by minutes"),
        ({"every_n_updates": 2, "every_n_minutes": 1.0}, "by epochs, by updates or by minutes"),
        ({"every_n_updates": 2, "every_n_train_steps": 2}, "every_n_updates and every_n_train_steps .* both given"),
        ({"run_name": "a/b"}, "run_name is 'a/b'"),
        ({"run_name": ".a"}, "run_name is '.a'"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ResumableCheckpoint(**arguments)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("callbacks.best_checkpoint.save_top_k=-2", r"callbacks\.best_checkpoint\.save_top_k is -2"),
        ("callbacks.best_checkpoint.mode=least", r"callbacks\.best_checkpoint\.mode is 'least'"),
        ("+callbacks.last_checkpoint.keep_newest=0", r"callbacks\.last_checkpoint\.keep_newest is 0"),
        (
            "+callbacks.last_checkpoint.every_n_updates=5",
            r"callbacks\.last_checkpoint: a checkpoint is to be written",
        ),
        ("+callbacks.last_checkpoint.keep_latest=5", r"takes no 'keep_latest'"),
        ("run_name=a/b", r"run_name is 'a/b'"),
        ("validate_every_n_updates=0", r"validate_every_n_updates is 0"),
    ],
)
def test_the_config_check_knows_the_keys(override: str, message: str, compose: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(compose(override))


def test_options_of_the_periodic_checkpoint(compose: Any) -> None:
    way = "callbacks=[default,periodic_checkpoint]"
    check_config(compose(way))
    by_the_clock = "callbacks.periodic_checkpoint.every_n_minutes=30"
    check_config(compose(way, by_the_clock, "callbacks.periodic_checkpoint.every_n_updates=null"))
    with pytest.raises(ConfigError, match="by epochs, by updates or by minutes"):
        check_config(compose(way, by_the_clock))


def test_files_of_other_callbacks_are_not_among_the_newest(tmp_path: Path) -> None:
    """A resumed run finds its files by their names: those that this callback gives."""
    for name in ("step3.ckpt", "step12.ckpt", "best-epoch1-step3.ckpt", "last.ckpt", "step3.json", "a_step3.ckpt"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(0, 9 if name == "step3.ckpt" else 5))
    callback = ResumableCheckpoint(dirpath=tmp_path, filename="step{step}", every_n_updates=1, keep_newest=2)
    callback.load_state_dict({"best_k_models": {}})
    assert callback.newest == ["step12.ckpt", "step3.ckpt"]


# --- names


def test_run_name_begins_all_names(run: Run, scripted: Any, capsys: pytest.CaptureFixture) -> None:
    way = ["run_name=a", *scripted([1.0, 2.0], 2)]
    folder = run("run", *way).folder
    assert names(folder / "checkpoints") == {
        *("a_best.ckpt", "a_best.json", "a_last.ckpt"),
        *("a_best-epoch0-step3.ckpt", "a_best-epoch1-step6.ckpt"),
    }
    (folder / "model.safetensors").unlink()
    assert find_model(folder).name == "a_best.ckpt"
    stop = f"+callbacks.stop={{_target_:{__name__}.Act,batch:2,number:{int(signal.SIGTERM)}}}"
    more = [entry for entry in scripted([1.0, 2.0, 0.5, 0.1], 2) if not entry.startswith("run_name")]
    run("run", "run_name=a", *more, "resume=auto", stop)
    told = capsys.readouterr().out
    assert f"stopped by SIGTERM; go on with ckpt_path={folder}/checkpoints/a_last.ckpt" in told
    assert torch.load(folder / "checkpoints" / "a_last.ckpt", weights_only=True)["global_step"] == 8


def test_best_of_one_has_the_plain_name(run: Run, scripted: Any) -> None:
    folder = run("run", "run_name=a", *scripted([2.0, 1.0], 1)).folder
    assert names(folder / "checkpoints") == {"a_best.ckpt", "a_last.ckpt"}


# --- a run that fails


def fails(batch: int) -> str:
    return f"+callbacks.fail={{_target_:{__name__}.Act,batch:{batch}}}"


def test_weights_of_a_run_that_fails(run: Run, capsys: pytest.CaptureFixture) -> None:
    """At the fifth batch: four steps are done. Here the batch had not begun, so what goes on is the whole run."""
    whole = run("whole").folder
    on = "callbacks.last_checkpoint.save_on_exception=true"
    with (
        pytest.warns(UserWarning, match=r"after RuntimeError, the weights of the last whole step .*exception\.ckpt"),
        pytest.raises(RuntimeError, match="the machine broke, say"),
    ):
        run("part", on, fails(5))
    folder = whole.parent / "part"
    assert names(folder / "checkpoints") == {"best.ckpt", "last.ckpt", "exception.ckpt"}
    assert torch.load(folder / "checkpoints" / "exception.ckpt", weights_only=True)["global_step"] == 4
    capsys.readouterr()
    rest = run("rest", f"ckpt_path={folder}/checkpoints/exception.ckpt").folder
    assert (
        "exception.ckpt: 1 epochs, 4 steps done; it was written within a batch that failed" in capsys.readouterr().out
    )
    ends = [torch.load(at / "checkpoints" / "last.ckpt", weights_only=True) for at in (whole, rest)]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 6
    weights = [name for name in ends[0]["state_dict"] if name.startswith(("model.", "ema.module."))]
    assert [torch.equal(*(end["state_dict"][name] for end in ends)) for name in weights] == [True] * len(weights)
    run("part", "resume=auto")
    assert "going on from" in (told := capsys.readouterr().out)
    assert "checkpoints/last.ckpt: 1 epochs, 3 steps done" in told


def test_a_run_that_fails_leaves_nothing_if_not_asked(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the machine broke, say"):
        run("part", fails(5))
    assert names(tmp_path / "part" / "checkpoints") == {"best.ckpt", "last.ckpt"}
