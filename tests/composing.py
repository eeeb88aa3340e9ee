"""What Hydra and OmegaConf do over and over when tests compose configs, done once for each process of tests.

Overrides and references are parsed slowly, a few hundred of them thousands of times; and finding, reading and merging
the package's files is most of composing a config. So is it with the same files of a user's beside the package's.
"""

from __future__ import annotations

import copy
import functools
import os
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import omegaconf
import pytest
import yaml
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser

PACKAGED = {("pkg", "nequip_like.conf"), ("pkg", "hydra.conf")}
Sources = tuple[tuple[str, Any], ...]


def parse_once(patch: pytest.MonkeyPatch) -> None:
    """Parse each override and each reference once."""
    parse_rule = OverridesParser.parse_rule
    known: dict[tuple[str, str], Any] = {}

    def parse_rule_once(self: OverridesParser, s: str, rule_name: str) -> Any:
        if (s, rule_name) not in known:
            known[s, rule_name] = parse_rule(self, s, rule_name)
        return copy.deepcopy(known[s, rule_name])

    patch.setattr(OverridesParser, "parse_rule", parse_rule_once)
    parse = functools.lru_cache(4096)(omegaconf.grammar_parser.parse)
    for module in (omegaconf.base, omegaconf._utils):
        patch.setattr(module, "parse", parse)


def write_quickly(patch: pytest.MonkeyPatch) -> None:
    """Write YAML by libyaml, which writes the same three times as quickly, but for letters beyond 16 bits."""
    if not yaml.__with_libyaml__:
        return

    class Dumper(yaml.CDumper):
        pass

    Dumper.add_representer(str, omegaconf._utils.get_omega_conf_dumper().str_representer)
    patch.setattr(omegaconf.omegaconf, "get_omega_conf_dumper", lambda: Dumper)


def read_once(patch: pytest.MonkeyPatch) -> None:
    """Read each config of the package once."""
    read = ConfigRepository.load_config
    known: dict[tuple[str, str, str], Any] = {}

    def load_config(self: ConfigRepository, config_path: str) -> Any:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or (source.scheme(), source.path) not in PACKAGED:
            return read(self, config_path)
        key = (source.provider, source.path, config_path)
        if key not in known:
            known[key] = read(self, config_path)
        return replace(known[key], config=copy.deepcopy(known[key].config))  # Hydra goes on to change it

    patch.setattr(ConfigRepository, "load_config", load_config)


def list_once(patch: pytest.MonkeyPatch) -> None:
    """Find out once which configs the same choices among them make up a config."""
    list_defaults = config_loader_impl.create_defaults_list
    known: dict[Any, Any] = {}
    is_group: dict[Any, bool] = {}

    def sets_value(repository: Any, sources: Sources, override: Any) -> bool:
        if override.is_sweep_override():
            return False
        key = (sources, override.key_or_group)
        if key not in is_group:
            is_group[key] = repository.group_exists(override.key_or_group)
        return not is_group[key] or isinstance(override.value(), dict)

    def create_defaults_list(repo: Any, config_name: str, overrides_list: list[Any], **options: bool) -> Any:
        sources = _find_sources(repo)
        if sources is None:
            return list_defaults(repo, config_name, overrides_list, **options)
        values = [override for override in overrides_list if sets_value(repo, sources, override)]
        choices = [override for override in overrides_list if not sets_value(repo, sources, override)]
        key = (sources, config_name, *options.values(), *(override.input_line for override in choices))
        if key not in known:
            known[key] = list_defaults(repo, config_name, choices, **options)
        return replace(known[key], config_overrides=values)

    patch.setattr(config_loader_impl, "create_defaults_list", create_defaults_list)


def merge_once(patch: pytest.MonkeyPatch) -> None:
    """Merge the same configs once."""
    merge = ConfigLoaderImpl._compose_config_from_defaults_list
    known: dict[Any, Any] = {}

    def compose_config(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> Any:
        sources = _find_sources(repo)
        if sources is None:
            return merge(self, defaults, repo)
        key = (sources, *map(astuple, defaults))
        if key not in known:
            known[key] = merge(self, defaults, repo)
        return copy.deepcopy(known[key])  # Hydra and the test go on to change it

    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", compose_config)


def _find_sources(repository: Any) -> Sources | None:
    """Where configs are looked for, and what is in folders of a user's; None if more would have to be looked at."""
    places: list[tuple[str, Any]] = []
    for source in repository.get_sources():
        place = (source.scheme(), source.path)
        if source.scheme() == "file":
            place = ("file", _read_folder(source.path))
        elif source.scheme() != "structured" and place not in PACKAGED:
            return None
        if place[1] is None:
            return None
        places.append(place)
    return tuple(places)


def _read_folder(path: str) -> tuple[tuple[str, bytes], ...] | None:
    """The configs in a folder; None if it has folders, which may be groups of configs, or cannot be read."""
    try:
        with os.scandir(path) as entries:
            files = sorted(entries, key=lambda entry: entry.name)
        if any(entry.is_dir() for entry in files):
            return None
        return tuple(
            (entry.name, Path(entry.path).read_bytes()) for entry in files if entry.name.endswith((".yaml", ".yml"))
        )
    except OSError:
        return None
