"""Whole runs with what is printed, written and counted on the way; that a resumed run writes the same.

14 frames in batches of 5 are 3 steps an epoch.
"""

from __future__ import annotations

import csv
import importlib
import math
import re
from pathlib import Path
from typing import Any

import ase.io
import lightning
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from omegaconf import OmegaConf

from nequip_like.data import fields
from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError
from nequip_like.workflow import setup
from nequip_like.workflow.train import train

SEEN: list[tuple[str, dict[str, float], int, int]] = []
ALL_LOGS = "callbacks=[default,loss_log,metrics_table,criteria_stopping]"


def record(category: str, values: dict[str, float], epoch: int, step: int) -> None:
    SEEN.append((category, values, epoch, step))


def fail(category: str, values: dict[str, float], epoch: int, step: int) -> None:
    raise OSError("no such server")


@pytest.fixture
def run(compose, tmp_path):
    """Train into a folder: ``run("whole", "trainer.max_epochs=4", callbacks={...})``."""

    def run(name: str, *overrides: str, callbacks: dict[str, Any] | None = None) -> Path:
        config = compose("run=[train]", "trusted_packages=[tests]", f"output_dir={tmp_path / name}", *overrides)
        OmegaConf.set_struct(config, False)
        for key, callback in (callbacks or {}).items():
            config.callbacks[key] = callback
        return train(config).folder

    return run


def often(folder: Path) -> dict[str, Any]:
    """A checkpoint after every step."""
    return {
        "often": {
            "_target_": "nequip_like.training.checkpointing.callback.ResumableCheckpoint",
            "dirpath": str(folder / "often"),
            "filename": "step-{step}",
            "auto_insert_metric_name": False,
            "every_n_train_steps": 1,
            "save_top_k": -1,
        }
    }


