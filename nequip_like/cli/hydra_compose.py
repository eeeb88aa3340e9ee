"""Composing a config as Hydra is about to, checking it before anything in it is called, and running it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser, run_and_report
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from nequip_like.cli.config_files import load, register_user_folder
from nequip_like.cli.hydra_errors import CONFIG_ERRORS, failed_key, translated
from nequip_like.cli.overrides import check_choices, check_kinds, parsed, replacing
from nequip_like.errors import ConfigError, closest_hint, first_line
from nequip_like.whole_files import path_of
from nequip_like.workflow.config.key_places import place_hint
from nequip_like.workflow.config.resolvers import register_resolvers
from nequip_like.workflow.config.trust import check_hydra, user_packages
from nequip_like.workflow.config.values import own_error

PACKAGE = "pkg://nequip_like.conf"
JOB_NAME = "train"  # ${hydra:job.name}; it names the log file
HYDRA_VERSION = "1.3"  # whose behaviour we ask for
_OPTIONS = ("--check", "--debug", "--migrate", "--plot-schedule")


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


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line as Hydra will understand it.

    Raises:
        ConfigError: For an option that does not exist, or that would run code out of a file.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        known, unknown = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ConfigError(str(error), "give the config alone: nequip-train config.yaml; see --help") from error
    wrong = [name for name in (*unknown, *known.overrides) if name.startswith("-")]
    if wrong:
        options = [option for action in parser._actions for option in action.option_strings] + list(_OPTIONS)
        option = wrong[0].partition("=")[0]
        # As options of many programs are written: --max_epochs 5
        meant = place_hint(option.lstrip("-").replace("-", "_"), _packaged())
        hint = f"{meant}write it without dashes, KEY=VALUE; " if meant else closest_hint(option, options)
        raise ConfigError(f"there is no option {wrong[0]}", f"{hint}see --help")
    for override in known.overrides:
        if override and not _key_of(override).strip():
            raise ConfigError(f"'{override}' names no key", "write key=value, +key=value or ~key")
    for option, needs in (("--resolve", known.resolve), ("--package KEY", known.package)):
        if needs and not known.cfg:
            raise ConfigError(f"{option.split()[0]} goes with --cfg only", f"write --cfg job {option}, or leave it out")
    if known.experimental_rerun is not None:
        raise ConfigError(
            "--experimental-rerun reads a pickle, which can run code", "run the config.yaml of that folder instead"
        )
    return known


def overrides_last(arguments: Sequence[str]) -> list[str]:
    """The same command line with its overrides behind its options.

    Hydra's parser takes overrides from one place only: of ``a=1 --multirun b=2`` it would not know ``b=2``.

    Args:
        arguments: The command line.
    """
    actions = {option: action for action in get_args_parser()._actions for option in action.option_strings}
    parts: dict[str, list[str]] = {"options": [], "overrides": [], "without value": []}
    takes = None
    for i, argument in enumerate(arguments):
        after = arguments[i + 1] if i + 1 < len(arguments) else ""
        action = actions.get(argument)
        if takes is not None:
            kind, takes = "options", None
        elif action is not None and action.nargs == "?" and after not in (action.choices or ()):
            kind = "without value"  # it would take the override that follows
        else:
            kind = "options" if argument.startswith("-") else "overrides"
            takes = action if action is not None and action.nargs != 0 else None
        parts[kind].append(argument)
    return [argument for part in parts.values() for argument in part]


def compose(known: argparse.Namespace, folder: str, number: int | None = None) -> DictConfig:
    """Compose the config as Hydra will, with its own section ``hydra``, which is checked.

    Of a ``--multirun`` it is the config without the values that vary.

    Args:
        known: The parsed command line. Where an override puts a list in place of a mapping, or the other way round,
            another is put before it that makes room.
        folder: Where configs are looked up if the command line names no other folder.
        number: Its number if it is one of several runs, which are composed one by one.

    Raises:
        ConfigError: If it cannot be composed, or if it would make Hydra call something that is not trusted.
    """
    register_configs()
    register_resolvers()
    version.setbase(HYDRA_VERSION)
    hydra = Hydra.create_main_hydra2(task_name=JOB_NAME, config_search_path=search_path(known, folder))
    try:
        config = _composed(hydra, known, folder)
    finally:
        GlobalHydra.instance().clear()
    trusted = user_packages(_select(config, "trusted_packages"))
    check_hydra(OmegaConf.to_container(config.hydra, resolve=False), trusted)  # type: ignore[arg-type] # it is a mapping
    if number is not None:
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.job.num, config.hydra.job.id = number, str(number)
    _resolve_hydra(config, trusted, several=number is not None)
    return config


def search_path(known: argparse.Namespace, folder: str) -> ConfigSearchPath:
    """Where configs are looked up.

    Args:
        known: The parsed command line.
        folder: Where to look if the command line names no other folder.

    Raises:
        ConfigError: If it names a folder that is not there.
    """
    found = create_automatic_config_search_path(None, None, known.config_path or folder)
    if known.config_dir is not None:
        path = path_of(known.config_dir).absolute()
        if not path.is_dir():
            raise ConfigError(f"there is no folder {path}", "give --config-dir a folder of configs")
        found.prepend("command-line", f"file://{path}", anchor=SearchPathQuery(provider="schema"))
    return found


def _composed(hydra: Hydra, known: argparse.Namespace, folder: str) -> DictConfig:
    several = known.multirun or any(o.replace(" ", "") == "hydra.mode=MULTIRUN" for o in known.overrides)
    mode = RunMode.MULTIRUN if several else RunMode.RUN

    def attempt(overrides: list[str]) -> DictConfig:
        return hydra.compose_config(known.config_name or "train", overrides, run_mode=mode)

    def is_group(key: str) -> bool:
        return bool(hydra.config_loader.get_group_options(key))

    try:
        config = attempt(known.overrides)
    except TypeError:
        check_choices(known.overrides, hydra.config_loader.get_group_options)
        raise  # a mistake of the program
    except CONFIG_ERRORS as error:
        if "Config group override" in str(error):
            check_choices(known.overrides, hydra.config_loader.get_group_options)
        # What was meant is found in the config without the overrides that fail.
        whole = _without_failing(attempt, known.overrides, error)
        better = known.overrides if whole is None else replacing(known.overrides, whole, is_group)
        if better != known.overrides:
            known.overrides = better
            return _composed(hydra, known, folder)
        if "while composing config" in str(error):
            _check_kinds(Path(known.config_path or folder) / Path(known.config_name or "train").with_suffix(".yaml"))
        names = _names(known.config_path or folder)
        raise translated(error, whole, *names, _value_of(known.overrides, failed_key(error))) from error
    if several:  # values that vary are left out until each run is composed
        known.overrides = replacing(known.overrides, config, is_group)
    return config


def _without_failing(
    attempt: Callable[[list[str]], DictConfig], overrides: list[str], error: BaseException
) -> DictConfig | None:
    """The config without the overrides that cannot be applied; None if there is another mistake."""
    rest: DictConfig | None = None
    while rest is None and (key := failed_key(error)) is not None:
        fewer = [text for text in overrides if _key_of(text) != key]
        if len(fewer) == len(overrides):
            return None
        overrides = fewer
        try:
            rest = attempt(overrides)
        except CONFIG_ERRORS as another:
            error = another
    return rest


def _value_of(overrides: list[str], key: str | None) -> Any:
    """What the last override of a key gives."""
    given = [override.value() for override in parsed([text for text in overrides if _key_of(text) == key])]
    return given[-1] if given else None


def _key_of(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _check_kinds(file: Path) -> None:
    if file.is_file():
        with file.open(encoding="utf-8") as stream:
            check_kinds(file, OmegaConf.to_container(load(stream), resolve=False), _packaged())


def _packaged() -> dict[str, Any]:
    """The package's own defaults, to look for what was meant."""
    register_configs()
    version.setbase(HYDRA_VERSION)
    loader = ConfigLoaderImpl(create_automatic_config_search_path(None, None, PACKAGE))
    config: Any = OmegaConf.to_container(loader.load_configuration("train", [], RunMode.RUN), resolve=False)
    return dict(config)


