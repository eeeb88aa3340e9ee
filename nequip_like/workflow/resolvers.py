"""Resolvers: the few functions that a config may call."""

from __future__ import annotations

import importlib.resources

from omegaconf import OmegaConf

from nequip_like.data.catalog import folder_of
from nequip_like.errors import ConfigError


def register_resolvers() -> None:
    """Make the package's resolvers known to OmegaConf; may be called any number of times.

    - ``${tutorial_data:ethanol/train.xyz}``: path of a bundled data file.
    - ``${published_data:3bpa}``: folder of a published data set, downloaded if need be.
    - ``${training_data_stats:NAME}``: see :func:`nequip_like.workflow.setup.register_statistics`.
    """
    OmegaConf.register_new_resolver("tutorial_data", tutorial_data, replace=True)
    OmegaConf.register_new_resolver("published_data", lambda name: str(folder_of(name)), replace=True)
    if not OmegaConf.has_resolver("training_data_stats"):
        OmegaConf.register_new_resolver("training_data_stats", _too_early)


def tutorial_data(name: str) -> str:
    """Path of a bundled data file, such as ``ethanol/train.xyz``.

    Raises:
        ConfigError: If there is no such file.
    """
    root = importlib.resources.files("nequip_like.tutorial_data")
    path = root.joinpath(*name.split("/"))
    if not path.is_file():
        sets = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("_"))
        raise ConfigError(f"there is no bundled data file '{name}'", f"bundled sets are {', '.join(sets)}")
    return str(path)


def _too_early(name: str) -> str:
    raise ConfigError(
        f"${{training_data_stats:{name}}} was asked for before the training data was read",
        "use it in the sections model and training_module only",
    )
