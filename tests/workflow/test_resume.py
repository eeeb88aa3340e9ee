"""A resumed run is the run that was never stopped, bit for bit: weights, optimizer, schedules, loops, history.

14 frames in batches of 5 are 3 steps an epoch.
"""

from __future__ import annotations

import csv
import math
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from nequip_like.errors import ConfigError, ModelFileError
from nequip_like.training import EMALightningModule
from nequip_like.workflow.resume import Resumption
from nequip_like.workflow.train import TrainingResult, train

EPOCHS = 4
# The plateau has no patience, so it acts.
RESTLESS = (
    "training_module.lr_scheduler.scheduler.patience=0",
    "training_module.lr_scheduler.scheduler.threshold=0.2",
)
Run = Callable[..., TrainingResult]


class KillAt(lightning.Callback):
    """Sends a signal to the first process while the n-th batch is computed."""

    def __init__(self, number: int, batch: int) -> None:
        self.number, self.batch, self.seen = number, batch, 0

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.seen += 1
        if self.seen == self.batch and trainer.global_rank == 0:
            os.kill(os.getpid(), self.number)


class NoisyModule(EMALightningModule):
    """Draws from torch's, numpy's and Python's generators at each step, and lets it act on the weights."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        import random

        import numpy as np

        noise = torch.rand(()) + np.random.random() + random.random()
        return super().training_step(batch, batch_idx) * noise.item()


@pytest.fixture
def run(compose: Any, tmp_path: Path) -> Run:
    """Train into a folder: ``run("whole", "trainer.max_epochs=4", callbacks={...})``."""

    def run(name: str, *overrides: str, callbacks: dict[str, Any] | None = None) -> TrainingResult:
        folder = tmp_path / name
        restless = () if any(setting.startswith("lr_scheduler=") for setting in overrides) else RESTLESS
        always = ("run=[train]", "trusted_packages=[tests]", f"trainer.max_epochs={EPOCHS}", f"output_dir={folder}")
        config = compose(*always, *restless, *overrides)
        OmegaConf.set_struct(config, False)
        for key, callback in (callbacks or {}).items():
            config.callbacks[key] = callback
        return train(config)

    return run


@pytest.fixture(scope="module")
def finished() -> dict[tuple[str, ...], TrainingResult]:
    """Runs that several tests compare with; none changes them."""
    return {}


@pytest.fixture
def whole(run: Run, finished: dict[tuple[str, ...], TrainingResult]) -> Run:
    """A run without a stop, to compare with: ``whole("trainer.val_check_interval=2")``."""

    def whole(*overrides: str) -> TrainingResult:
        if overrides not in finished:
            finished[overrides] = run(f"whole{len(finished)}", *overrides)  # one test may begin several
        return finished[overrides]

    return whole


def often(folder: Path, every: int = 1) -> dict[str, Any]:
    """A checkpoint after every step."""
    return {
        "often": {
            "_target_": "nequip_like.training.checkpointing.callback.ResumableCheckpoint",
            "dirpath": str(folder / "often"),
            "filename": "step-{step}",
            "auto_insert_metric_name": False,
            "every_n_train_steps": every,
            "save_top_k": -1,
        }
    }


def content(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def last(folder: Path) -> dict[str, Any]:
    return content(folder / "checkpoints" / "last.ckpt")


# Where it was written and where it came from; how often Lightning restarted is no part of the result either.
NOT_COMPARED = ("config", "overrides", "dirpath", "best_model_path", "best_k_models", "kth_best_model_path")


def differences(one: Any, two: Any, where: str = "") -> list[str]:
    """Keys of everything that differs by as much as a bit."""
    if isinstance(one, dict) and isinstance(two, dict):
        keys = [key for key in one.keys() | two.keys() if key not in NOT_COMPARED]
        if only := sorted(str(key) for key in one.keys() ^ two.keys() if key not in NOT_COMPARED):
            return [f"{where}: only in one: {only}"]
        return [found for key in keys for found in differences(one[key], two[key], f"{where}.{key}")]
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        if len(one) != len(two):
            return [f"{where}: {len(one)} and {len(two)} entries"]
        return [found for i in range(len(one)) for found in differences(one[i], two[i], f"{where}[{i}]")]
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        same = one.shape == two.shape and one.dtype == two.dtype and torch.equal(one, two)
        return [] if same else [f"{where}: {one} and {two}"[:200]]
    both_nan = isinstance(one, float) and isinstance(two, float) and math.isnan(one) and math.isnan(two)
    return [] if one == two or both_nan else [f"{where}: {one!r} and {two!r}"]


def assert_same_run(one: Path, two: Path) -> None:
    assert differences(last(one), last(two)) == []
    assert history(one) == history(two)
    best = [folder / "checkpoints" / "best.ckpt" for folder in (one, two)]
    assert best[0].is_file() == best[1].is_file()
    if best[0].is_file():
        assert differences(content(best[0]), content(best[1])) == []


def history(folder: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv without their gaps."""
    with (folder / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


# --- every row of the table: how it is trained, and from which checkpoint it goes on

_SWA_BY_STEPS = ("training_module.swa_interval=step", "training_module.swa_every=3")
_RESTLESS_PLATEAU = (
    *("training_module.lr_scheduler.patience=0", "training_module.lr_scheduler.threshold=0.2"),
    *("training_module.lr_scheduler.warmup_length=2", "training_module.lr_scheduler.smoothing_factor=0.3"),
)
WAYS = {
    "plateau": (),
    "plateau by steps": (
        "training_module.lr_scheduler.interval=step",
        "training_module.lr_scheduler.frequency=2",
        "trainer.val_check_interval=1",
    ),
    "without EMA": ("training_module=default",),
    "cosine by epochs": ("lr_scheduler=cosine",),
    "warm-up and cosine": ("lr_scheduler=warmup_cosine", "training_module.lr_scheduler.warmup_length=2"),
    "restarts": (
        *("lr_scheduler=cosine_restarts", "training_module.lr_scheduler.T_0=1"),
        *("training_module.lr_scheduler.warmup=radam", "training_module.lr_scheduler.warmup_length=null"),
    ),
    "plateau with warm-up": ("lr_scheduler=warmup_plateau", *_RESTLESS_PLATEAU),
    "plateau with warm-up by steps": (
        *("lr_scheduler=warmup_plateau", *_RESTLESS_PLATEAU, "+training_module.lr_scheduler.monitor_interval=step"),
        *("+training_module.lr_scheduler.monitor_frequency=2", "trainer.val_check_interval=1"),
    ),
    "two workers": ("data.num_workers=2",),
    "accumulation": ("trainer.accumulate_grad_batches=2",),
    "validation within the epoch": ("trainer.val_check_interval=2",),
    "validation after each step": ("trainer.val_check_interval=1",),
    "validation every second epoch": ("trainer.check_val_every_n_epoch=2",),
    "accumulation and validation within": ("trainer.accumulate_grad_batches=2", "trainer.val_check_interval=1"),
    "AdamW": ("optimizer=adamw",),
    "Muon": ("optimizer=muon",),
    "SOAP": ("optimizer=soap", "+training_module.optimizer.precondition_frequency=2"),
    "schedule-free": ("optimizer=schedulefree", "training_module=default"),
    "optimizer of mlip": ("optimizer=mlip", "training_module.gradient_clip={norm: 0.1, value: 0.05}"),
    "EMA without warm-up": ("training_module.ema_warmup=false", "training_module.ema_start_step=4"),
    "EMA with bias correction": ("training_module.ema_warmup=false", "training_module.ema_bias_correction=true"),
    "EMA and raw evaluated": ("training_module.evaluate=both", "monitored_metric=val0_raw_epoch/weighted_sum"),
    "SWA by epochs": ("training_module=swa", "training_module.swa_start=1"),
    "SWA by steps": ("training_module=swa", "training_module.swa_start=2", *_SWA_BY_STEPS),
    "validation by updates": ("validate_every_n_updates=2",),
    "validation by updates, seldom": ("validate_every_n_updates=5",),
    "validation by updates and accumulation": ("validate_every_n_updates=3", "trainer.accumulate_grad_batches=2"),
    "three best": ("callbacks.best_checkpoint.save_top_k=3",),
    "random numbers": ("training_module._target_=tests.workflow.test_resume.NoisyModule",),
}

# Several kinds at once stand for each alone, which all together take four minutes.
TOGETHER = (("SOAP", "warm-up and cosine", "accumulation and validation within"), ("SWA by steps", "two workers"))
QUICK = {", ".join(ways): tuple(setting for way in ways for setting in WAYS[way]) for ways in (("plateau",), *TOGETHER)}


@pytest.mark.filterwarnings("ignore:.*was written over later")
@pytest.mark.parametrize(
    ("way", "steps"),
    [
        *((way, (1, 3, 5)) for way in QUICK),
        *(pytest.param(way, (1, 3, 5), marks=pytest.mark.slow) for way in WAYS if way not in QUICK),
        *(pytest.param(way, (2, 4, 6, 7), marks=pytest.mark.slow) for way in WAYS),
    ],
)
def test_resumed_is_uninterrupted(way: str, steps: tuple[int, ...], run: Run, tmp_path: Path) -> None:
    """From within an epoch, from its end, and from a validation."""
    settings = (WAYS | QUICK)[way]
    whole = run("whole", *settings, callbacks=often(tmp_path / "whole")).folder
    written = 2 * EPOCHS if "accumulation" in way else 3 * EPOCHS
    assert len(list((whole / "often").iterdir())) == written
    for step in steps:
        name, checkpoint = f"from {step}", whole / "often" / f"step-{step}.ckpt"
        rest = run(name, f"ckpt_path='{checkpoint}'", *settings, callbacks=often(tmp_path / name)).folder
        assert differences(last(whole), last(rest)) == [], step
        assert history(whole) == history(rest), step


class KickAt(lightning.Callback):
    """Makes weights many times as large after some steps of all runs together."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, *_: Any) -> None:
        if trainer.global_step in self.steps:
            with torch.no_grad():
                for parameter in module.model.parameters():
                    parameter.mul_(30.0)


# Kicked after the 4th step; the run goes back at the 10th.
GOES_BACK = {
    "plateau and EMA": (),
    "schedule-free": ("optimizer=schedulefree", "training_module=default"),
    "cosine and SWA": ("lr_scheduler=cosine", "training_module=swa", "training_module.swa_start=2"),
}


@pytest.mark.filterwarnings("ignore:.*was written over later")
@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[pytest.mark.slow] * bool(GOES_BACK[way])) for way in GOES_BACK]
)
def test_resumed_after_and_before_going_back(way: str, run: Run, tmp_path: Path, capsys: Any) -> None:
    """From diverged weights within an epoch and at its end, right after they went back, and later; bit for bit."""
    kick = {"kick": {"_target_": "tests.workflow.test_resume.KickAt", "_args_": [4]}}
    settings = (*GOES_BACK[way], "trainer.max_epochs=5", "trainer.check_val_every_n_epoch=3")
    whole = run("whole", *settings, callbacks={**kick, **often(tmp_path / "whole")}).folder
    said = re.findall(r"step (\d+): the .*back to the weights of step (\d+), ", capsys.readouterr().out)
    assert said == [("9", "3")]
    assert last(whole)["nequip_like"]["divergence"]["rollbacks"] == 1
    for step in (5, 6, 10):
        checkpoint = whole / "often" / f"step-{step}.ckpt"
        rest = run("rest", f"ckpt_path='{checkpoint}'", *settings, callbacks=kick | often(tmp_path / "rest")).folder
        assert differences(last(whole), last(rest)) == [], step
        assert history(whole) == history(rest), step


# --- where training is stopped

STOPS = {
    "end of an epoch": ("trainer.max_epochs=2",),
    "steps, within an epoch": ("trainer.max_steps=5",),
    "steps, at the end of an epoch": ("trainer.max_steps=6",),
    "steps, at a validation": ("trainer.max_steps=5", "trainer.val_check_interval=2"),
    "steps, while accumulating": ("trainer.max_steps=3", "trainer.accumulate_grad_batches=2"),
}
# These go on until the end; the others are part of how it is trained.
LIMITS = ("trainer.max_epochs", "trainer.max_steps")


@pytest.mark.parametrize(
    ("stop", "same_folder"),
    [
        *(
            # Others end at an epoch, and go on from validations and accumulations, in the tests above and below.
            pytest.param(
                stop, True, id=f"{stop}, same folder", marks=[pytest.mark.slow] * (stop not in list(STOPS)[:2])
            )
            for stop in STOPS
        ),
        *(
            pytest.param(
                stop, False, id=f"{stop}, other folder", marks=[pytest.mark.slow] * (stop != "end of an epoch")
            )
            for stop in STOPS
        ),
    ],
)
def test_stopped_and_resumed(stop: str, same_folder: bool, run: Run, whole: Run) -> None:
    way = [setting for setting in STOPS[stop] if not setting.startswith(LIMITS)]
    expected = whole(*way).folder
    part = run("part", *STOPS[stop]).folder
    assert last(part)["global_step"] == {"end of an epoch": 6}.get(stop, int(STOPS[stop][0].split("=")[1]))
    before = history(part)
    if same_folder:
        rest = run("part", "resume=auto", *way).folder
    else:
        rest = run("rest", f"ckpt_path={part}/checkpoints/last.ckpt", *way).folder
        assert history(part) == before
    assert_same_run(expected, rest)


def test_steps_as_the_only_limit(run: Run) -> None:
    """Twice stopped by steps, without a limit of epochs, the second time at the end of an epoch."""
    whole = run("whole", "trainer.max_steps=8", "trainer.max_epochs=null").folder
    for steps in (4, 6, 8):
        rest = run("rest", f"trainer.max_steps={steps}", "trainer.max_epochs=null", "resume=auto").folder
        assert last(rest)["global_step"] == steps
    assert_same_run(whole, rest)
    assert last(whole)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 2


@pytest.mark.parametrize(
    ("number", "batch"),
    [
        *((signal.SIGTERM, 5), (signal.SIGUSR1, 6)),
        *(
            pytest.param(number, batch, marks=pytest.mark.slow)
            for number, batch in ((signal.SIGTERM, 6), *((signal.SIGINT, n) for n in (5, 6)), (signal.SIGUSR1, 5))
        ),
    ],
)
def test_stopped_by_a_signal(number: int, batch: int, run: Run, whole: Run, capsys: pytest.CaptureFixture) -> None:
    """The step is finished, a checkpoint written, the best model exported; tests are left for the run that goes on."""
    handlers = {known: signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    expected = whole("run=[train,test]")
    killer = {"_target_": "tests.workflow.test_resume.KillAt", "number": int(number), "batch": batch}
    part = run("part", "run=[train,test]", callbacks={"kill": killer})
    assert part.stopped_by == number
    assert f"stopped by {part.stopped_by.name}; go on with ckpt_path=" in " ".join(capsys.readouterr().out.split("\n"))
    assert last(part.folder)["global_step"] == batch
    assert part.model_file is not None
    assert not (part.folder / "metrics.json").exists()
    assert {known: signal.getsignal(known) for known in handlers} == handlers
    rest = run("part", "run=[train,test]", "resume=auto")
    assert rest.stopped_by is None
    assert_same_run(expected.folder, rest.folder)
    assert rest.metrics == expected.metrics


class SaveAt(lightning.Callback):
    """Writes a checkpoint after the n-th batch, wherever that is."""

    def __init__(self, batch: int, path: str) -> None:
        self.batch, self.path, self.seen = batch, path, 0

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.seen += 1
        if self.seen == self.batch:
            trainer.save_checkpoint(self.path, weights_only=False)


@pytest.mark.filterwarnings("ignore:.*was written over later")
def test_from_within_an_accumulation(run: Run, tmp_path: Path) -> None:
    """Three batches an epoch, two a step: after the first batch of the second epoch its gradients wait."""
    way, path = ("trainer.accumulate_grad_batches=2",), str(tmp_path / "within.ckpt")
    saver = {"_target_": "tests.workflow.test_resume.SaveAt", "batch": 4, "path": path}
    whole = run("whole", *way, callbacks={"save": saver}).folder
    assert content(Path(path))["nequip_like"]["processes"][0]["gradients"]
    rest = run("rest", f"ckpt_path={path}", *way).folder
    weights = [last(folder)["state_dict"] for folder in (whole, rest)]
    assert differences(*weights) == []
    assert differences(*(last(folder)["optimizer_states"] for folder in (whole, rest))) == []


def test_out_of_time(run: Run, whole: Run, capsys: pytest.CaptureFixture) -> None:
    """A limit of no seconds is reached after the first step. Time before a resume does not count."""
    expected = whole().folder
    capsys.readouterr()
    for steps in (1, 2, 3):
        folder = run("rest", "trainer.max_time=00:00:00:00", "resume=auto").folder
        assert last(folder)["global_step"] == steps
        assert capsys.readouterr().out.splitlines()[-1] == (
            f"the time of trainer.max_time is up ({steps} steps done); go on with "
            f"ckpt_path={folder}/checkpoints/last.ckpt, or resume=auto in the same output folder"
        )
    rest = run("rest", "resume=auto", "trainer.max_time=00:01:00:00").folder
    assert_same_run(expected, rest)


def test_out_of_steps(run: Run, capsys: pytest.CaptureFixture) -> None:
    """Told after the tests, where it is seen, also by a run that had no steps left; not where the epochs end, too."""
    told = (
        "trainer.max_steps=4 is reached (4 steps done); to go on raise it, with ckpt_path={}/checkpoints/last.ckpt, "
        "or resume=auto in the same output folder"
    )
    for _ in range(2):
        folder = run("part", "run=[train,val]", "trainer.max_steps=4", "resume=auto").folder
        assert capsys.readouterr().out.splitlines()[-1] == told.format(folder)
    for limit in ("trainer.max_steps=3", "trainer.max_time=00:01:00:00"):
        run("whole", "trainer.max_epochs=1", limit)
        assert capsys.readouterr().out.splitlines()[-1].startswith("result | ")


def test_early_stopping_tells_how_to_go_on(run: Run, capsys: pytest.CaptureFixture) -> None:
    run("part", "callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=100")
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .startswith(
            "early stopping at epoch 1, step 6: val0_epoch/weighted_sum has not improved in 1 validations, best "
        )
    )


def test_early_stopping_within_an_epoch(run: Run) -> None:
    """Stopped at a validation in the middle of an epoch; with more patience the run goes on from there."""
    way = ("trainer.val_check_interval=1", "monitored_metric=val0_epoch/weighted_sum")
    never = ("callbacks.early_stopping.min_delta=1e9",)
    stopped = run("part", *way, *never, "callbacks.early_stopping.patience=3").folder
    assert last(stopped)["global_step"] == 4
    assert last(stopped)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 1
    rest = run("part", *way, *never, "callbacks.early_stopping.patience=7", "resume=auto").folder
    assert_same_run(run("whole", *way, *never, "callbacks.early_stopping.patience=7").folder, rest)
    assert last(rest)["global_step"] == 8


# --- resume: auto


def test_auto_begins_if_there_is_nothing(run: Run) -> None:
    assert last(run("new", "resume=auto").folder)["global_step"] == 12


def test_auto_in_a_finished_run_only_tests(run: Run) -> None:
    first = run("run", "run=[train,test]")
    again = run("run", "run=[val,train,test]", "resume=auto")
    assert again.metrics["test0_epoch/forces_rmse"] == first.metrics["test0_epoch/forces_rmse"]
    assert_same_run(first.folder, again.folder)


def test_auto_takes_the_newest_whole_checkpoint(run: Run, whole: Run, part: Path) -> None:
    """A damaged file does not stop it, a half-written one is removed."""
    part = part / "checkpoints"
    (part / "damaged.ckpt").write_bytes((part / "last.ckpt").read_bytes()[:-100])
    (part / ".last.123.ckpt").write_bytes(b"PK")
    older = content(part / "best.ckpt")
    older["global_step"] = 1
    torch.save(older, part / "older.ckpt")
    assert_same_run(whole().folder, run("part", "resume=auto").folder)
    assert not (part / ".last.123.ckpt").exists()


def test_auto_with_damaged_checkpoints_only(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_bytes(b"PK")
    with pytest.raises(ModelFileError, match=r"last\.ckpt is no checkpoint, or is cut off or damaged"):
        run("run", "resume=auto")


def test_config_of_a_run_folder_resumes_it(run: Run, whole: Run) -> None:
    """The config.yaml that a run left behind is whole: it goes on in its folder."""
    part = run("part", "trainer.max_epochs=2").folder
    config = OmegaConf.load(part / "config.yaml")
    config.resume, config.trainer.max_epochs = "auto", EPOCHS
    assert_same_run(whole().folder, train(config).folder)


# --- a changed config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training_module.optimizer.lr=0.1", r"training_module\.optimizer\.lr was 0\.005 .* and is 0\.1 now"),
        ("training_module.loss.coeffs.forces=3", r"training_module\.loss\.coeffs\.forces was 1\.0 .* and is 3 now"),
        ("training_module.lr_scheduler.scheduler.factor=0.1", r"lr_scheduler\.scheduler\.factor was 0\.6"),
        ("training_module.lr_scheduler.frequency=2", r"lr_scheduler\.frequency was 1"),
        ("lr_scheduler=cosine", r"training_module\.lr_scheduler\..* was"),
        ("model.polynomial_cutoff_p=8", r"training_module\.model\.polynomial_cutoff_p was 6"),
        ("model.num_features=8", r"training_module\.model\.num_features was 4"),
        ("cutoff_radius=3.9", r"training_module\.model\.r_max was 4\.0"),
        ("model.per_type_energy_scales=2.0", r"training_module\.model\.per_type_energy_scales was"),
        ("model.pair_potential={_target_: nequip_like.nn.pair_potential.ZBL}", r"pair_potential\._target_ was null"),
        ("training_module=default", r"training_module\._target_ was .*EMA"),
        ("data.seed=1", r"data\.seed was 0"),
        ("trainer.accumulate_grad_batches=2", r"trainer\.accumulate_grad_batches was 1"),
        ("data.split_seed=1", r"the training data is not that of the run"),
        ("data.val=4", r"the training data is not that of the run .*\(15 frames now\)"),
        ("trainer.max_epochs=1", r"trainer\.max_epochs is 1, but .* has done 2 epochs"),
        ("resume=maybe", r"resume is 'maybe'"),
    ],
)
def test_changes_that_are_refused(change: str, message: str, run: Run, part: Path) -> None:
    before = history(part)
    with pytest.raises(ConfigError, match=message):
        run(part.name, *([] if change.startswith("resume") else ["resume=auto"]), change)
    assert history(part) == before


@pytest.fixture
def part(whole: Run, tmp_path: Path) -> Path:
    """A run that was stopped after two of four epochs; each test has a copy."""
    return Path(shutil.copytree(whole("trainer.max_epochs=2").folder, tmp_path / "part"))


def test_the_advice_is_what_to_type(run: Run, part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the data are read, which cannot be read any more."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # no command is being run, whatever was before in here
    (unreadable := tmp_path / "unreadable.xyz").write_text("no structures\n")
    with pytest.raises(ConfigError) as caught:
        run("part", "resume=auto", "training_module.optimizer.lr=0.1", f"data.train={unreadable}")
    assert caught.value.message == (
        f"training_module.optimizer.lr was 0.005 in the run that {part}/checkpoints/last.ckpt is of, and is 0.1 now; "
        "a resumed run goes on with what the checkpoint holds"
    )
    assert caught.value.advice == (
        f"set it back, training_module.optimizer.lr=0.005, or begin a new run with its weights: finetune.source={part}"
    )
    source = caught.value.advice.rpartition(" ")[2]
    tuned = run("tuned", source, "training_module.optimizer.lr=0.1", "trainer.max_epochs=1")
    assert last(tuned.folder)["nequip_like"]["config"]["training_module"]["optimizer"]["lr"] == 0.1


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("training_module.loss.coeffs.forces=100", "training_module.loss.coeffs.forces"),
        ("data.seed=7", "data.seed"),
        ("training_module.lr_scheduler.scheduler.factor=0.3", "training_module.lr_scheduler.scheduler.factor"),
        ("model.num_features=6", "training_module.model.num_features"),
        ("training_module=default", "training_module._target_"),
    ],
)
def test_what_the_config_tells_is_refused_before_the_data_are_read(
    change: str, key: str, run: Run, part: Path, tmp_path: Path
) -> None:
    (unreadable := tmp_path / "unreadable.xyz").write_text("no structures\n")
    with pytest.raises(ConfigError, match=rf"^{key} was .* in the run that .*last\.ckpt is of, and is .* now; "):
        run(part.name, "resume=auto", change, f"data.train={unreadable}")


def test_a_new_run_cannot_have_another_model(run: Run, part: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run("part", "resume=auto", "model.num_features=6")
    assert caught.value.advice == "set it back, training_module.model.num_features=4, or start a new run"


def test_checkpoint_and_auto_exclude_each_other(run: Run, part: Path) -> None:
    with pytest.raises(ConfigError, match="ckpt_path and resume are both given"):
        run("part", "resume=auto", f"ckpt_path={part}/checkpoints/last.ckpt")


def test_changes_that_take_effect(run: Run, part: Path) -> None:
    """Limits, patience, validation batches, metrics, batch size and EMA decay are those of the new config."""
    result = run(
        "part",
        "resume=auto",
        "trainer.max_epochs=3",
        "callbacks.early_stopping.patience=1",
        "data.val_batch_size=1",
        "data.batch_size=7",
        "training_module.ema_decay=0",
        "training_module.val_metrics.coeffs.forces_rmse=3",
        "training_module.train_metrics=${training_module.val_metrics}",
    )
    state = last(result.folder)
    assert state["global_step"] == 6 + 2
    stopping = next(value for name, value in state["callbacks"].items() if "EarlyStopping" in name)
    assert stopping["patience"] == 1
    for name, weight in state["state_dict"].items():
        if name.startswith("model."):
            assert torch.equal(state["state_dict"][f"ema.module.{name.removeprefix('model.')}"], weight)
    final = result.metrics
    assert final["val0_epoch/weighted_sum"] == pytest.approx(
        0.25 * final["val0_epoch/per_atom_energy_rmse"] + 0.75 * final["val0_epoch/forces_rmse"], rel=1e-12
    )


def test_other_batches_within_an_epoch_are_refused(run: Run) -> None:
    run("part", "trainer.max_steps=4")
    with pytest.raises(ConfigError, match="within an epoch of steps of 5 frames; now a step has 7"):
        run("part", "resume=auto", "data.batch_size=7")


@pytest.mark.parametrize(
    ("processes", "frames", "said"),
    [
        (2, 8, None),
        (4, 8, "note: 4 processes go on in place of 2: steps are of 8 frames, as before, and in the same order; "),
        (
            1,
            4,
            "note: 1 processes go on in place of 2: the order of the frames is the same, but a step has 4 of them in ",
        ),
    ],
)
def test_another_number_of_processes_is_said(processes, frames, said):
    """What becomes of the steps; tests/distributed has the runs."""
    loops = {"fit_loop": {"state_dict": {"combined_loader": [{"epoch": 1, "batches": 2, "frames": 8}]}}}
    resumption = Resumption(Path("last.ckpt"), {"nequip_like": {"processes": [{}, {}]}, "loops": loops})
    text = resumption.describe_processes(processes, frames)
    assert text is None if said is None else (text or "").startswith(said)