def history(folder: Path) -> list[dict[str, float]]:
    """Rows of metrics.csv without their gaps."""
    with (folder / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def loss_log(folder: Path, name: str = "loss.log") -> list[dict[str, str]]:
    """Rows of loss.log."""
    lines = [line.split() for line in (folder / name).read_text().splitlines() if not line.startswith("#")]
    assert [line[0] for line in lines].count("set") == 1
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def weights(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


# --- counters


def counts(folder: Path) -> list[tuple[float, float]]:
    return [(row["micro_step"], row["update_step"]) for row in history(folder) if "micro_step" in row]


def test_counters_of_a_plain_run(run):
    rows = history(run("run"))
    of_steps = [row for row in rows if "train_loss_step/weighted_sum" in row]
    assert [(row["micro_step"], row["update_step"]) for row in of_steps] == [(n, n) for n in range(1, 7)]
    for name in ("val0_epoch/weighted_sum", "train_loss_epoch/weighted_sum"):
        assert [(row["micro_step"], row["update_step"]) for row in rows if name in row] == [(3, 3), (6, 6)]


def test_counters_with_accumulation(run):
    """3 batches an epoch, 2 for a step: the last step of an epoch has one."""
    rows = history(run("run", "trainer.accumulate_grad_batches=2"))
    of_steps = [row for row in rows if "train_loss_step/weighted_sum" in row]
    assert [(row["micro_step"], row["update_step"]) for row in of_steps] == [(2, 1), (3, 2), (5, 3), (6, 4)]
    of_epochs = [row for row in rows if "train_loss_epoch/weighted_sum" in row]
    assert [(row["micro_step"], row["update_step"]) for row in of_epochs] == [(3, 2), (6, 4)]


def test_counters_are_those_of_the_row_also_between_logged_steps(run):
    rows = history(run("run", "trainer.log_every_n_steps=2"))
    of_steps = [row for row in rows if "train_loss_step/weighted_sum" in row]
    assert [row["micro_step"] for row in of_steps] == [2, 4, 6]


class Spoil(lightning.Callback):
    """Makes the labels of the n-th batch infinite."""

    def __init__(self, batch: int) -> None:
        self.batch, self.seen = batch, 0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: dict[str, torch.Tensor], _: int) -> None:
        self.seen += 1
        if self.seen == self.batch:
            batch["forces"] = torch.full_like(batch["forces"], math.inf)


def test_skipped_steps_are_no_updates(run):
    """The second batch has no finite loss."""
    breaker = {"_target_": "tests.workflow.test_run_callbacks.Spoil", "batch": 2}
    with pytest.warns(UserWarning, match="the step is left out"):
        folder = run("run", "training_module.on_non_finite=skip", callbacks={"spoil": breaker})
    of_steps = [row for row in history(folder) if "skipped_steps" in row and "micro_step" in row]
    assert [(row["micro_step"], row["update_step"]) for row in of_steps] == [
        (1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5),
    ]  # fmt: skip


# --- loss.log


def test_rows_of_the_loss_log(run):
    """Every second step and the last of each epoch; then the validation."""
    rows = loss_log(run("run", "callbacks=[default,loss_log]", "callbacks.loss_log.log_steps=2"))
    assert [(row["set"], row["epoch"], row["update_step"]) for row in rows] == [
        ("train", "0", "2"), ("train", "0", "3"), ("val0", "0", "3"),
        ("train", "1", "5"), ("train", "1", "6"), ("val0", "1", "6"),
    ]  # fmt: skip
    assert rows[0]["forces_mae"] == "-"
    assert float(rows[2]["forces_mae"]) > 0


def test_the_last_row_of_an_epoch_is_the_epoch(run):
    folder = run("run", "callbacks=[default,loss_log]")
    rows, logged = loss_log(folder), history(folder)
    for name, shown in (("train_loss_epoch/forces_mse", "forces_rmse"), ("train_loss_epoch/weighted_sum",) * 2):
        whole = [row[name] for row in logged if name in row]
        last = [float(row[shown.rpartition("/")[2]]) for row in rows if row["set"] == "train"]
        assert last == pytest.approx([math.sqrt(x) if "mse" in name else x for x in whole], rel=1e-5)
    of_val = [row["val0_epoch/forces_mae"] for row in logged if "val0_epoch/forces_mae" in row]
    assert [float(row["forces_mae"]) for row in rows if row["set"] == "val0"] == pytest.approx(of_val, rel=1e-5)


def test_epochs_without_rows(run):
    settings = ("callbacks=[default,loss_log]", "callbacks.loss_log.log_epochs=2", "trainer.max_epochs=4")
    rows = [(row["set"], row["epoch"]) for row in loss_log(run("run", *settings))]
    assert rows == [("train", "1"), ("val0", "1"), ("train", "3"), ("val0", "3")]


def test_rows_count_optimizer_steps(run):
    """3 batches are 2 steps with accumulation; a row after each."""
    more = ("trainer.accumulate_grad_batches=2", "callbacks.loss_log.log_steps=1", "trainer.max_epochs=1")
    rows = loss_log(run("run", "callbacks=[default,loss_log]", *more))
    assert [(row["set"], row["update_step"], row["micro_step"]) for row in rows] == [
        ("train", "1", "2"), ("train", "2", "3"), ("val0", "2", "3"),
    ]  # fmt: skip


def test_columns_have_a_fixed_width(run):
    text = (run("run", "callbacks=[default,loss_log]") / "loss.log").read_text().splitlines()
    rows = [line for line in text if not line.startswith("#")]
    assert len({len(line) for line in rows}) == 1
    ends = [{match.end() for match in re.finditer(r"\S+", row)} for row in rows]
    assert all(columns == ends[0] for columns in ends)


def test_the_log_ends_with_the_best_epoch_and_why_it_ended(run, capsys):
    stop = {"forces": {"lower_bound": 1e6}}
    callbacks = {
        "stop": {"_target_": "nequip_like.training.callbacks.CriteriaStopping", "criteria": stop},
    }
    folder = run("run", "callbacks=[default,loss_log]", callbacks=callbacks)
    text = (folder / "loss.log").read_text().splitlines()
    best, reason = [line for line in text if line.startswith("#")]
    assert re.fullmatch(r"# best val0_epoch/weighted_sum: \S+ at epoch 0, step 3, best\.ckpt", best)
    assert reason.startswith("# early stopping at epoch 0, step 3: val0_epoch/forces_mae is ")
    assert text[-1] == reason
    printed = capsys.readouterr().out.splitlines()
    assert reason.removeprefix("# ") in printed


def test_a_new_run_puts_the_log_of_another_aside(run):
    first = run("run", "callbacks=[default,loss_log]")
    before = (first / "loss.log").read_text()
    run("run", "callbacks=[default,loss_log]", "trainer.max_epochs=1")
    assert (first / "earlier-run" / "loss.log").read_text() == before
    assert len(loss_log(first)) == 2


# --- resuming


@pytest.mark.filterwarnings("ignore:.*was written over later")
@pytest.mark.parametrize(
    ("way", "steps"),
    [
        (("trainer.accumulate_grad_batches=2",), (1,)),
        pytest.param((), (1, 2, 3, 5), marks=pytest.mark.slow),
        pytest.param(("trainer.accumulate_grad_batches=2",), (2, 3), marks=pytest.mark.slow),
        pytest.param(("trainer.val_check_interval=1",), (1, 2, 3, 5), marks=pytest.mark.slow),
    ],
)
def test_resumed_logs_are_those_of_the_uninterrupted_run(way, steps, run, tmp_path):
    """From within an epoch and from its end, in another folder: both logs line by line, and the criteria's state."""
    settings = (ALL_LOGS, "callbacks.loss_log.log_steps=1", *way)
    never = ("callbacks.criteria_stopping.criteria.forces.threshold=1e9",)
    whole = run("whole", *settings, *never, callbacks=often(tmp_path / "whole"))
    rows = [line for line in (whole / "loss.log").read_text().splitlines() if not line.startswith("#")]
    for step in steps:
        name, checkpoint = f"from {step}", whole / "often" / f"step-{step}.ckpt"
        rest = run(name, *settings, *never, f"ckpt_path='{checkpoint}'", callbacks=often(tmp_path / name))
        assert [line for line in (rest / "loss.log").read_text().splitlines() if not line.startswith("#")] == rows
        assert history(rest) == history(whole)
        for key, state in callback_states(whole).items():
            assert callback_states(rest)[key] == state
        for name, tensor in weights(whole).items():
            assert not isinstance(tensor, torch.Tensor) or torch.equal(tensor, weights(rest)[name]), name


def callback_states(folder: Path) -> dict[str, Any]:
    states = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    found = {key: state for key, state in states.items() if key.startswith("CriteriaStopping")}
    assert len(found) == 1
    return found


def test_resumed_in_its_folder_the_log_has_no_row_twice(run):
    whole = run("whole", ALL_LOGS, "callbacks.loss_log.log_steps=1", "trainer.max_epochs=3")
    run("part", ALL_LOGS, "callbacks.loss_log.log_steps=1", "trainer.max_epochs=3", "trainer.max_steps=4")
    path = whole.parent / "part" / "loss.log"
    path.write_text(path.read_text() + "train  1   5   5")  # cut off by a power failure
    part = run("part", ALL_LOGS, "callbacks.loss_log.log_steps=1", "trainer.max_epochs=3", "resume=auto")
    assert loss_log(part) == loss_log(whole)


@pytest.mark.slow  # early stopping, which goes on in the same way, is quick in test_resume.py
def test_criteria_stop_where_they_would_have(run):
    """Stopped within an epoch; with more patience the run goes on from there, and stops where one run would."""
    stop = {"forces": {"patience": 3, "threshold": 1e9}}
    callbacks = {"stop": {"_target_": "nequip_like.training.callbacks.CriteriaStopping", "criteria": stop}}
    way = ("trainer.val_check_interval=1", "trainer.max_epochs=4")
    part = run("part", *way, callbacks=callbacks)
    assert history(part)[-1]["update_step"] == 4
    stop["forces"]["patience"] = 7
    rest = run("part", *way, "resume=auto", callbacks=callbacks)
    whole = run("whole", *way, callbacks=callbacks)
    assert history(rest) == history(whole)
    assert history(rest)[-1]["update_step"] == 8
    for name, tensor in weights(whole).items():
        assert not isinstance(tensor, torch.Tensor) or torch.equal(tensor, weights(rest)[name]), name


# --- functions of the user's own


def functions(**named: str) -> dict[str, Any]:
    nodes = {
        category: {"_target_": f"tests.workflow.test_run_callbacks.{name}", "_partial_": True}
        for category, name in named.items()
    }
    return {"mine": {"_target_": "nequip_like.training.callbacks.LogFunctions", "functions": nodes, "every_n_steps": 3}}


@pytest.fixture
def seen():
    found = importlib.import_module("tests.workflow.test_run_callbacks").SEEN
    found.clear()
    return found


def test_sequence_of_calls(run, seen):
    folder = run("run", "run=[train,test]", callbacks=functions(all="record"))
    series = [row["val0_epoch/weighted_sum"] for row in history(folder) if "val0_epoch/weighted_sum" in row]
    better = ["best_model"] if series[1] < series[0] else []
    assert [call[0] for call in seen] == [
        "train_step", "validation", "train_epoch", "best_model",
        "train_step", "validation", "train_epoch", *better,
        "end", "test",
    ]  # fmt: skip
    assert [call[2:] for call in seen[:5]] == [(0, 3), (0, 3), (0, 3), (0, 3), (1, 6)]
    step, validation, epoch, best = (call[1] for call in seen[:4])
    assert {"train_loss_step/weighted_sum", "lr", "micro_step"} <= set(step)
    assert validation["val0_epoch/weighted_sum"] == series[0]
    assert set(epoch) >= {"train_loss_epoch/weighted_sum", "train_loss_epoch/forces_mse"}
    assert best == {"val0_epoch/weighted_sum": series[0]}
    assert all(type(value) is float for call in seen for value in call[1].values())
    assert set(seen[-1][1]) == {name for row in history(folder) for name in row if name.startswith("test0")}


def test_a_resumed_run_says_so(run, seen):
    run("run", "trainer.max_steps=4", callbacks=functions(all="record"))
    assert [call[0] for call in seen][-1] == "end"
    assert "train_epoch" not in [call[0] for call in seen][3:]  # the second epoch was not finished
    seen.clear()
    run("run", "resume=auto", callbacks=functions(all="record"))
    assert seen[0] == ("resume", {"micro_step": 4.0, "update_step": 4.0}, 1, 4)
    assert [call[0] for call in seen][1:4] == ["train_step", "validation", "train_epoch"]


def test_each_category_has_its_function(run, seen):
    run("run", callbacks=functions(validation="record"))
    assert [call[0] for call in seen] == ["validation", "validation"]


def test_a_function_that_fails_is_named_and_training_goes_on(run, seen):
    with pytest.warns(UserWarning, match="the logging function") as caught:
        folder = run("run", callbacks=functions(validation="fail", end="record"))
    messages = [str(warning.message) for warning in caught]
    assert [message for message in messages if "function" in message] == [
        f"the logging function tests.workflow.test_run_callbacks.fail failed at validation, {when}: "
        "OSError: no such server; training goes on"
        for when in ("epoch 0, step 3", "epoch 1, step 6")
    ]
    assert history(folder)[-1]["update_step"] == 6
    assert [call[0] for call in seen] == ["end"]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"validate": "record"}, r"unknown category of functions: 'validate'\n.*did you mean 'validation'"),
        ({"end": "SEEN"}, r"belongs to builtins"),
        ({"end": "nothing"}, r"has no 'nothing'"),
    ],
)
def test_functions_that_are_refused(node, message, run):
    with pytest.raises(ConfigError, match=message):
        run("run", callbacks=functions(**node))


