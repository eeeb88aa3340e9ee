"""Resolvers: the few functions that a config may call."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import OmegaConf

from nequip_like.data.catalog import CATALOG, cache_folder, folder_of
from nequip_like.errors import ConfigError
from nequip_like.workflow.functions import FUNCTIONS, REFUSED


def register_resolvers() -> None:
    """Make the package's resolvers known to OmegaConf; may be called any number of times.

    - ``${tutorial_data:ethanol/train.xyz}``: path of a bundled data file.
    - ``${published_data:3bpa}``: folder of a published data set, downloaded if need be.
    - ``${training_data_stats:NAME}``: see :func:`nequip_like.workflow.setup.register_statistics`.
    - Small functions such as ``${int_mul:2,3}``: see :mod:`nequip_like.workflow.functions`.

    Statistics of an earlier run in this process are forgotten: a config that is composed next, the next job of a
    multirun, would take values of the earlier data into its mappings.
    """
    for name, function in {**FUNCTIONS, **REFUSED}.items():
        OmegaConf.register_new_resolver(name, function, replace=True)
    OmegaConf.register_new_resolver("tutorial_data", tutorial_data, replace=True)
    OmegaConf.register_new_resolver("published_data", lambda name: str(folder_of(name)), replace=True)
    OmegaConf.register_new_resolver("training_data_stats", _too_early, replace=True)


class NotYetKnownError(ConfigError):
    """A value was asked for that only the training data will give.

    Args:
        name: Name of the statistic.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"${{training_data_stats:{name}}} was asked for before the training data was read",
            "use it in the sections model and training_module only",
        )


@contextmanager
def before_data() -> Iterator[None]:
    """Let resolvers neither read nor download anything; statistics raise :class:`NotYetKnownError`."""
    register_resolvers()
    OmegaConf.register_new_resolver("published_data", _cached_folder, replace=True)
    try:
        yield
    finally:
        register_resolvers()


def _cached_folder(name: str) -> str:
    """Where a published set is, or will be once it is downloaded."""
    return str(cache_folder() / name if name in CATALOG else folder_of(name))


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
    raise NotYetKnownError(name)
