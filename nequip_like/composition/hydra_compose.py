"""Composing a config as Hydra does, and checking it before anything in it is called."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from nequip_like.composition.config_files import check_config_file, load_config, register_user_folder
from nequip_like.composition.hydra_errors import CONFIG_ERRORS, find_failed_key, translate_error
from nequip_like.composition.overrides import (
    check_choices,
    check_kinds,
    convert_to_plain,
    insert_nulls,
    parse_overrides,
)
from nequip_like.errors import ConfigError, first_line
from nequip_like.whole_files import path_of
from nequip_like.workflow.config.trust import check_hydra, user_packages
from nequip_like.workflow.config.values import own_error, register_resolvers

PACKAGE = "pkg://nequip_like.conf"
JOB_NAME = "train"  # ${hydra:job.name}; it names the log file
HYDRA_VERSION = "1.3"  # whose behaviour we ask for


class PackagedConfigs(SearchPathPlugin):
    """Puts the package's configs behind the user's folder, so that ``defaults: [train]`` finds them."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra."""
        search_path.append(provider="nequip_like", path=PACKAGE)


def register_configs() -> None:
    """Let Hydra find the package's configs, and read the user's; may be called any number of times."""
    if PackagedConfigs not in Plugins.instance().discover(SearchPathPlugin):
        Plugins.instance().register(PackagedConfigs)
    register_user_folder()  # in place of Hydra's own, which is there now


def check_files(command_line: argparse.Namespace, folder: str) -> None:
    """Refuse config files that cannot be ones, before Hydra reads them.

    Args:
        command_line: The parsed command line.
        folder: Where configs are looked up if the command line names no other folder.

    Raises:
        ConfigError: Naming the file, and the line.
    """
    for parent in (command_line.config_dir, command_line.config_path or folder):
        # A train.yaml is taken in by every other config.
        for name in dict.fromkeys((command_line.config_name or "train", "train")):
            if parent is not None:
                check_config_file(Path(parent) / f"{name.removesuffix('.yaml')}.yaml")


def compose_arguments(command_line: argparse.Namespace, folder: str, number: int | None = None) -> DictConfig:
    """Compose the config as Hydra will, with its own section ``hydra``, which is checked.

    Of a ``--multirun`` it is the config without the values that vary.

    Args:
        command_line: The parsed command line. Where an override puts a list in place of a mapping, or the other way
            round, another is put before it that makes room.
        folder: Where configs are looked up if the command line names no other folder.
        number: Its number if it is one of several runs, which are composed one by one.

    Raises:
        ConfigError: If it cannot be composed, or if it would make Hydra call something that is not trusted.
    """
    register_configs()
    register_resolvers()
    version.setbase(HYDRA_VERSION)
    hydra = Hydra.create_main_hydra2(task_name=JOB_NAME, config_search_path=search_path(command_line, folder))
    try:
        config = _compose(hydra, command_line, folder)
    finally:
        GlobalHydra.instance().clear()
    trusted = user_packages(_select(config, "trusted_packages"))
    check_hydra(convert_to_plain(config.hydra), trusted)
    if number is not None:
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.job.num, config.hydra.job.id = number, str(number)
    _resolve_hydra(config, trusted, several=number is not None)
    return config


def search_path(command_line: argparse.Namespace, folder: str) -> ConfigSearchPath:
    """Where configs are looked up.

    Args:
        command_line: The parsed command line.
        folder: Where to look if the command line names no other folder.

    Raises:
        ConfigError: If it names a folder that is not there.
    """
    locations = create_automatic_config_search_path(None, None, command_line.config_path or folder)
    if command_line.config_dir is not None:
        path = path_of(command_line.config_dir).absolute()
        if not path.is_dir():
            raise ConfigError(f"there is no folder {path}", "give --config-dir a folder of configs")
        locations.prepend("command-line", f"file://{path}", anchor=SearchPathQuery(provider="schema"))
    return locations