def _names(folder: str) -> tuple[list[str], list[str]]:
    """Names of the configs, and of the groups, in the user's folder and in the package."""
    roots = [Path(str(files("nequip_like.conf")))] + ([] if "://" in folder else [Path(folder)])
    entries = sorted(entry for root in reversed(roots) for entry in root.iterdir() if not entry.name.startswith("_"))
    configs = [entry.stem for entry in entries if entry.suffix == ".yaml"]
    return list(dict.fromkeys(configs)), [entry.name for entry in entries if entry.is_dir()]


def _select(config: DictConfig, key: str) -> Any:
    value = OmegaConf.select(config, key, throw_on_resolution_failure=False)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


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
            check_hydra({section: _plain(config.hydra.get(section))}, trusted)
    except CONFIG_ERRORS as error:
        own = own_error(error)
        reason = first_line(error) if own is None else own.message
        raise ConfigError(f"hydra: {reason}", "see the section hydra of the config") from error


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


_BEGIN = "begin it with the line defaults: [train, _self_]"


def check_primary(file: Path) -> None:
    """Refuse a config file that cannot be one, or that makes Hydra search untrusted packages for configs.

    Args:
        file: The file; another is passed over, Hydra finds what there is.

    Raises:
        ConfigError: Naming the file, and the line.
    """
    if not file.is_file():
        return
    content = _read(file)
    if not isinstance(content, dict):
        what = "empty" if content is None else f"a {'list' if isinstance(content, list) else 'text'}, not a mapping"
        raise ConfigError(f"the config {file} is {what}", _BEGIN)
    defaults = content.get("defaults", [])
    if not isinstance(defaults, list):
        raise ConfigError(f"the defaults of {file} are {defaults!r}", "give a list: defaults: [train, _self_]")
    if file.stem in defaults:
        raise ConfigError(
            f"the config {file} takes in '{file.stem}', which is its own name",
            f"rename it, for example to my_{file.name}",
        )
    _check_search_path(file, content)


