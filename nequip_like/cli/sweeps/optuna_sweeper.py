"""Hydra's sweeper that asks a study for the values of each run, and tells it what came of them.

Hydra's own plugin for Optuna is bound to Optuna 2, and reports the end of a run only. Here any launcher of Hydra's runs
the trials, each reports its validations to the study's file by itself, and a sweep that was stopped goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from nequip_like.cli.sweeps.search_space import read_search_space, write_override
from nequip_like.errors import ConfigError
from nequip_like.report.sweeps.runs import PRUNED, Run
from nequip_like.workflow.sweeps.pruning import find_best
from nequip_like.workflow.sweeps.study import StudySettings, check_same_search, open_study, require_optuna

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study


_SAME = 1e-6  # relative: what is reported is not rounded as what is noted
_MOST_FAILURES = 3  # at the beginning of a search, without any other run


class OptunaSweeper(Sweeper):
    """Does the runs of a study that are left.

    Args:
        settings: How the study chooses runs and ends them.
        params: What is searched, beside the command line: values by key.
    """

    def __init__(self, settings: StudySettings, params: Mapping[str, Any] | None = None) -> None:
        self.settings = settings
        self.params = dict(params or {})
        self.launcher: Launcher | None = None
        self.context: HydraContext | None = None
        self.folder = Path()

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> OptunaSweeper:
        """Make the sweeper that the section ``hydra.sweeper`` describes.

        Args:
            section: The section as plain values.

        Raises:
            ConfigError: If a value cannot be used, or Optuna is not installed.
        """
        require_optuna()
        return cls(StudySettings.of(section), section.get("params"))

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher; as Hydra calls it."""
        self.context, self.folder = hydra_context, Path(str(config.hydra.sweep.dir))
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, self.folder / "multirun.yaml")

    def sweep(self, arguments: list[str]) -> None:
        """Do the runs; as Hydra calls it.

        Args:
            arguments: The overrides, of which some vary.

        Raises:
            ConfigError: If nothing varies, the study in the folder is another one, or every run fails.
        """
        assert self.context is not None
        space, fixed = self.read_space(arguments, self.context.config_loader)
        study = open_study(self.folder, self.settings)
        check_same_search(study, fixed, space, self.folder)
        for trial in study.get_trials(deepcopy=False):
            if not trial.state.is_finished():  # the command was ended while it ran
                self._launch(study, {trial.number: trial.params}, [*fixed, "resume=auto"])
        while left := self.settings.n_trials - len(study.get_trials(deepcopy=False)):
            if left < 0:
                break
            trials = [study.ask(space) for _ in range(min(self.settings.n_jobs, left))]
            self._launch(study, {trial.number: trial.params for trial in trials}, fixed)
            _check_not_all_failed(study)

    def read_space(
        self, arguments: Sequence[str], loader: ConfigLoader | None = None
    ) -> tuple[dict[str, BaseDistribution], list[str]]:
        """What varies, and what does not.

        Args:
            arguments: The overrides that were typed.
            loader: Finds the options of a group for ``glob(*)``.

        Raises:
            ConfigError: If nothing varies, or values cannot be searched.
        """
        typed = [f"{key}={value}" for key, value in self.params.items()] + list(arguments)
        space, fixed = read_search_space(typed, loader)
        check_searches(space)
        return space, fixed

    def _launch(self, study: Study, chosen: Mapping[int, Mapping[str, Any]], fixed: Sequence[str]) -> None:
        """Do some runs, whose numbers follow each other, and tell the study what came of them."""
        assert self.launcher is not None
        overrides = [[*fixed, *(write_override(*pair) for pair in values.items())] for values in chosen.values()]
        outcomes = dict(zip(chosen, self.launcher.launch(overrides, initial_job_idx=min(chosen)), strict=True))
        for number, outcome in outcomes.items():
            _tell(study, number, outcome.return_value if outcome.status == JobStatus.COMPLETED else None)
        for outcome in outcomes.values():
            _ = outcome.return_value  # raises what is an error of no user, once all outcomes are in the study


def check_searches(space: Mapping[str, Any]) -> None:
    """Refuse a search without anything to choose.

    Raises:
        ConfigError: If nothing varies.
    """
    if not space:
        raise ConfigError(
            "hydra/sweeper=optuna has nothing to choose",
            "give values: model.l_max=1,2 'training_module.optimizer.lr=tag(log,interval(1e-3,1e-1))'",
        )


def _check_not_all_failed(study: Study) -> None:
    """Give a search up whose runs all fail: it is not the values that are wrong."""
    from optuna.trial import TrialState

    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    if len(states) >= _MOST_FAILURES and all(state == TrialState.FAIL for state in states):
        raise ConfigError(
            f"all of the first {len(states)} runs of the search failed",
            "see the errors above; what is wrong with every run is found by one: nequip-train without -m",
        )


def _tell(study: Study, number: int, run: Run | None) -> None:
    """Tell a study what came of a run; None if it ended with an error of the package."""
    from optuna.trial import TrialState

    if run is None:
        study.tell(number, state=TrialState.FAIL)
    elif run.status.startswith(PRUNED):
        study.tell(number, state=TrialState.PRUNED)
    elif run.status == "done" and run.best is not None and math.isfinite(run.best):
        # A run that was interrupted before its first checkpoint began anew: what it had reported by then counts, too.
        error, reported = -run.best if run.larger_is_better else run.best, find_best(study.get_trials()[number])
        is_same = math.isclose(error, reported, rel_tol=_SAME)
        study.tell(number, error if is_same else min(error, reported))
    else:
        study.tell(number, state=TrialState.FAIL)
