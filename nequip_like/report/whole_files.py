"""Files that are either whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nequip_like.errors import DataError


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give another name to write to, then rename: a reader never sees a part of the file.

    Args:
        path: Where the file shall be; its folder is made.

    Raises:
        DataError: If the file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}", "check the folder and its space") from error
    finally:
        with suppress(OSError):
            partial.unlink()
