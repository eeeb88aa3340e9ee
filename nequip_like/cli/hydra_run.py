"""Running configs that are composed already, one or several, as Hydra would run them."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import run_and_report
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import configure_log
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from nequip_like.composition.hydra_compose import JOB_NAME, search_path
from nequip_like.composition.overrides import convert_to_plain
from nequip_like.workflow.config.trust import OWN_SWEEPER
from nequip_like.workflow.run_folder.new_folders import format_folder_override


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


def sweep_composed(
    command_line: argparse.Namespace,
    config: DictConfig,
    folder: str,
    task: TaskFunction,
    jobs: Mapping[tuple[str, ...], DictConfig],
) -> None:
    """Do the runs of a ``--multirun``: the sweeper lists or chooses them, the launcher runs them.

    Args:
        command_line: The parsed command line.
        config: The config without the values that vary, with Hydra's section, which names the folder. It is changed.
        folder: Where configs are looked up if the command line names no other folder.
        task: Gets the config of each run without Hydra's section.
        jobs: Configs that are composed already, by their overrides; others are composed when their run begins.

    Raises:
        ConfigError: If a search cannot be made.
    """
    name, overrides = command_line.config_name or "train", command_line.overrides
    with read_write(config.hydra), open_dict(config.hydra):  # for runs that are composed later
        config.hydra.overrides.hydra.append(format_folder_override("sweep", config.hydra.sweep.dir))
        # As the runs were listed: what makes room for a mapping in the place of a list is among them.
        parsed = OverridesParser.create().parse_overrides(overrides)
        config.hydra.overrides.task = [str(entry.input_line) for entry in parsed if not entry.is_hydra_override()]
    with _started(command_line, config, folder, RunMode.MULTIRUN) as hydra:
        hydra.config_loader = _ComposedJobs(search_path(command_line, folder), jobs)
        if config.hydra.sweeper.get("_target_") == OWN_SWEEPER:
            _search(hydra, config, task)
        else:
            run_and_report(lambda: hydra.multirun(config_name=name, task_function=task, overrides=overrides))


def _search(hydra: Hydra, config: DictConfig, task: TaskFunction) -> None:
    """Let our own sweeper choose the runs. Hydra makes sweepers of ``hydra_plugins`` only."""
    from nequip_like.cli.sweeps.optuna_sweeper import OptunaSweeper

    sweeper = OptunaSweeper.of(convert_to_plain(config.hydra.sweeper, resolve=True))
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    sweeper.setup(hydra_context=context, task_function=task, config=config)
    sweeper.sweep(list(map(str, convert_to_plain(config.hydra.overrides.task))))


@contextmanager
def _started(
    command_line: argparse.Namespace, config: DictConfig, folder: str, mode: RunMode = RunMode.RUN
) -> Iterator[Hydra]:
    """Hydra, which takes a composed config for what it composes itself."""
    with read_write(config.hydra):
        config.hydra.mode = mode
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


class _ComposedJobs(ConfigLoaderImpl):
    """Gives the runs of a ``--multirun`` the configs that they were checked with.

    Args:
        path: Where further configs are looked up.
        jobs: The configs, by the overrides of their runs.
    """

    def __init__(self, path: ConfigSearchPath, jobs: Mapping[tuple[str, ...], DictConfig]) -> None:
        super().__init__(path)
        self.jobs = dict(jobs)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Called by Hydra, to see whether a run can be composed, and when it begins."""
        if (composed := self.jobs.get(tuple(sweep_overrides))) is None:
            return super().load_sweep_config(master_config, sweep_overrides)
        config = copy.deepcopy(composed)
        OmegaConf.set_readonly(config.hydra, None)  # launchers write the number of the run into it
        return config
