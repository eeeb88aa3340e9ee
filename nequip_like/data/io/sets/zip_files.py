"""Zip files as NumPy and others write them, with what Python passes over in silence: a second one behind the first."""

from __future__ import annotations

import zipfile
from pathlib import Path

from nequip_like.errors import DataError


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip file.

    Raises:
        DataError: If it stands behind something else, as where two were joined.
        zipfile.BadZipFile: If it is none.
    """
    archive = zipfile.ZipFile(path)
    if min((entry.header_offset for entry in archive.infolist()), default=0) > 0:
        archive.close()
        raise DataError(
            f"{path} has something before its begin, as two zip files that were joined", "give each as its own file"
        )
    return archive
