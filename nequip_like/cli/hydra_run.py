"""Running a config that is composed already, as Hydra would run it."""

from __future__ import annotations

import argparse
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import run_and_report
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import configure_log
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig, read_write

from nequip_like.composition.hydra_compose import JOB_NAME, search_path


def is_single_run(command_line: argparse.Namespace, config: DictConfig) -> bool:
    """Whether a command line asks for one run, and for nothing that Hydra tells or tries out itself.

    Args:
        command_line: The parsed command line.
        config: The composed config, with Hydra's section.
    """
    options = ("hydra_help", "shell_completion", "cfg", "info", "resolve", "multirun")
    asks = any(getattr(command_line, option) for option in options)
    return not (asks or config.hydra.mode == RunMode.MULTIRUN or config.hydra.verbose)


def run_composed(command_line: argparse.Namespace, config: DictConfig, folder: str, task: TaskFunction) -> None:
    """Run a composed config.

    Args:
        command_line: The parsed command line.
        config: The composed config, with Hydra's section. It is changed.
        folder: Where configs are looked up if the command line names no other folder.
        task: Gets the config without Hydra's section. Its errors end the process, with Hydra's form of a traceback.
    """
    with read_write(config.hydra):
        config.hydra.mode = RunMode.RUN
    hydra = _Composed.create_main_hydra2(task_name=JOB_NAME, config_search_path=search_path(command_line, folder))
    try:
        run_and_report(lambda: _run(hydra, command_line, config, task))
    finally:
        GlobalHydra.instance().clear()


def _run(hydra: Hydra, command_line: argparse.Namespace, config: DictConfig, task: TaskFunction) -> None:
    hydra.config = config  # type: ignore[attr-defined] # of _Composed, which Hydra's maker does not know
    hydra.run(config_name=command_line.config_name or "train", task_function=task, overrides=command_line.overrides)


class _Composed(Hydra):
    """Hydra with a config that is there already."""

    config: DictConfig

    def compose_config(self, *arguments: Any, with_log_configuration: bool = False, **options: Any) -> DictConfig:
        """Called by Hydra."""
        if with_log_configuration:
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return self.config
