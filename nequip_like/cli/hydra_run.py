"""Running a config that is composed already, as Hydra would run it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
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
    name, overrides = command_line.config_name or "train", command_line.overrides
    with _started(command_line, config, folder) as hydra:
        run_and_report(lambda: hydra.run(config_name=name, task_function=task, overrides=overrides))


def show_composed(command_line: argparse.Namespace, config: DictConfig, folder: str) -> None:
    """Print a composed config, or the part of it that the command line asks for with ``--cfg`` and ``--package``.

    Args:
        command_line: The parsed command line.
        config: The composed config, with Hydra's section. It is changed.
        folder: Where configs are looked up if the command line names no other folder.
    """
    name, overrides = command_line.config_name or "train", command_line.overrides
    kind, package, resolve = command_line.cfg, command_line.package, command_line.resolve
    with _started(command_line, config, folder) as hydra:
        run_and_report(lambda: hydra.show_cfg(name, overrides, cfg_type=kind, package=package, resolve=resolve))


@contextmanager
def _started(command_line: argparse.Namespace, config: DictConfig, folder: str) -> Iterator[Hydra]:
    """Hydra, which takes a composed config for what it composes itself."""
    with read_write(config.hydra):
        config.hydra.mode = RunMode.RUN
    hydra = _Composed.create_main_hydra2(task_name=JOB_NAME, config_search_path=search_path(command_line, folder))
    hydra.config = config  # type: ignore[attr-defined] # of _Composed, which Hydra's maker does not know
    try:
        yield hydra
    finally:
        GlobalHydra.instance().clear()


class _Composed(Hydra):
    """Hydra with a config that is there already."""

    config: DictConfig

    def compose_config(self, *arguments: Any, with_log_configuration: bool = False, **options: Any) -> DictConfig:
        """Called by Hydra."""
        if with_log_configuration:
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return self.config
