"""How the user's config files and folders are read, where Hydra and YAML would take them for something else."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import OmegaConfBaseException

from nequip_like.composition.hydra_errors import translate_yaml_error
from nequip_like.errors import ConfigError
from nequip_like.workflow.config.trust import HYDRA, OWN, user_packages, within
from nequip_like.workflow.config.yaml_size import check_yaml_size

_TEXT = yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG
_INT = "tag:yaml.org,2002:int"
_BEGIN = "begin it with the line defaults: [train, _self_]"
_NO_NAMES = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "null", "float"))


class UserFolder(FileConfigSource):
    """A folder of the user's, in which most subfolders hold data or results and not configs.

    Hydra takes each of them for a group of configs, so that ``run=[train]`` would choose from a folder ``run``. Here a
    group has a YAML file in it, and no value of the package's configs is one.
    """

    def is_group(self, config_path: str) -> bool:
        """Whether a folder holds configs; the folder itself always may."""
        if not super().is_group(config_path):
            return False
        return not config_path or (_has_yaml(Path(self.path) / config_path) and config_path not in _read_value_names())

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a config file of the folder."""
        file = Path(self.path, self._normalize_file_name(config_path)).resolve()
        if not file.exists():
            raise ConfigLoadError(f"Config not found : {file}")
        with file.open(encoding="utf-8") as stream:
            header = ConfigSource._get_header_dict(stream.read(512))
            stream.seek(0)
            config = load_config(stream)
        return ConfigResult(config=config, path=f"{self.scheme()}://{self.path}", provider=self.provider, header=header)


# A process that a launcher starts gets the table of sources first and registers Hydra's own after it, which refuses a
# second class for a scheme unless it has the name of the first.
UserFolder.__name__ = FileConfigSource.__name__


def register_user_folder() -> None:
    """Let Hydra read folders by :class:`UserFolder`; may be called any number of times."""
    SourcesRegistry.instance().types[UserFolder.scheme()] = UserFolder


def load_config(stream: IO[str]) -> DictConfig | ListConfig:
    """A config file as OmegaConf reads it, but with the names of mappings as they are spelt.

    YAML 1.1 reads ``NO``, ``No``, ``on`` and ``off`` as true or false, ``012`` as ten, ``1:30`` as ninety and ``1e5``
    as a number. As names of data sets, labels and species they are none of these. Whole numbers remain numbers.

    Raises:
        yaml.YAMLError: If it is not YAML.
        omegaconf.errors.OmegaConfBaseException: If it cannot be a config.
    """
    content = yaml.load(stream, Loader=_build_loader())
    # OmegaConf makes a mapping of a mere word, too.
    config: DictConfig | ListConfig = OmegaConf.create(
        {} if content is None else {content: None} if isinstance(content, str) else content
    )
    return config


@functools.cache
def _build_loader() -> Any:
    class SpeltLoader(get_yaml_loader()):  # type: ignore[misc] # OmegaConf makes the class in a function
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
            numbers = set()
            for key, _ in node.value:
                if key.tag in _NO_NAMES or (key.tag == _INT and str(self.construct_object(key)) != key.value):
                    key.tag = _TEXT
                    self.constructed_objects.pop(key, None)  # PyYAML remembers what it read
                elif key.tag == _INT:
                    if key.value in numbers:  # of texts OmegaConf says the same
                        problem = f"found duplicate key {key.value}"
                        raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                    numbers.add(key.value)
            return super().construct_mapping(node, deep=deep)

    return SpeltLoader


def _has_yaml(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name.endswith((".yaml", ".yml")) for entry in entries)


@functools.cache
def _read_value_names() -> frozenset[str]:
    """Names in the package's root config that are values and no groups, such as ``run``."""
    root = files("nequip_like.conf").joinpath("train.yaml").read_text(encoding="utf-8")
    return frozenset(yaml.safe_load(root)) - {"defaults"}


def check_config_file(file: Path) -> None:
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
        kind = "empty" if content is None else f"a {'list' if isinstance(content, list) else 'text'}, not a mapping"
        raise ConfigError(f"the config {file} is {kind}", _BEGIN)
    defaults = content.get("defaults", [])
    if not isinstance(defaults, list):
        raise ConfigError(f"the defaults of {file} are {defaults!r}", "give a list: defaults: [train, _self_]")
    if file.stem in defaults:
        raise ConfigError(
            f"the config {file} takes in '{file.stem}', which is its own name",
            f"rename it, for example to my_{file.name}",
        )
    _check_order(file, content)
    _check_search_path(file, content)


def _check_order(file: Path, content: dict[Any, Any]) -> None:
    """Refuse ``_self_`` before a config that says everything: it would replace all that the file itself says."""
    defaults = content.get("defaults", [])
    own = [str(key) for key in content if key not in ("defaults", "hydra")]
    if "_self_" not in defaults or not own:
        return
    for name in defaults[defaults.index("_self_") + 1 :]:
        if isinstance(name, str) and _says_everything(name, file.parent):
            raise ConfigError(
                f"the defaults of {file} have _self_ before {name}, which would replace what the file says of "
                f"{', '.join(own)}",
                "move _self_ to the end of the list: defaults: [train, _self_]",
            )


def _says_everything(name: str, folder: Path, takers: Sequence[str] = ()) -> bool:
    """Whether a config is one of the package's, or takes one in.

    Args:
        name: Its name in a list of defaults.
        folder: That of the config with this list.
        takers: Names of the configs by which it is taken in.
    """
    if name in takers:
        return False  # Hydra refuses such a circle
    own = folder / f"{name}.yaml"
    if not own.is_file():
        return name in _list_packaged()
    content = _read(own)
    defaults = content.get("defaults") if isinstance(content, dict) else None
    names = [entry for entry in defaults if isinstance(entry, str)] if isinstance(defaults, list) else []
    return any(_says_everything(entry, folder, (*takers, name)) for entry in names)


@functools.cache
def _list_packaged() -> frozenset[str]:
    """Names of the package's whole configs."""
    return frozenset(
        entry.name.removesuffix(".yaml")
        for entry in files("nequip_like.conf").iterdir()
        if entry.name.endswith(".yaml")
    )


def _read(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8")
        check_yaml_size(text, file)
        if not text.strip():
            return None
        with file.open(encoding="utf-8") as stream:
            return _unwrap_word(load_config(stream))
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file}, line {line}: not UTF-8 text", "save the file as UTF-8") from error
    except yaml.YAMLError as error:
        raise translate_yaml_error(error, file) from error
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"cannot read {file}: {str(error).splitlines()[0]}", "see what stands after $") from error
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}", "give a file that you may read") from error


def _unwrap_word(config: Any) -> Any:
    content = OmegaConf.to_container(config, resolve=False)
    # OmegaConf makes a mapping of a mere word.
    return next(iter(content)) if isinstance(content, dict) and list(content.values()) == [None] else content


def _check_search_path(file: Path, content: dict[Any, Any]) -> None:
    """Refuse to search a package that is not trusted for configs: ``pkg://`` imports it."""
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