def _compose(hydra: Hydra, command_line: argparse.Namespace, folder: str) -> DictConfig:
    several = command_line.multirun or any(o.replace(" ", "") == "hydra.mode=MULTIRUN" for o in command_line.overrides)
    mode = RunMode.MULTIRUN if several else RunMode.RUN

    def compose_with(overrides: list[str]) -> DictConfig:
        return hydra.compose_config(command_line.config_name or "train", overrides, run_mode=mode)

    def is_group(key: str) -> bool:
        return bool(hydra.config_loader.get_group_options(key))

    try:
        config = compose_with(command_line.overrides)
    except TypeError:
        check_choices(command_line.overrides, hydra.config_loader.get_group_options)
        raise  # a mistake of the program
    except CONFIG_ERRORS as error:
        if "Config group override" in str(error):
            check_choices(command_line.overrides, hydra.config_loader.get_group_options)
        # What was meant is found in the config without the overrides that fail.
        applicable = _compose_without_failing(compose_with, command_line.overrides, error)
        revised = (
            command_line.overrides if applicable is None else insert_nulls(command_line.overrides, applicable, is_group)
        )
        if revised != command_line.overrides:
            command_line.overrides = revised
            return _compose(hydra, command_line, folder)
        if "while composing config" in str(error):
            _check_kinds(
                Path(command_line.config_path or folder)
                / Path(command_line.config_name or "train").with_suffix(".yaml")
            )
        names = _list_names(command_line.config_path or folder)
        value = _find_value(command_line.overrides, find_failed_key(error))
        raise translate_error(error, applicable, *names, value, hydra.config_loader.get_group_options) from error
    if several:  # values that vary are left out until each run is composed
        command_line.overrides = insert_nulls(command_line.overrides, config, is_group)
    return config


def _compose_without_failing(
    compose_with: Callable[[list[str]], DictConfig], overrides: list[str], error: BaseException
) -> DictConfig | None:
    """The config without the overrides that cannot be applied; None if there is another mistake."""
    config: DictConfig | None = None
    while config is None and (key := find_failed_key(error)) is not None:
        remaining = [text for text in overrides if extract_key(text) != key]
        if len(remaining) == len(overrides):
            return None
        overrides = remaining
        try:
            config = compose_with(overrides)
        except CONFIG_ERRORS as next_error:
            error = next_error
    return config


def _find_value(overrides: list[str], key: str | None) -> Any:
    """Value that the last override of a key gives; None without any."""
    values = [
        override.value() for override in parse_overrides([text for text in overrides if extract_key(text) == key])
    ]
    return values[-1] if values else None


def extract_key(override: str) -> str:
    """The key of an override, without what stands before it: ``++a.b=1`` has ``a.b``."""
    return override.partition("=")[0].lstrip("+~")


def _check_kinds(file: Path) -> None:
    if file.is_file():
        with file.open(encoding="utf-8") as stream:
            check_kinds(file, convert_to_plain(load_config(stream)), packaged())


def packaged() -> dict[str, Any]:
    """The package's own defaults, to look for what was meant."""
    register_configs()
    version.setbase(HYDRA_VERSION)
    loader = ConfigLoaderImpl(create_automatic_config_search_path(None, None, PACKAGE))
    config: Any = OmegaConf.to_container(loader.load_configuration("train", [], RunMode.RUN), resolve=False)
    return dict(config)


def _list_names(folder: str) -> tuple[list[str], list[str]]:
    """Names of the configs, and of the groups, in the user's folder and in the package."""
    roots = [Path(str(files("nequip_like.conf")))] + ([] if "://" in folder else [Path(folder)])
    entries = sorted(entry for root in reversed(roots) for entry in root.iterdir() if not entry.name.startswith("_"))
    configs = [entry.stem for entry in entries if entry.suffix == ".yaml"]
    return list(dict.fromkeys(configs)), [entry.name for entry in entries if entry.is_dir()]


def _select(config: DictConfig, key: str) -> Any:
    return convert_to_plain(OmegaConf.select(config, key, throw_on_resolution_failure=False))


def _resolve_hydra(config: DictConfig, trusted: Sequence[str], several: bool) -> None:
    """Let ``${hydra:...}`` stand for what it will, and check what Hydra's section says with its values filled in."""
    HydraConfig.instance().set_config(config)
    try:
        with read_write(config.hydra), open_dict(config.hydra):
            for section in (config.hydra.run, config.hydra.sweep):
                if str(section.dir).startswith("~"):
                    section.dir = str(path_of(str(section.dir)))  # Hydra itself would make a folder called ~
            sweep = (str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir)) if several else ()
            config.hydra.runtime.output_dir = str(Path(*(sweep or [str(config.hydra.run.dir)])).absolute())
        HydraConfig.instance().set_config(config)
        for section in ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging"):
            check_hydra({section: convert_to_plain(config.hydra.get(section), resolve=True)}, trusted)
    except CONFIG_ERRORS as error:
        own = own_error(error)
        reason = first_line(error) if own is None else own.message
        raise ConfigError(f"hydra: {reason}", "see the section hydra of the config") from error
