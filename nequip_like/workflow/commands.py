"""Read the command line of this process, and write commands for the user to type."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

_OF_THE_OLD_RUN = ("ckpt_path", "resume", "output_dir", "finetune.source")


def new_run_command(source: Path, overrides: Sequence[str]) -> str:
    """The command that begins a new run with the weights of another, with the config and the overrides of this one.

    Args:
        source: A run folder, a checkpoint or a model file.
        overrides: What was changed on the command line; what tells where to go on is left out.

    Returns:
        The command, or only ``finetune.source=...`` where no command line was used.
    """
    repeated = [entry for entry in overrides if entry.partition("=")[0].lstrip("+") not in _OF_THE_OLD_RUN]
    source_override = shlex.quote(f"finetune.source={_shorten_path(source)}")
    if not HydraConfig.initialized():
        return source_override
    return " ".join(["nequip-train", *_name_config(), *map(shlex.quote, repeated), source_override])


def describe_command(overrides: Sequence[str]) -> str:
    """The command of this run, as it can be typed again; a few words where no command line was used.

    Args:
        overrides: What was changed on the command line.
    """
    if not HydraConfig.initialized():
        return "from Python: nequip_like.train(config)"
    of_hydra = [str(entry) for entry in HydraConfig.get().overrides.hydra if not str(entry).startswith("hydra.mode=")]
    return " ".join(["nequip-train", *_name_config(), *map(shlex.quote, [*overrides, *of_hydra])])


def read_typed_overrides() -> list[str]:
    """The overrides of this command, as they were typed.

    Reading them one by one would fill in ``${...}``, which may stand for what is not known yet.
    """
    typed: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return list(typed)


def _name_config() -> list[str]:
    """Name the config of this command as its arguments do: the path of a file, or ``-cn NAME``."""
    hydra = HydraConfig.get()
    name = str(hydra.job.config_name).removesuffix(".yaml")
    folders = [Path(entry.path) for entry in hydra.runtime.config_sources if entry.schema == "file"]
    files = [folder / f"{name}.yaml" for folder in folders]
    config_file = next((file for file in files if file.is_file()), None)
    return ["-cn", name] if config_file is None else [shlex.quote(_shorten_path(config_file))]


def _shorten_path(path: Path) -> str:
    """Make a path relative to the current folder, if it is in there."""
    path = path.absolute()
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
