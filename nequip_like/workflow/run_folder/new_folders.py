"""Folders that are named after the time: two that begin within one second get different ones."""

from __future__ import annotations

import re
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nequip_like.process_settings import rank
from nequip_like.whole_files import output_errors

NAMED_BY_TIME = "${now:"


def read_pattern(section: DictConfig, key: str) -> str:
    """A folder's name as the config has it, with ``${now:...}`` and other references open.

    Args:
        section: The section of the config.
        key: Key of the name in it.
    """
    return str(OmegaConf.to_container(section, resolve=False)[key])  # type: ignore[index,call-overload] # a mapping


def format_folder_override(section: str, folder: Path) -> str:
    r"""Write the override that gives Hydra a folder, whatever characters its name has.

    Args:
        section: ``run``, or ``sweep`` for several runs.
        folder: The folder.

    Example:
        >>> print(format_folder_override("run", Path("it's")))
        hydra.run.dir='it\'s'
    """
    # A backslash stands for itself, unless a quote follows.
    text = re.sub(r"(\\+)(?='|$)", r"\1\1", str(folder)).replace("'", "\\'")
    return f"hydra.{section}.dir='{text}'"


def name_folder(pattern: str, folder: Path) -> Path:
    """Name the folder of a run: a new one where its name has the time in it, else the one that is named.

    Args:
        pattern: The name as the config has it, such as Hydra's ``outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}``.
        folder: What it stands for.

    Raises:
        OutputError: If a new one cannot be made.
    """
    if NAMED_BY_TIME not in pattern:
        return folder
    # A further process that torchrun or srun started cannot know the first one's folder. All that is shared goes
    # there by the first; what a part of the user's writes in each process stays apart.
    place = rank()
    return folder.with_name(f"{folder.name}-rank{place}") if place else make_new(folder)


def make_new(path: Path) -> Path:
    """Make a folder that was not there: the one asked for, or else ``NAME-2``, ``NAME-3``, ...

    Making a folder is one step of the file system, so no two commands get the same one, on whatever machines.

    Args:
        path: The name asked for.

    Returns:
        The folder that was made.

    Raises:
        OutputError: If it cannot be made.
    """
    number, candidate = 1, path
    with output_errors(path.absolute()):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                candidate.mkdir()
            except FileExistsError:
                number += 1
                candidate = path.with_name(f"{path.name}-{number}")
            else:
                return candidate