def test_functions_have_to_be_trusted(run):
    with pytest.raises(ConfigError, match="in no trusted package"):
        run("run", "trusted_packages=[]", callbacks=functions(end="record"))


# --- roots come last


def test_rmse_is_the_root_of_the_mean_over_all_batches(run, compose, tmp_path, molecule_file):
    """Two batches with mean squared errors 1 and 9: the RMSE is the root of 5, not the mean of 1 and 3."""
    plain = (
        "model.avg_num_neighbors=3.0", "model.per_type_energy_scales=1.0", "model.per_type_energy_shifts=0.0",
        "data.batch_size=1", "data.val_batch_size=1", "+data.allow_overlap=true", "data.test=null",
        "callbacks=[default,loss_log,metrics_table]", "training_module=default", "trainer.max_epochs=1",
        "training_module.lr_scheduler=null", "training_module.optimizer.lr=1e-300",
        "training_module.optimizer._target_=torch.optim.SGD",
        "training_module.train_metrics=${training_module.val_metrics}",
    )  # fmt: skip
    images = ase.io.read(molecule_file, ":2")
    path = tmp_path / "offset.xyz"
    ase.io.write(path, images)
    files = (f"data.train={path}", f"data.val={path}")
    config = compose(*plain, *files)
    data = setup.build_data(config)
    module = setup.build_module(config, data, {})
    predicted = [module.model(collate([frame])) for frame in data.train_set]
    for image, prediction, offset in zip(images, predicted, (1.0, 3.0), strict=True):
        forces = prediction["forces"].detach().numpy() + offset
        image.calc = SinglePointCalculator(image, energy=prediction["total_energy"].item(), forces=forces)
    ase.io.write(path, images)
    folder = run("run", *plain, *files)
    rows = history(folder)
    logged = {name: value for row in rows for name, value in row.items()}
    of_steps = sorted(row["train_loss_step/forces_mse"] for row in rows if "train_loss_step/forces_mse" in row)
    assert of_steps == pytest.approx([1.0, 9.0], rel=1e-6)
    assert logged["train_loss_epoch/forces_mse"] == pytest.approx(5.0, rel=1e-6)
    assert logged["train_metric_epoch/forces_rmse"] == pytest.approx(math.sqrt(5), rel=1e-6)
    assert logged["val0_epoch/forces_rmse"] == pytest.approx(math.sqrt(5), rel=1e-6)
    assert [float(row["forces_rmse"]) for row in loss_log(folder)] == pytest.approx([math.sqrt(5)] * 2, rel=1e-5)


