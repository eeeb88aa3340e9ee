"""A config for the Python API, composed of the same files, groups and overrides as on the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf, open_dict

from nequip_like.compat.nequip_config import as_own_config
from nequip_like.composition.arguments import parse, translate_arguments
from nequip_like.composition.hydra_compose import check_files, compose_arguments
from nequip_like.errors import ConfigError
from nequip_like.whole_files import path_of
from nequip_like.workflow.run_folder.new_folders import NAMED_BY_TIME, read_pattern

_OF_HYDRA = "${hydra:"


def compose(
    config: str | Path = "train", overrides: Sequence[str] = (), *, folder: str | Path | None = None
) -> DictConfig:
    """Compose the config of a run, as ``nequip-train`` does.

    Args:
        config: A config file (``config.yaml``), or the name of a config in the current folder or in the package:
            ``train``, ``tutorial``.
        overrides: What is changed, as it would be typed behind ``nequip-train``, without the shell's quotes.
        folder: Where configs and groups of configs are looked up by name before the package is, a path or ``pkg://``
            and a package; the current folder by default.

    Returns:
        The config for ``nequip_like.train``; its values can be read and set: ``config.trainer.max_epochs = 50``.
        The override ``output_dir=FOLDER`` names its output folder; without it each training makes a new one,
        ``outputs/DATE/TIME``.

    Raises:
        ConfigError: If there is no such config, or if it cannot be composed.

    Example:
        >>> import nequip_like as nl
        >>> config = nl.compose("train", ["data.train=train.xyz", "cutoff_radius=4.5", "trainer.max_epochs=50"])
        >>> config.data.train, config.data.cutoff_radius, config.trainer.max_epochs
        ('train.xyz', 4.5, 50)
        >>> nl.compose("train", ["cutof_radius=4.5"])
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: there is no 'cutof_radius' to change
          -> did you mean 'cutoff_radius'?
    """
    if isinstance(overrides, str):
        raise ConfigError(f"overrides are the text '{overrides}'", f"give a list: [{overrides!r}]")
    if options := [text for text in overrides if str(text).startswith("-")]:
        raise ConfigError(f"'{options[0]}' is an option of the command line", "give overrides only: ['key=value']")
    with _separate_from_hydra():
        config_arguments = [str(config)] if str(config).endswith((".yaml", ".yml")) else ["--config-name", str(config)]
        arguments = parse(translate_arguments([*config_arguments, *map(str, overrides)]))
        place = str(Path.cwd() if folder is None else folder)
        check_files(arguments, place)
        composed = compose_arguments(arguments, place)
        return _fill_hydra_values(run_config(composed), composed)


@contextmanager
def _separate_from_hydra() -> Iterator[None]:
    """Hide the config and search path of a Hydra application that composes a second config, and restore them."""
    section, hydra = HydraConfig.instance().cfg, GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        HydraConfig.instance().cfg = section
        GlobalHydra.instance().hydra = hydra


def run_config(composed: DictConfig, show: bool = True) -> DictConfig:
    """What a run gets of a composed config: without Hydra's section, and translated if it is one of NequIP's.

    Args:
        composed: The composed config.
        show: Print what has no effect, or another one, of a config of NequIP's.

    Raises:
        ConfigError: If a config of NequIP's cannot be translated.
    """
    config = composed.copy()
    with open_dict(config):
        config.pop("hydra", None)
    translation = as_own_config(config)
    if show and getattr(rank_zero_only, "rank", 0) == 0:
        for note in translation.notes:
            print(f"note: {note}")
    return translation.config


def _fill_hydra_values(config: DictConfig, composed: DictConfig) -> DictConfig:
    """Fill in what Hydra would tell a command, such as the output folder; references to other keys stay."""
    # The time stays open: each training is to have a folder of its own.
    folder = read_pattern(composed.hydra.run, "dir")
    if NAMED_BY_TIME not in folder or _OF_HYDRA in folder:
        folder = str(path_of(str(composed.hydra.run.dir)).absolute())
    values = OmegaConf.to_container(config, resolve=False)
    result = OmegaConf.create(_fill(values, config, folder))
    OmegaConf.set_struct(result, True)  # a key that is misspelt when it is set is refused
    return result


def _fill(value: Any, node: Any, folder: str) -> Any:
    if isinstance(value, dict):
        return {name: _fill_entry(entry, node, name, folder) for name, entry in value.items()}
    if isinstance(value, list):
        return [_fill_entry(entry, node, i, folder) for i, entry in enumerate(value)]
    return value


def _fill_entry(entry: Any, node: Any, name: Any, folder: str) -> Any:
    if isinstance(entry, str):
        entry = entry.replace("${hydra:runtime.output_dir}", folder)
        return node[name] if _OF_HYDRA in entry else entry
    return _fill(entry, node._get_node(name), folder) if isinstance(entry, dict | list) else entry
