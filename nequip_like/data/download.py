"""Downloads that can be trusted: resumed when interrupted, checked against a checksum, never half there."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from nequip_like.errors import DataError

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
    if path.is_file() and checksum(path) == sha256:
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
        _continue(url, partial, timeout)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:  # ValueError: its headers
        raise DataError(
            f"cannot download {url}: {error}",
            f"try again (what came so far is kept), or fetch it by hand and put it at {path}",
        ) from error
    if (found := checksum(partial)) != sha256:
        partial.unlink()
        raise DataError(
            f"{url} is not the expected file: its SHA-256 is {found}, not {sha256}",
            f"try again; if it stays so, the file has changed at its source: fetch it by hand to {path.parent}",
        )
    os.replace(partial, path)
    return path


def _continue(url: str, partial: Path, timeout: float) -> None:
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


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