# --- a run is a function of its config


@pytest.mark.parametrize("changes", [("data.num_workers=2",), pytest.param((), marks=pytest.mark.slow)])
def test_a_run_is_a_function_of_its_config(changes, run):
    """Twice the same, bit by bit; workers do not matter."""
    first, other = run("a"), run("b", *changes)
    assert history(other) == history(first)
    assert weights(other).keys() == weights(first).keys()
    for name, tensor in weights(first).items():
        assert not isinstance(tensor, torch.Tensor) or torch.equal(tensor, weights(other)[name]), name


def test_seeds_act_apart(compose):
    """``seed``: initial weights and order; ``data.split_seed``: which frames are held out."""

    def parts(*overrides):
        config = compose(*overrides)
        data = setup.build_data(config)
        order = [index for batch in data.train_dataloader() for index in batch["frame_index"].flatten().tolist()]
        state = setup.build_module(config, data, {}).model.state_dict()
        trained = [frame[fields.POSITIONS] for frame in data.train_set.frames]
        held_out = [frame[fields.POSITIONS] for frame in data.val_sets["val"].frames]
        return state, order, torch.stack(trained), torch.stack(held_out)

    fixed = ("model.per_type_energy_scales=1.0", "model.per_type_energy_shifts=0.0")
    state, order, trained, held_out = parts(*fixed)
    same = parts(*fixed)
    assert order == same[1]
    assert torch.equal(trained, same[2])
    other = parts(*fixed, "seed=1")
    assert any(not torch.equal(tensor, other[0][name]) for name, tensor in state.items())
    assert order != other[1]
    assert torch.equal(trained, other[2])
    assert torch.equal(held_out, other[3])
    split = parts(*fixed, "data.split_seed=1")
    assert all(torch.equal(tensor, split[0][name]) for name, tensor in state.items())
    assert order == split[1]
    assert not torch.equal(held_out, split[3])
