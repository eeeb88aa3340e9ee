"""The study of a search in its file: settings, going on, and who ends which run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("optuna")
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from nequip_like.errors import ConfigError
from nequip_like.workflow.sweeps.pruning import PrunedError, TrialReport, find_best
from nequip_like.workflow.sweeps.study import STUDY_FILE, StudySettings, check_same_search, open_study

SPACE = {"lr": FloatDistribution(0.0, 1.0)}
MONITOR = "val0_epoch/weighted_sum"
EARLY = StudySettings(startup_trials=1, warmup_validations=1)


def make_trainer(mode: str = "min") -> Any:
    follower = ModelCheckpoint(monitor=MONITOR, mode=mode)
    state = SimpleNamespace(fn=TrainerFn.FITTING)
    return SimpleNamespace(
        callback_metrics={}, state=state, sanity_checking=False, current_epoch=0, checkpoint_callbacks=[follower]
    )


def validate(report: TrialReport, trainer: Any, values: list[float]) -> None:
    for value in values:
        trainer.callback_metrics = {MONITOR: torch.tensor(value, dtype=torch.float64)}
        report.on_validation_end(trainer, None)  # type: ignore[arg-type]
        trainer.current_epoch += 1


def test_settings_are_checked() -> None:
    assert StudySettings.of({"n_trials": 3, "params": None, "_target_": "x"}) == StudySettings(n_trials=3)
    with pytest.raises(ConfigError, match=r"hydra.sweeper.n_trials is 0"):
        StudySettings.of({"n_trials": 0})
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.sampler is 'tpee'") as caught:
        StudySettings.of({"sampler": "tpee"})
    assert "did you mean 'tpe'" in caught.value.advice
    with pytest.raises(ConfigError, match=r"hydra\.sweeper.*direction"):
        StudySettings.of({"direction": "maximize"})
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.seed is 99999999999"):
        StudySettings.of({"seed": 99999999999})


def test_a_study_goes_on_with_other_choices(tmp_path: Path) -> None:
    """Opened again it holds what was told, and the same seed does not choose the same once more."""
    settings = StudySettings(sampler="random", seed=4)
    study = open_study(tmp_path, settings)
    first = [study.ask(SPACE).params["lr"] for _ in range(2)]
    study.tell(0, 0.5)
    again = open_study(tmp_path, settings)
    assert [trial.params["lr"] for trial in again.trials] == first
    assert [trial.state for trial in again.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert again.best_value == 0.5
    assert again.ask(SPACE).params["lr"] not in first
    assert open_study(tmp_path / "other", settings).ask(SPACE).params["lr"] == first[0]


def test_other_runs_are_another_study(tmp_path: Path) -> None:
    study = open_study(tmp_path, EARLY)
    check_same_search(study, ["seed=1", "cutoff_radius=4.0"], SPACE, tmp_path)
    check_same_search(open_study(tmp_path, EARLY), ["cutoff_radius=4.0", "seed=1", "resume=auto"], SPACE, tmp_path)
    with pytest.raises(ConfigError, match=r"study of other runs: seed=1, seed=2 differ") as caught:
        check_same_search(study, ["seed=2", "cutoff_radius=4.0"], SPACE, tmp_path)
    assert str(tmp_path / STUDY_FILE) in caught.value.message


def test_other_values_are_another_study(tmp_path: Path) -> None:
    """Another list of options, which Optuna cannot go on with; the ends of an interval may change, and keys go."""
    study = open_study(tmp_path, EARLY)
    study.ask({"model": CategoricalDistribution(["S", "M"]), **SPACE})
    check_same_search(study, [], {"lr": FloatDistribution(0.0, 2.0), "seed": IntDistribution(0, 3)}, tmp_path)
    for changed in (CategoricalDistribution(["S", "M", "L"]), FloatDistribution(0.0, 1.0)):
        with pytest.raises(ConfigError, match=r"study.log is the study of other values of model: "):
            check_same_search(study, [], {"model": changed}, tmp_path)


def test_a_bad_run_is_pruned(tmp_path: Path) -> None:
    """After the first run, and after its own first validation, one that is worse than it was by then ends."""
    study = open_study(tmp_path, EARLY)
    study.ask(SPACE)
    validate(TrialReport(study, 0, MONITOR), make_trainer(), [3.0, 2.0, 1.0])
    study.tell(0, 1.0)
    study.ask(SPACE)
    trainer = make_trainer()
    report = TrialReport(open_study(tmp_path, EARLY), 1, MONITOR)  # as another process does it
    validate(report, trainer, [9.0])
    with pytest.raises(PrunedError) as caught:
        validate(report, trainer, [8.0])
    end = caught.value
    assert (end.best, end.best_epoch, end.monitored, end.larger_is_better) == (8.0, 1, MONITOR, False)
    assert end.message == "worse than other runs of the study, at epoch 1"
    assert study.trials[1].intermediate_values == {0: 9.0, 1: 8.0}


def test_large_values_may_be_good(tmp_path: Path) -> None:
    study = open_study(tmp_path, EARLY)
    study.ask(SPACE)
    validate(TrialReport(study, 0, MONITOR), make_trainer("max"), [0.1, 0.5])
    study.tell(0, -0.5)
    study.ask(SPACE)
    validate(TrialReport(study, 1, MONITOR), make_trainer("max"), [0.2, 0.6])
    assert study.trials[1].intermediate_values == {0: -0.2, 1: -0.6}
    study.tell(1, -0.6)
    study.ask(SPACE)
    with pytest.raises(PrunedError) as caught:
        validate(TrialReport(study, 2, MONITOR), make_trainer("max"), [0.2, 0.3])
    assert (caught.value.best, caught.value.best_epoch, caught.value.larger_is_better) == (pytest.approx(0.3), 1, True)


def test_a_run_that_goes_on_reports_on(tmp_path: Path) -> None:
    """Validations before the resume keep their numbers; those outside of the training are none."""
    study = open_study(tmp_path, EARLY)
    study.ask(SPACE)
    trainer = make_trainer()
    validate(TrialReport(study, 0, MONITOR), trainer, [3.0, 2.0])
    trainer.sanity_checking = True
    resumed = TrialReport(study, 0, MONITOR)
    validate(resumed, trainer, [99.0])
    trainer.sanity_checking = False
    validate(resumed, trainer, [1.0])
    trainer.state.fn = TrainerFn.TESTING
    validate(resumed, trainer, [99.0])
    assert study.trials[0].intermediate_values == {0: 3.0, 1: 2.0, 2: 1.0}


def test_a_run_that_goes_on_remembers_its_best(tmp_path: Path) -> None:
    """Its best value was before the interruption, with its epoch; worse ones since do not replace it."""
    study = open_study(tmp_path, EARLY)
    study.ask(SPACE)
    validate(TrialReport(study, 0, MONITOR), make_trainer(), [1.0, 1.0, 1.0, 1.0, 1.0])
    study.tell(0, 1.0)
    study.ask(SPACE)
    trainer = make_trainer()
    trial = TrialReport(open_study(tmp_path, StudySettings(pruner="none")), 1, MONITOR)
    validate(trial, trainer, [float("nan"), 2.0, 3.0])
    resumed = TrialReport(open_study(tmp_path, EARLY), 1, MONITOR)
    with pytest.raises(PrunedError) as caught:
        validate(resumed, trainer, [5.0])
    assert (caught.value.best, caught.value.best_epoch) == (2.0, 1)
    assert find_best(study.trials[1]) == 2.0
