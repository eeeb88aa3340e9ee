"""``nequip-train -m hydra/sweeper=optuna`` as a user types it."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("optuna")
from hydra.core.utils import JobReturn, JobStatus
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from nequip_like.cli.sweeps.optuna_sweeper import OptunaSweeper, check_searches
from nequip_like.errors import ConfigError
from nequip_like.workflow.sweeps.study import StudySettings, open_study
from tests.cli.test_output import end, folder, start  # noqa: F401 (a fixture)

SEARCH = ("config.yaml", "-m", "hydra/sweeper=optuna", "hydra.sweep.dir=many", "trainer.max_epochs=2")
RATES = "training_module.optimizer.lr=tag(log,interval(1e-3,1e-1))"


@pytest.mark.slow
def test_nothing_to_choose(folder: Path) -> None:  # noqa: F811
    status, _, errors = end(start(*SEARCH))
    assert status == 2
    assert errors.startswith("error: hydra/sweeper=optuna has nothing to choose\n  -> give values: ")


def test_a_search_without_values() -> None:
    with pytest.raises(ConfigError, match="hydra/sweeper=optuna has nothing to choose"):
        check_searches({})


def test_an_error_of_the_package_ends_the_search(tmp_path: Path) -> None:
    """The run has failed for the study, too: the same command goes on with others, and not with this one for ever."""
    outcome = JobReturn(status=JobStatus.FAILED)
    outcome.return_value = RuntimeError("a bug")
    sweeper, study = OptunaSweeper(StudySettings()), open_study(tmp_path, StudySettings())
    sweeper.launcher = SimpleNamespace(launch=lambda overrides, initial_job_idx: [outcome])  # type: ignore[assignment]
    trial = study.ask({"lr": FloatDistribution(0.0, 1.0)})
    with pytest.raises(RuntimeError, match="a bug"):
        sweeper._launch(study, {trial.number: trial.params}, [])
    assert [each.state for each in study.trials] == [TrialState.FAIL]


@pytest.mark.slow
def test_a_search_that_goes_on(folder: Path) -> None:  # noqa: F811
    """Two runs, then a third of the same study; a search with another cutoff is refused."""
    status, output, errors = end(start(*SEARCH, RATES, "hydra.sweeper.n_trials=2"))
    assert status == 0, output + errors
    status, output, errors = end(start(*SEARCH, RATES, "hydra.sweeper.n_trials=3"))
    assert status == 0, output + errors
    trials = open_study(folder / "many", StudySettings()).trials
    with (folder / "many" / "runs.csv").open(newline="") as file:
        rows = {int(row["run"]): row for row in csv.DictReader(file)}
    assert sorted(rows) == [0, 1, 2]
    for trial in trials:
        row = rows[trial.number]
        assert float(row["training_module.optimizer.lr"]) == trial.params["training_module.optimizer.lr"]
        assert float(row["best"]) == trial.value
        assert min(trial.intermediate_values.values()) == pytest.approx(trial.value, rel=1e-6)
        assert len(trial.intermediate_values) == 2
    assert len({row["training_module.optimizer.lr"] for row in rows.values()}) == 3
    assert (folder / "many" / "runs.png").is_file()
    status, _, errors = end(start(*SEARCH, RATES, "cutoff_radius=3.5"))
    assert status == 2
    assert "study.log is the study of other runs: cutoff_radius=3.5 differ" in errors


@pytest.mark.slow
def test_side_by_side(folder: Path) -> None:  # noqa: F811
    """Two runs at a time by joblib: a line for each, and what they print in their folders."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    options = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=many")
    status, output, errors = end(start("config.yaml", "-m", "seed=1,2", *options))
    assert status == 0, output + errors
    assert {line.split(",")[0] for line in output.splitlines() if line.startswith("run ")} == {
        "run 0: seed=1: done",
        "run 1: seed=2: done",
    }
    assert "duplicates" not in output
    for number in (0, 1):
        assert "duplicates" in (folder / "many" / str(number) / "printed.log").read_text()
