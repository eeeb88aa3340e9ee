"""The runs of a ``--multirun``, composed as Hydra will, so that each can be checked before the first begins."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from nequip_like.composition.hydra_compose import compose_arguments, search_path
from nequip_like.errors import ConfigError, NequipLikeError
from nequip_like.whole_files import path_of
from nequip_like.workflow.run_folder.new_folders import format_folder_override

_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"


@dataclass(frozen=True)
class Job:
    """One of several runs.

    Attributes:
        number: Its number, from 0.
        overrides: Everything that it is given on the command line.
        varied: Those that not all runs have.
    """

    number: int
    overrides: list[str]
    varied: list[str]

    def describe(self) -> str:
        """``run 1: seed=2``."""
        return f"run {self.number}: {' '.join(self.varied)}" if self.varied else f"run {self.number}"


def list_jobs(command_line: argparse.Namespace, config: DictConfig, folder: str) -> list[Job] | None:
    """List the runs of a ``--multirun``, in their order.

    Args:
        command_line: The parsed command line.
        config: The config without the values that vary, with Hydra's section.
        folder: Where configs are looked up if the command line names no other folder.

    Returns:
        None if they are chosen while the runs go on, by a sweeper other than Hydra's own.

    Raises:
        ConfigError: If Hydra's sweeper does not know how to vary a value.
    """
    sweeper = config.hydra.sweeper
    if sweeper.get("_target_") != _SWEEPER:
        return None
    loader = ConfigLoaderImpl(search_path(command_line, folder))
    params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides([*params, *command_line.overrides])
    run_overrides = [override for override in overrides if not override.is_hydra_override()]
    for parsed in run_overrides:
        if parsed.is_sweep_override() and not parsed.is_discrete_sweep():
            raise ConfigError(
                f"'{parsed.input_line}' does not say which values",
                f"list them, {parsed.key_or_group}=a,b,c, or write {parsed.key_or_group}=range(1,4)",
            )
    (jobs,) = BasicSweeper.split_arguments(run_overrides, None)
    common = set.intersection(*map(set, jobs))
    return [Job(number, job, [entry for entry in job if entry not in common]) for number, job in enumerate(jobs)]


def compose_job(command_line: argparse.Namespace, config: DictConfig, folder: str, job: Job) -> DictConfig:
    """Compose the config of one run.

    Args:
        command_line: The parsed command line.
        config: The config without the values that vary, with Hydra's section.
        folder: Where configs are looked up if the command line names no other folder.
        job: The run.

    Raises:
        ConfigError: As :func:`~nequip_like.composition.hydra_compose.compose_arguments`.
    """
    folder_of_all = path_of(str(config.hydra.sweep.dir))  # the same, also if it names the time
    place = format_folder_override("sweep", folder_of_all)
    arguments = {"multirun": False, "overrides": [*list_hydra_overrides(command_line), place, *job.overrides]}
    return compose_arguments(argparse.Namespace(**{**vars(command_line), **arguments}), folder, job.number)


def list_hydra_overrides(command_line: argparse.Namespace) -> list[str]:
    """List the overrides that are Hydra's own, which each run gets; but the one that says that there are several.

    Args:
        command_line: The parsed command line.
    """
    return [
        str(parsed.input_line)
        for parsed in OverridesParser.create().parse_overrides(command_line.overrides)
        if parsed.is_hydra_override() and parsed.key_or_group != "hydra.mode"
    ]


@contextmanager
def naming_job(job: Job) -> Iterator[None]:
    """Add the number and the overrides of a run to the message of its error."""
    try:
        yield
    except NequipLikeError as error:
        error.message = f"{error.message} ({job.describe()})"
        raise
