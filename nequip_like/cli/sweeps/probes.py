"""Runs that a search may choose, to be checked before it begins: what it would find wrong in each, hours later."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from nequip_like.cli.sweeps.jobs import Job, compose_job, naming_job
from nequip_like.cli.sweeps.optuna_sweeper import OptunaSweeper
from nequip_like.cli.sweeps.search_space import write_override
from nequip_like.composition.hydra_compose import search_path
from nequip_like.composition.overrides import convert_to_plain
from nequip_like.workflow.config.trust import OWN_SWEEPER

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Probe(Job):
    """A run that a search may choose."""

    def describe(self) -> str:
        """``as the search may choose: seed=2``."""
        return f"as the search may choose: {' '.join(self.varied)}"


def check_search(
    command_line: argparse.Namespace, config: DictConfig, check: Callable[[DictConfig], object], show: bool
) -> None:
    """Check how a search is made, and runs with each end and each option of what it may choose.

    Args:
        command_line: The parsed command line.
        config: The config without the values that vary, with Hydra's section.
        check: Checks the config of a run.
        show: Whether it is printed what was checked.

    Raises:
        ConfigError: For the search, or a run that it may choose.
    """
    if config.hydra.sweeper.get("_target_") != OWN_SWEEPER:
        if show:
            print("not checked: values that the sweeper chooses while the runs go on")
        return
    folder = str(Path.cwd())
    probes = list_probes(command_line, config, folder)
    for probe in probes:
        with naming_job(probe):
            check(compose_job(command_line, config, folder, probe))
    if show:
        print(
            f"checked as well: {len(probes)} configs with the ends and options of what is searched; not those between"
        )


def list_probes(command_line: argparse.Namespace, config: DictConfig, folder: str) -> list[Probe]:
    """List runs that have each end and each option of what is searched, and check how it is searched.

    Args:
        command_line: The parsed command line.
        config: The config without the values that vary, with Hydra's section, whose sweeper is ours.
        folder: Where configs are looked up if the command line names no other folder.

    Raises:
        ConfigError: For a setting of the search that cannot be, naming the key, if nothing varies, or Optuna is not
            there.
    """
    sweeper = OptunaSweeper.of(convert_to_plain(config.hydra.sweeper, resolve=True))
    parsed = OverridesParser.create().parse_overrides(command_line.overrides)
    typed = [str(entry.input_line) for entry in parsed if not entry.is_hydra_override()]
    space, fixed = sweeper.read_space(typed, ConfigLoaderImpl(search_path(command_line, folder)))
    chosen = [[write_override(*pair) for pair in values.items()] for values in choose_corners(space)]
    return [Probe(number, [*fixed, *varied], varied) for number, varied in enumerate(chosen)]


def choose_corners(space: dict[str, BaseDistribution]) -> list[dict[str, Any]]:
    """As few choices as have each end of numbers and each option: all first ones, all last ones, and the others.

    Example:
        >>> from optuna.distributions import CategoricalDistribution, IntDistribution
        >>> choose_corners({"l": IntDistribution(1, 9), "f": CategoricalDistribution(["a", "b", "c"])})
        [{'l': 1, 'f': 'a'}, {'l': 9, 'f': 'b'}, {'l': 9, 'f': 'c'}]
    """
    extremes = {key: _list_extremes(distribution) for key, distribution in space.items()}
    most = max(map(len, extremes.values()))
    return [{key: values[min(i, len(values) - 1)] for key, values in extremes.items()} for i in range(most)]


def _list_extremes(distribution: Any) -> Sequence[Any]:
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    return [distribution.low, distribution.high]
