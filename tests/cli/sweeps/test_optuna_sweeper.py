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

from nequip_like.cli.sweeps.optuna_sweeper import OptunaSweeper, _tell, check_searches
from nequip_like.cli.train import main
from nequip_like.errors import ConfigError
from nequip_like.report.sweeps.runs import Run
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


def test_the_study_gets_the_best_of_all_that_a_run_reported(tmp_path: Path) -> None:
    """One that was killed before its first checkpoint began anew, and was worse then."""
    study = open_study(tmp_path, StudySettings())
    for number, (best, larger, told) in enumerate([(0.5, False, 0.25), (0.5, True, -0.5), (0.125, False, 0.125)]):
        trial = study.ask({"lr": FloatDistribution(0.0, 1.0)})
        trial.report(0.25, 0)
        _tell(study, number, Run(number, "f", [], "done", "v", best, larger))
        assert study.trials[number].value == told


WRONG = {
    "sampler": ("hydra.sweeper.sampler=tpee", RATES, "hydra.sweeper.sampler is 'tpee'"),
    "number": ("hydra.sweeper.n_trials=0", RATES, "hydra.sweeper.n_trials is 0"),
    "direction": ("+hydra.sweeper.direction=maximize", RATES, "direction"),
    "key": ("trainer.max_epochs=2", "training_module.optimizer.rate=interval(1,2)", "rate"),
    "end": ("seed=1", "training_module.optimizer.lr=interval(-1,1)", "lr is -1"),
    "option": ("seed=1", "model=nequip,nequip_S,nequip_XXL", "nequip_XXL"),
    "values": ("seed=1", "training_module.optimizer.lr=interval(2,1)", "cannot be searched: "),
    "nothing": ("seed=1", "seed=2", "hydra/sweeper=optuna has nothing to choose"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_of_a_search_are_found_before_it_begins(folder: Path, case: str, monkeypatch, capsys) -> None:  # noqa: F811
    first, second, says = WRONG[case]
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["nequip-train", *SEARCH, first, second, "--check"])
    with pytest.raises(SystemExit) as end_of_command:
        main()
    assert end_of_command.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert says in errors
    assert "\n  -> " in errors
    assert not (folder / "many").exists()


def test_a_sound_search_says_what_was_checked(folder: Path, monkeypatch, capsys) -> None:  # noqa: F811
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["nequip-train", *SEARCH, RATES, "model.l_max=1,2,0", "--check"])
    main()
    said = capsys.readouterr().out
    assert "checked as well: 3 configs with the ends and options of what is searched; not those between" in said


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