def _read(file: Path) -> Any:
    import yaml
    from omegaconf.errors import OmegaConfBaseException

    from nequip_like.cli.config_files import load
    from nequip_like.cli.hydra_errors import yaml_error
    from nequip_like.cli.yaml_size import check_size

    try:
        text = file.read_text(encoding="utf-8")
        check_size(text, file)
        if not text.strip():
            return None
        with file.open(encoding="utf-8") as stream:
            return _loaded(load(stream))
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file}, line {line}: not UTF-8 text", "save the file as UTF-8") from error
    except yaml.YAMLError as error:
        raise yaml_error(error, file) from error
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"cannot read {file}: {str(error).splitlines()[0]}", "see what stands after $") from error
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}", "give a file that you may read") from error


def _loaded(config: Any) -> Any:
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(config, resolve=False)
    # OmegaConf makes a mapping of a mere word.
    return next(iter(content)) if isinstance(content, dict) and list(content.values()) == [None] else content


def _check_search_path(file: Path, content: dict[Any, Any]) -> None:
    """``pkg://`` imports a package."""
    from nequip_like.workflow.config.trust import HYDRA, OWN, user_packages, within

    hydra = content.get("hydra")
    entries = hydra.get("searchpath") if isinstance(hydra, dict) else None
    packages = (OWN, *HYDRA, *user_packages(content.get("trusted_packages")))
    for entry in entries if isinstance(entries, list) else [entries]:
        if entry is None or (isinstance(entry, str) and "${" not in entry and not entry.startswith("pkg:")):
            continue
        if not within(str(entry).removeprefix("pkg://").replace("/", "."), packages):
            raise ConfigError(
                f"hydra.searchpath of {file} has '{entry}', which is in no trusted package",
                "give a folder: file://FOLDER",
            )


def is_single_run(known: argparse.Namespace, config: DictConfig) -> bool:
    """Whether a command line asks for one run, and for nothing that Hydra tells or tries out itself.

    Args:
        known: The parsed command line.
        config: The composed config, with Hydra's section.
    """
    asks = known.hydra_help or known.shell_completion or known.cfg or known.info or known.resolve
    return not (asks or known.multirun or config.hydra.mode == RunMode.MULTIRUN or config.hydra.verbose)


def run_composed(known: argparse.Namespace, config: DictConfig, folder: str, task: TaskFunction) -> None:
    """Run a composed config.

    Args:
        known: The parsed command line.
        config: The composed config, with Hydra's section. It is changed.
        folder: Where configs are looked up if the command line names no other folder.
        task: Gets the config without Hydra's section. Its errors end the process, with Hydra's form of a traceback.
    """
    with read_write(config.hydra):
        config.hydra.mode = RunMode.RUN
    hydra = _Composed.create_main_hydra2(task_name=JOB_NAME, config_search_path=search_path(known, folder))
    try:
        run_and_report(lambda: _run(hydra, known, config, task))
    finally:
        GlobalHydra.instance().clear()


def _run(hydra: Hydra, known: argparse.Namespace, config: DictConfig, task: TaskFunction) -> None:
    hydra.config = config  # type: ignore[attr-defined] # of _Composed, which Hydra's maker does not know
    hydra.run(config_name=known.config_name or "train", task_function=task, overrides=known.overrides)


class _Composed(Hydra):
    """Hydra with a config that is there already."""

    config: DictConfig

    def compose_config(self, *arguments: Any, with_log_configuration: bool = False, **options: Any) -> DictConfig:
        """Called by Hydra."""
        if with_log_configuration:
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return self.config
