"""Published data sets that a config can name: downloaded when first used, checked by their hashes, never shipped."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from nequip_like.errors import ConfigError, DataError, OutputError
from nequip_like.whole_files import path_of

_CHUNK = 1 << 20


def fetch(url: str, path: Path, sha256: str, timeout: float = 60.0) -> Path:
    """Download ``url`` to ``path`` unless the right file is there already.

    A part that an earlier call left behind is continued. The file appears under its name only when it is whole and
    its checksum is right.

    Args:
        url: Address of the file, http or https.
        path: Where it shall be; folders are made.
        sha256: Checksum of the content, hexadecimal.
        timeout: Seconds without an answer after which the server counts as gone.

    Returns:
        ``path``.

    Raises:
        DataError: If the server cannot be reached, ends early, or sends other content.
    """
    if path.is_file() and compute_checksum(path) == sha256:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}",
            "name a folder that can be written in the environment variable NEQUIP_LIKE_CACHE",
        ) from error
    partial = path.with_name(path.name + ".part")
    try:
        _resume_download(url, partial, timeout)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:  # ValueError: its headers
        raise DataError(
            f"cannot download {url}: {error}",
            f"try again (what came so far is kept), or fetch it by hand and put it at {path}",
        ) from error
    if (actual_sha256 := compute_checksum(partial)) != sha256:
        partial.unlink()
        raise DataError(
            f"{url} is not the expected file: its SHA-256 is {actual_sha256}, not {sha256}",
            f"try again; if it stays so, the file has changed at its source: fetch it by hand to {path.parent}",
        )
    os.replace(partial, path)
    return path


def _resume_download(url: str, partial: Path, timeout: float) -> None:
    """Append what is still missing to ``partial``; start over where the server does not serve parts."""
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing; the checksum decides
        raise
    with response, partial.open("ab" if response.status == http.HTTPStatus.PARTIAL_CONTENT else "wb") as file:
        expected = response.headers.get("Content-Length")
        received = 0
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            received += len(chunk)
        if expected is not None and received != int(expected):
            raise http.client.IncompleteRead(b"", int(expected) - received)


def compute_checksum(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    if folder := os.environ.get("NEQUIP_LIKE_CACHE"):
        return path_of(folder)
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
