"""The study of a search: a file in the sweep's folder that holds what was tried and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from nequip_like.arguments import Count, Range, check, check_key
from nequip_like.errors import ConfigError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study

STUDY_FILE = "study.log"
SECTION = "hydra.sweeper"
_NAME = "sweep"
_FIXED = "overrides"  # attribute of the study: what all its runs have
_BESIDE = ("_target_", "params")  # in the section, and no setting of the study
_Number = Annotated[int, Range(low=0)]
_Seed = Annotated[int, Range(low=0, high=2**31)]  # NumPy's generators take no larger ones


@dataclass(frozen=True)
class StudySettings:
    """How a study chooses runs and ends them.

    Attributes:
        n_trials: Runs of the whole study.
        n_jobs: Runs that are chosen at a time.
        sampler: ``tpe``, ``gp`` or ``random``.
        seed: Of what is chosen.
        pruner: ``median``, ``hyperband`` or ``none``.
        startup_trials: Runs before any is compared with the others.
        warmup_validations: Validations of a run before it may be ended.
    """

    n_trials: Count = 20
    n_jobs: Count = 1
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    seed: _Seed = 0
    pruner: Literal["median", "hyperband", "none"] = "median"
    startup_trials: _Number = 5
    warmup_validations: _Number = 5

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> StudySettings:
        """Read the section ``hydra.sweeper`` of a config.

        Args:
            section: The section as plain values.

        Raises:
            ConfigError: Naming the key.
        """
        kinds = get_type_hints(cls, include_extras=True)
        for name in section:
            check_key(SECTION, name, (*kinds, *_BESIDE))
        values = {field.name: section[field.name] for field in fields(cls) if field.name in section}
        for name, value in values.items():
            check(f"{SECTION}.{name}", value, kinds[name])
        return cls(**values)


def require_optuna() -> None:
    """Refuse a search without Optuna.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            "hydra/sweeper=optuna needs the package optuna", "pip install 'nequip-like[optuna]', or list the values"
        ) from error


def open_study(folder: Path, settings: StudySettings) -> Study:
    """Open the study of a sweep, a new one if there is none yet.

    The file is a log that every process appends to, so runs on other machines reach it over a network file system.

    Args:
        folder: The folder of the sweep.
        settings: How it chooses runs and ends them.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / STUDY_FILE)))
    study = optuna.create_study(
        study_name=_NAME, storage=storage, load_if_exists=True, pruner=_build_pruner(settings), direction="minimize"
    )
    # A search that goes on must not choose again what the same random numbers chose when it began.
    study.sampler = _build_sampler(settings, len(study.get_trials(deepcopy=False)))
    return study


def check_same_search(
    study: Study, overrides: Sequence[str], space: Mapping[str, BaseDistribution], folder: Path
) -> None:
    """Refuse to go on with a study whose runs were given something else: their values could not be compared.

    The ends of an interval may change, and keys may come and go; of a few options another list is another search.

    Args:
        study: The study.
        overrides: What all runs are given.
        space: What varies.
        folder: The folder of the sweep.

    Raises:
        ConfigError: Naming what differs.
    """
    from optuna.distributions import check_distribution_compatibility

    for trial in study.get_trials(deepcopy=False):
        for key in trial.distributions.keys() & space.keys():
            try:
                check_distribution_compatibility(trial.distributions[key], space[key])
            except ValueError as error:
                raise ConfigError(
                    f"{folder / STUDY_FILE} is the study of other values of {key}: {error}",
                    "give the same list or kind of values to go on with it, or another hydra.sweep.dir",
                ) from error
    given = sorted(entry for entry in overrides if not entry.startswith("resume="))
    before = study.user_attrs.get(_FIXED)
    if before is None:
        study.set_user_attr(_FIXED, given)
    elif before != given:
        differing = sorted(set(before) ^ set(given))
        raise ConfigError(
            f"{folder / STUDY_FILE} is the study of other runs: {', '.join(differing)} differ",
            "give the same overrides to go on with it, or another hydra.sweep.dir",
        )


def _build_pruner(settings: StudySettings) -> BasePruner:
    from optuna import pruners

    if settings.pruner == "median":
        return pruners.MedianPruner(settings.startup_trials, settings.warmup_validations)
    if settings.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=max(1, settings.warmup_validations))
    return pruners.NopPruner()


def _build_sampler(settings: StudySettings, done: int) -> BaseSampler:
    from optuna import samplers

    seed = settings.seed + done
    if settings.sampler == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=max(1, settings.startup_trials))
    if settings.sampler == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=max(1, settings.startup_trials))
    return samplers.RandomSampler(seed=seed)
