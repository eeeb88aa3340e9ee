"""Published data sets that a config can name. They are downloaded when first used, never shipped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nequip_like.data.download import fetch
from nequip_like.errors import ConfigError, OutputError
from nequip_like.whole_files import path_of


@dataclass(frozen=True)
class PublishedSet:
    """Where a data set comes from.

    Attributes:
        url: Address of the folder that holds the files.
        files: SHA-256 of each file.
        source: What it is, its licence, and whom to cite.
    """

    url: str
    files: dict[str, str]
    source: str


CATALOG = {
    "3bpa": PublishedSet(
        url="https://github.com/davkovacs/BOTNet-datasets/raw/main/dataset_3BPA",
        files={
            "train_300K.xyz": "d109971fab90e2231ad931a83eb704c8d940f5c7d7a8de27fe3b84ea18634c0a",
            "train_mixedT.xyz": "bc108532964b2ed259eaaabf82e5dfaffa5bda9ac384fc2afabcce192a49250b",
            "iso_atoms.xyz": "e12a2465a2612bf38fd5dabdf64d4b57fc58ce9610a858c54ea1142d517c053f",
        },
        source="3BPA, wB97X/6-31G(d), MIT licence; Kovacs et al., J. Chem. Theory Comput. 17, 7696 (2021)",
    ),
}


def cache_folder() -> Path:
    """Where downloads are kept: ``$NEQUIP_LIKE_CACHE``, or ``nequip_like`` in the user's cache folder.

    Raises:
        OutputError: If the user has no home folder, and names no other.
    """
    if own := os.environ.get("NEQUIP_LIKE_CACHE"):
        return path_of(own)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return path_of(caches) / "nequip_like"
    try:
        return Path.home() / ".cache" / "nequip_like"
    except RuntimeError as error:  # no HOME, and nobody of this number in the list of users, as in containers
        raise OutputError(
            "this user has no home folder", "name a folder for the cache in the environment variable NEQUIP_LIKE_CACHE"
        ) from error


def folder_of(name: str) -> Path:
    """Folder with all files of a published data set, downloaded if need be.

    Raises:
        ConfigError: If the catalogue has no such set.
        DataError: If a file cannot be had.
        OutputError: If there is no folder to keep it in.
    """
    if name not in CATALOG:
        raise ConfigError(f"unknown published data set '{name}'", f"there are {', '.join(CATALOG)}")
    published = CATALOG[name]
    folder = cache_folder() / name
    for file, sha256 in published.files.items():
        fetch(f"{published.url}/{file}", folder / file, sha256)
    return folder
